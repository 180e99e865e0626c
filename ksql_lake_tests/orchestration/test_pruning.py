"""Keeping DAGSTER_HOME small changes nothing of what Dagster says of assets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ksql_lake.orchestration import stored_history
from ksql_lake.orchestration.run_history import Ours, Pruned, prune
from ksql_lake_tests.orchestration.instances import picture, postgres_instance, sqlite_instance
from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text

STORES = {"sqlite": sqlite_instance, "postgres": postgres_instance}
FEEDS = ("payments", "refunds", "totals")
KEY = dg.AssetKey(["payments"])
CHECKS = frozenset(
    {"min_records", "not_null", "unique", "day_boundaries", "volume", "certificate", "topic_retention"}
    | {"shrinkage", "schema_unchanged", "files_match", "freshness"}
)


@pytest.fixture(params=STORES)
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with storage that stays."""
    with STORES[request.param](tmp_path / "home") as made:
        yield made


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as it is without configuration."""
    with sqlite_instance(tmp_path / "home") as made:
        yield made


def _ours(*tickers: str) -> Ours:
    keys = frozenset(dg.AssetKey([name]) for name in FEEDS)
    return Ours(keys, frozenset({"streams", "retention"}), frozenset(tickers), CHECKS)


def _prune(instance: dg.DagsterInstance, *, limit: int = 5000, days: float = 0, tickers: str = "") -> Pruned:
    before = datetime.now(UTC) - timedelta(days=days) + timedelta(seconds=1 if not days else 0)
    return prune(instance, _ours(tickers), runs_before=before, ticks_before=before, limit=limit)


def _runs(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def _checks(project: Project) -> list[dg.AssetCheckKey]:
    graph = project.definitions().resolve_asset_graph()
    return sorted(graph.asset_check_keys, key=str)


def _history(project: Project, instance: dg.DagsterInstance) -> None:
    """Days read again and again, versions, a range of days, and runs that failed."""
    for days in ((DAYS[0], DAYS[1]), (DAYS[0], DAYS[0]), (DAYS[0], DAYS[0]), (DAYS[2], DAYS[4])):
        result = project.materialize(instance, "payments", days=days)
        assert result.success, failure_text(result)
    project.write_feed(
        "refunds", kind="stream", source="REFUNDS", start_date=str(datetime.now(UTC).date() - timedelta(days=1))
    )
    for name in ("refunds", "refunds", "totals", "totals"):
        assert project.materialize(instance, name).success
    assert not project.materialize(instance, "totals", partition="v1").success


def _thrice(project: Project, instance: dg.DagsterInstance) -> None:
    """One day, read three times: the first two runs hold nothing that is newest."""
    for _ in range(3):
        assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[0])).success


def test_what_dagster_says_of_assets_stays_the_same(project: Project, instance: dg.DagsterInstance) -> None:
    """Partitions, newest events and their metadata, check states, versions are as before, with fewer runs."""
    _history(project, instance)
    checks, runs = _checks(project), _runs(instance)
    before = picture(instance, checks)

    done = _prune(instance)

    assert picture(instance, checks) == before
    left = _runs(instance)
    assert left < runs
    assert done.deleted == len(runs) - len(left)
    assert done.thinned == len(left)
    assert done.events > 0
    assert done.checks > 0
    again = _prune(instance)
    assert (again.deleted, again.thinned, again.events, again.checks) == (0, 0, 0, 0)
    assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[0])).success
    assert _prune(instance).deleted


def test_runs_of_a_backfill_under_way_stay(project: Project, on_sqlite: dg.DagsterInstance) -> None:
    """Dagster counts by them how far the backfill is; once it has ended they go like others."""
    _thrice(project, on_sqlite)
    on_sqlite.add_backfill(_backfill(BulkActionStatus.REQUESTED))
    for run in on_sqlite.get_runs():
        on_sqlite.add_run_tags(run.run_id, {"dagster/backfill": "filling"})
    before = _runs(on_sqlite)

    assert (_prune(on_sqlite).deleted, _runs(on_sqlite)) == (0, before)
    on_sqlite.update_backfill(_backfill(BulkActionStatus.COMPLETED_SUCCESS))
    assert _prune(on_sqlite).deleted == 2


def _backfill(status: BulkActionStatus) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id="filling",
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=datetime.now(UTC).timestamp(),
        asset_selection=[KEY],
    )


def test_runs_that_have_not_ended_are_never_touched(project: Project, instance: dg.DagsterInstance) -> None:
    """A waiting, a starting and a running one stay as they are, however old, and those of others too."""
    _thrice(project, instance)
    job = project.definitions().resolve_implicit_global_asset_job_def()
    origin = RemoteJobOrigin(_repository(), job.name)
    alive = [
        instance.create_run_for_job(
            job, asset_selection=frozenset({KEY}), status=status, remote_job_origin=origin
        )
        for status in (
            dg.DagsterRunStatus.QUEUED,
            dg.DagsterRunStatus.NOT_STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.CANCELING,
        )
    ]
    others = [
        instance.add_run(
            dg.DagsterRun(job_name=name, asset_selection=selected, status=dg.DagsterRunStatus.SUCCESS)
        )
        for name, selected in (
            ("__ASSET_JOB", frozenset({KEY, dg.AssetKey(["theirs"])})),
            # Twice, because the newest run of each job stays.
            ("mine", frozenset({KEY})),
            ("mine", frozenset({KEY})),
            ("streams", None),
        )
    ]

    _prune(instance)

    left = {run.run_id: run.status for run in instance.get_runs()}
    for run in (*alive, *others):
        assert left[run.run_id] is run.status


def test_results_of_other_checks_stay(project: Project, instance: dg.DagsterInstance) -> None:
    """A project's own check of our asset keeps its history, and its runs the events of their page."""

    @dg.asset_check(asset="payments")
    def mine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    alone = dg.define_asset_job("mine", selection=dg.AssetSelection.checks(mine))
    defs = dg.Definitions.merge(project.definitions(), dg.Definitions(asset_checks=[mine], jobs=[alone]))
    runs = [defs.resolve_job_def("mine").execute_in_process(instance=instance).run_id for _ in range(3)]
    pages = {run: len(instance.all_logs(run)) for run in runs}
    _thrice(project, instance)

    assert _prune(instance).checks > 0

    key = dg.AssetCheckKey(KEY, "mine")
    assert len(instance.event_log_storage.get_asset_check_execution_history(key, limit=10)) == 3
    assert {run: len(instance.all_logs(run)) for run in runs} == pages


def test_runs_with_a_feed_that_was_removed_go_too(on_sqlite: dg.DagsterInstance) -> None:
    """They are of one of our jobs; else every removed feed would leave the runs of all beside it."""
    for _ in range(2):
        on_sqlite.add_run(
            dg.DagsterRun(
                job_name="streams",
                asset_selection=frozenset({KEY, dg.AssetKey(["removed"])}),
                status=dg.DagsterRunStatus.SUCCESS,
                tags={"ksql_lake/work": "streams"},
            )
        )

    assert _prune(on_sqlite).deleted == 1


def test_what_is_young_stays(project: Project, on_sqlite: dg.DagsterInstance) -> None:
    """Runs, logs and events of the days that are kept are all there."""
    _thrice(project, on_sqlite)
    runs = {run: len(on_sqlite.all_logs(run)) for run in _runs(on_sqlite)}

    done = _prune(on_sqlite, days=1)

    assert (done.deleted, done.thinned, done.events, done.checks) == (0, 0, 0, 0)
    assert {run: len(on_sqlite.all_logs(run)) for run in _runs(on_sqlite)} == runs


def test_a_limit_takes_the_oldest_first(project: Project, on_sqlite: dg.DagsterInstance) -> None:
    """A first run over years ends, says what is left, and the next one goes on."""
    _thrice(project, on_sqlite)
    oldest = [run.run_id for run in reversed(list(on_sqlite.get_runs()))]

    first = _prune(on_sqlite, limit=1)

    assert first.deleted == 1
    assert first.left > 0
    assert "run prune again" in first.says
    gone = [run for run in oldest if run not in _runs(on_sqlite)]
    held = stored_history.StoredHistory(on_sqlite).holders()
    assert gone == [run for run in oldest if run not in held][:1]
    assert _prune(on_sqlite).deleted == first.left


def test_sqlite_files_go_with_their_runs(project: Project, tmp_path: Path) -> None:
    """A run that goes takes its database along; one that stays has a small one that holds its outcome."""
    with sqlite_instance(tmp_path / "home") as instance:
        _thrice(project, instance)
        folder = tmp_path / "home" / "history" / "runs"
        lost = next(iter(_runs(instance) - stored_history.StoredHistory(instance).holders()))
        instance.delete_run(lost)
        assert (folder / f"{lost}.db").exists()

        _prune(instance)

        left = _runs(instance)
        assert {file.stem for file in folder.glob("*.db")} - {"index", ".db"} == left
        assert max((folder / f"{run}.db").stat().st_size for run in left) < 70_000
        for run in instance.get_runs():
            told = [entry.dagster_event_type for entry in instance.all_logs(run.run_id)]
            assert told[0] is dg.DagsterEventType.RUN_START
            assert told[-1] in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
        assert not list((tmp_path / "home" / "storage").glob("*/compute_logs/*"))
        assert stored_history.StoredHistory(instance).tags_of_lost_runs() == 0


def test_a_file_that_is_mostly_empty_becomes_smaller(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite gives free room back to the disk; what is there is the same."""
    monkeypatch.setattr(stored_history, "_FREE_BYTES", 1)
    with sqlite_instance(tmp_path / "home") as instance:
        _thrice(project, instance)
        for _ in range(60):
            instance.report_runless_asset_event(
                dg.AssetMaterialization("payments", partition=DAYS[0], metadata={"text": "x" * 20_000})
            )
        instance.report_runless_asset_event(dg.AssetMaterialization("payments", partition=DAYS[0]))
        before = picture(instance, _checks(project))

        done = _prune(instance)

        assert any(note.startswith("index.db is ") for note in done.notes), done.notes
        assert picture(instance, _checks(project)) == before


def test_ticks_go_but_for_the_newest(on_sqlite: dg.DagsterInstance) -> None:
    """A schedule goes on from its newest tick, so that one stays however old; ticks of others stay all."""
    old = datetime.now(UTC) - timedelta(days=30)
    for name in ("streams", "theirs"):
        origin = _origin(name)
        on_sqlite.add_instigator_state(
            InstigatorState(
                origin, InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, ScheduleInstigatorData("0 * * * *")
            )
        )
        for minute in range(3):
            at = (old + timedelta(minutes=minute)).timestamp()
            on_sqlite.create_tick(
                TickData(
                    origin.get_id(),
                    name,
                    InstigatorType.SCHEDULE,
                    TickStatus.SKIPPED,
                    at,
                    selector_id=origin.get_selector().get_id(),
                )
            )

    _prune(on_sqlite, days=1, tickers="streams")

    kept = {
        name: len(on_sqlite.get_ticks(_origin(name).get_id(), _origin(name).get_selector().get_id()))
        for name in ("streams", "theirs")
    }
    assert kept == {"streams": 1, "theirs": 3}


def _repository() -> RemoteRepositoryOrigin:
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="ours"), "ours")
    return RemoteRepositoryOrigin(location, "__repository__")


def _origin(name: str) -> RemoteInstigatorOrigin:
    return RemoteInstigatorOrigin(_repository(), name)

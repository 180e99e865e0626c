"""A user's assets below ours: right rows or a clear error, whatever Dagster knows, never an empty green run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import LakeError
from ksql_lake.export import Days, export_feed
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.orchestration.io_manager import Wanted, load
from ksql_lake.settings import load_settings
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed
from ksql_lake_tests.orchestration.dev_server import REPOSITORY
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project, failure_text
from ksql_lake_tests.orchestration.user_project import EAGER, ENGINES, below, days, user_project

IDS = [9007199254740993 + number for number in range(1, 9)]
"""Of all payments, in order of their days."""

UNREAD = "2025-01-11"
HOMES = ("fresh", "stale", "empty")


@pytest.fixture
def project(exported: Project, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> Project:
    """What was exported, with its settings in the environment."""
    for name, value in exported.environment(server.url).items():
        monkeypatch.setenv(name, value)
    return exported


@pytest.fixture(scope="module")
def exported(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Five days of payments, some of gappy, two versions of totals: exported, but not recorded in Dagster."""
    made = Project(tmp_path_factory.mktemp("below"))
    made.write_feeds()
    for name, start in (("gappy", DAYS[0]), ("late", "2025-01-09")):
        made.write_feed(name, kind="stream", source="PAYMENTS", start_date=start)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment(server.url).items():
            patch.setenv(name, value)
        with KsqlClient(load_settings()) as client:
            for name, first, last in (
                ("payments", DAYS[0], DAYS[-1]),
                ("gappy", DAYS[0], DAYS[1]),
                ("gappy", DAYS[4], DAYS[4]),
                ("late", DAYS[3], DAYS[4]),
            ):
                wanted = Days(*(datetime.fromisoformat(day).date() for day in (first, last)))
                export_feed(made.lake(name).feed, client, Lake(made.folder / "data_lake"), days=wanted)
            for _ in range(2):
                export_feed(made.lake("totals").feed, client, Lake(made.folder / "data_lake"))
    return made


@contextmanager
def home(project: Project, state: str) -> Iterator[dg.DagsterInstance]:
    """An instance that has recorded everything, something, or nothing."""
    with dg.DagsterInstance.ephemeral() as instance:
        if state == "fresh":
            sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")
            sensor(dg.build_sensor_context(instance=instance))
        if state == "stale":
            instance.add_dynamic_partitions("totals_versions", ["v1"])
            for name, partition in (("payments", DAYS[0]), ("totals", "v1")):
                instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=partition))
        yield instance


def _run(
    instance: dg.DagsterInstance,
    *assets: dg.AssetsDefinition | str,
    partition: str | None = None,
    span: tuple[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run assets of the user's: those named, or those given, which join the project."""
    own = [asset for asset in assets if isinstance(asset, dg.AssetsDefinition)]
    defs = dg.Definitions.merge(user_project(), dg.Definitions(assets=own))
    tags = (
        {}
        if span is None
        else dict(
            zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), span, strict=True)
        )
    )
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[
            asset.key if isinstance(asset, dg.AssetsDefinition) else dg.AssetKey(asset) for asset in assets
        ],
        instance=instance,
        partition_key=partition,
        tags=tags,
        raise_on_error=False,
    )


def _metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    return {
        key: value.value
        for event in result.asset_materializations_for_node(asset)
        for key, value in event.metadata.items()
    }


@pytest.mark.parametrize("state", HOMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gets_its_rows_in_every_home(project: Project, engine: str, state: str) -> None:
    """A day, everything, and the newest version of a table, exact to the last digit; a day without rows too."""
    with home(project, state) as instance:
        day = _run(instance, f"day_{engine}", partition=DAYS[1])
        empty = _run(instance, f"day_{engine}", partition=DAYS[2])
        rest = _run(instance, f"all_{engine}", f"table_{engine}")

    for result in (day, empty, rest):
        assert result.success, failure_text(result)
    assert day.output_for_node(f"day_{engine}") == IDS[3:5]
    assert empty.output_for_node(f"day_{engine}") == []
    assert rest.output_for_node(f"all_{engine}") == IDS
    assert rest.output_for_node(f"table_{engine}") == ["v2"] * 4
    assert _metadata(rest, f"table_{engine}")["totals/version"] == "v2"


@pytest.mark.parametrize("state", HOMES)
def test_a_range_gets_every_day_of_it(project: Project, state: str) -> None:
    """One run over five days loads five days, whatever Dagster knows of them."""
    spans = below(
        "spans", reads="payments", column="ID", as_=pa.Table, partitions_def=days(),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    with home(project, state) as instance:
        result = _run(instance, spans, span=(DAYS[0], DAYS[-1]))

    assert result.success, failure_text(result)
    assert result.output_for_node("spans") == IDS


@pytest.mark.parametrize("state", HOMES)
def test_a_day_may_read_a_stream_and_a_table(project: Project, state: str) -> None:
    """With LastPartitionMapping the table is the newest version of the lake, not of the instance."""
    with home(project, state) as instance:
        result = _run(instance, "day_and_totals", partition=DAYS[1])

    assert result.success, failure_text(result)
    assert result.output_for_node("day_and_totals") == [2, 4]
    assert _metadata(result, "day_and_totals")["totals/version"] == "v2"


def test_a_day_below_a_table_needs_a_mapping(project: Project) -> None:
    """Dagster itself refuses to take a day for a version."""
    unmapped = below("unmapped", reads="totals", column="version", partitions_def=days())
    with home(project, "fresh") as instance:
        result = _run(instance, unmapped, partition=DAYS[1])

    assert not result.success
    (failed,) = result.get_step_failure_events()
    assert "depends on invalid partitions" in str(failed.step_failure_data.error)
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="mapping from unmapped to totals"):
        dg.Definitions.validate_loadable(
            dg.Definitions.merge(user_project(), dg.Definitions(assets=[unmapped]))
        )


def test_the_tables_own_partitions_load(project: Project) -> None:
    """An asset with a table's versions is one that Dagster accepts in a code location, and eager follows it."""
    versions = dg.DynamicPartitionsDefinition(name="totals_versions")
    each = below("each", reads="totals", column="version", partitions_def=versions, automation_condition=EAGER)
    defs = dg.Definitions.merge(user_project(), dg.Definitions(assets=[each]))
    dg.Definitions.validate_loadable(defs)
    with home(project, "fresh") as instance:
        chosen = dg.AssetSelection.assets("each")
        first = dg.evaluate_automation_conditions(defs, instance, asset_selection=chosen)
        instance.report_runless_asset_event(dg.AssetMaterialization("totals", partition="v2"))
        second = dg.evaluate_automation_conditions(defs, instance, asset_selection=chosen, cursor=first.cursor)

    assert second.get_requested_partitions(dg.AssetKey("each")) == {"v2"}


def test_all_days_by_a_mapping_are_all_of_them(project: Project) -> None:
    """AllPartitionMapping asks for every day, so one that was not read is an error, unless that is allowed."""
    asked: dict[str, Any] = {"reads": "gappy", "column": "ID", "mapping": dg.AllPartitionMapping()}
    allowed: dict[str, Any] = {"metadata": {"allow_missing_partitions": True}}
    with home(project, "empty") as instance:
        daily = _run(instance, below("daily", partitions_def=days(), **asked), partition=DAYS[0])
        whole = _run(instance, below("whole", **asked))
        some = _run(instance, below("some", **asked, **allowed))

    for result in (daily, whole):
        assert "2025-01-08 to 2025-01-09, 2025-01-11 to" in failure_text(result)
    assert some.output_for_node("some") == IDS[:5] + IDS[6:]


@pytest.mark.filterwarnings("ignore:Parameter `allow_nonexistent_upstream_partitions`")
def test_weeks_that_begin_before_our_days_may_say_so(project: Project) -> None:
    """A week takes its seven days; Dagster's own mapping leaves out those before the first one."""
    weeks = dg.WeeklyPartitionsDefinition("2025-01-05", timezone="UTC")
    lenient = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    allowed = {"allow_missing_partitions": True}
    first = below(
        "first", reads="payments", column="ID", partitions_def=weeks, mapping=lenient, metadata=allowed
    )
    strict = below("strict", reads="payments", column="ID", partitions_def=weeks, mapping=lenient)
    with home(project, "empty") as instance:
        taken, refused = (_run(instance, asset, partition="2025-01-05") for asset in (first, strict))

    assert taken.output_for_node("first") == IDS
    assert "2025-01-11 was never read" in failure_text(refused)


def test_a_mapping_past_the_last_day_is_no_empty_day(project: Project) -> None:
    """Dagster leaves out days that are no partition yet; where none is left the step fails, unless allowed."""
    yesterday = str((datetime.now(UTC) - timedelta(days=1)).date())
    asked: dict[str, Any] = {
        "reads": "payments", "column": "ID", "partitions_def": days(),
        "mapping": dg.TimeWindowPartitionMapping(start_offset=1, end_offset=1),
    }  # fmt: skip
    ahead, lenient = (
        below("ahead", **asked),
        below("lenient", **asked, metadata={"allow_missing_partitions": True}),
    )
    with home(project, "empty") as instance:
        refused, taken = (_run(instance, ahead, partition=day) for day in (yesterday, DAYS[0]))
        allowed = _run(instance, lenient, partition=yesterday)

    assert allowed.output_for_node("lenient") == []
    assert "feed payments: the partition mapping names no day that has ended" in failure_text(refused)
    assert taken.output_for_node("ahead") == IDS[3:5]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("way", ["archive", "disable", "break"])
def test_days_stay_when_the_earliest_feed_goes(tmp_path: Path, way: str) -> None:
    """The days of the others are those of before, so that what is below them still runs for each."""
    made = Project(tmp_path)
    for name, start in (("payments", DAYS[0]), ("late", "2025-01-09")):
        made.write_feed(name, kind="stream", source="PAYMENTS", start_date=start)
    file = tmp_path / "feeds" / "active" / "payments.json"
    store = FeedStore(tmp_path / "feeds")
    if way == "break":
        file.write_text(file.read_text().replace('"source"', '"sourec"'))
    else:
        {"archive": store.archive, "disable": store.disable}[way]("payments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSQL_LAKE_FEEDS", str(tmp_path / "feeds"))
        graph = made.definitions().get_repository_def().asset_graph
    kept = graph.get(dg.AssetKey("late")).partitions_def

    assert kept is not None
    assert kept.get_first_partition_key() == DAYS[0]


@pytest.mark.parametrize("state", HOMES)
def test_a_day_that_was_never_read_is_an_error(project: Project, state: str) -> None:
    """Alone or in a range it is named, with the command that fills it, and nothing is materialised."""
    spans = below(
        "spans", reads="payments", column="ID", partitions_def=days(),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    with home(project, state) as instance:
        one = _run(instance, "day_pandas", partition=UNREAD)
        some = _run(instance, spans, span=(DAYS[3], "2025-01-12"))
        known = instance.get_materialized_partitions(dg.AssetKey("day_pandas"))

    assert "feed payments: 2025-01-11 was never read, so the rows are unknown" in failure_text(one)
    assert "Run: ksql-lake export --stream payments --date 2025-01-11\n" in failure_text(one)
    assert "2025-01-11 to 2025-01-12 were never read" in failure_text(some)
    assert "--from 2025-01-11 --to 2025-01-12" in failure_text(some)
    assert "allow_missing_partitions=True" in failure_text(some)
    assert known == set()


def test_a_gap_may_be_allowed(project: Project) -> None:
    """Dagster's own key of the input's metadata leaves the day out, and the log and the metadata say so."""
    spans = below(
        "spans", reads="gappy", column="ID", partitions_def=days(),
        backfill_policy=dg.BackfillPolicy.single_run(), metadata={"allow_missing_partitions": True},
    )  # fmt: skip
    with home(project, "empty") as instance:
        result = _run(instance, spans, span=(DAYS[0], DAYS[-1]))
        logged = "\n".join(event.message for event in instance.all_logs(result.run_id) if event.message)

    assert result.output_for_node("spans") == IDS[:5] + IDS[6:]
    assert _metadata(result, "spans")["gappy/missing_days"] == "2: 2025-01-08 to 2025-01-09"
    assert "gappy: 2025-01-08 to 2025-01-09 were left out" in logged
    assert "ksql-lake export --stream gappy --from 2025-01-08 --to 2025-01-09" in logged


def test_everything_is_what_was_read_unless_all_is_wanted(project: Project) -> None:
    """Without partitions an asset gets all days in the lake and a list of others; on request none may lack."""
    strict = below("strict", reads="gappy", column="ID", metadata={"allow_missing_partitions": False})
    lenient = below("lenient", reads="gappy", column="ID")
    with home(project, "empty") as instance:
        result, refused = _run(instance, lenient), _run(instance, strict)

    assert result.output_for_node("lenient") == IDS[:5] + IDS[6:]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    missing = _metadata(result, "lenient")["gappy/missing_days"]
    assert missing.endswith(f": 2025-01-08 to 2025-01-09, 2025-01-11 to {yesterday}")
    assert not refused.success
    assert "2025-01-08 to 2025-01-09, 2025-01-11 to" in failure_text(refused)


def test_days_before_a_feeds_start_are_not_missing(project: Project) -> None:
    """Where other feeds begin earlier, the days before are empty, and are not reported missing."""
    early = below(
        "early", reads="late", column="ID", partitions_def=days(),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    with home(project, "fresh") as instance:
        result = _run(instance, early, span=(DAYS[0], DAYS[-1]))
        known = instance.get_materialized_partitions(dg.AssetKey("late"))

    assert result.success, failure_text(result)
    assert result.output_for_node("early") == IDS[5:]
    assert known == set(DAYS)


def test_versions_are_taken_by_name(project: Project) -> None:
    """A mapping, or the table's own partitions, name versions; several are all loaded, and none is guessed."""
    versions = dg.DynamicPartitionsDefinition(name="totals_versions")
    named = below(
        "named", reads="totals", column="version", mapping=dg.SpecificPartitionsPartitionMapping(["v1"])
    )
    each = below(
        "each", reads="totals", column="version", partitions_def=versions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )  # fmt: skip
    gone = below(
        "gone", reads="totals", column="version", mapping=dg.SpecificPartitionsPartitionMapping(["v7"])
    )
    with home(project, "fresh") as instance:
        one, both = _run(instance, named), _run(instance, each, span=("v1", "v2"))
        refused = _run(instance, gone)

    assert one.output_for_node("named") == ["v1"] * 4
    assert both.output_for_node("each") == ["v1"] * 4 + ["v2"] * 4
    assert "v7 is not in the lake; it holds v1, v2" in failure_text(refused)


def test_a_mistaken_key_is_refused(project: Project) -> None:
    """What is neither true nor false decides nothing."""
    odd = below("odd", reads="payments", column="ID", metadata={"allow_open": "yes"})
    with home(project, "empty") as instance:
        result = _run(instance, odd)

    assert "the input's metadata allow_open is 'yes'" in failure_text(result)


def test_an_open_day_is_no_day_until_it_is_allowed(
    server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that was read before it had ended is refused if it is named, and otherwise reported."""
    made = Project(tmp_path)
    made.write_feeds()
    for name, value in made.environment(server.url).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        assert made.materialize(instance, "payments").success
        today = max(made.lake("payments").state().looked)
        lake = made.lake("payments")
        # The running day is no partition; named it is as soon as midnight made it one, before the next export.
        with pytest.raises(LakeError) as refused:
            load(lake, pa.Table, Wanted.of([DAYS[0], today], {}))
        left_out = load(lake, pa.Table, Wanted.of([DAYS[0], today], {"allow_missing_partitions": True}))
        taken = load(lake, pa.Table, Wanted.of([DAYS[0], today], {"allow_open": True}))
        everything = _run(instance, "all_pandas")

    assert f"{today} was read before the day had ended, so rows may be missing" in str(refused.value)
    assert f"--date {today}" in str(refused.value)
    assert [day.isoformat() for day in left_out.missing] == [today]
    assert [day.isoformat() for day in taken.unfinished] == [today]
    assert taken.value.num_rows == left_out.value.num_rows == 3
    assert everything.output_for_node("all_pandas") == IDS


WEST, EAST = "Etc/GMT+12", "Pacific/Kiritimati"
"""When a day ends in the west, the next one ends in the east."""


def test_an_edited_time_zone_closes_no_day(tmp_path: Path) -> None:
    """A day is open or closed by the time zone in which the lake has its days, whatever the feed file says."""
    lake, day = Lake(tmp_path), "2025-01-17"
    noon = event(12 * 3600, day=2)
    west = {"origin": Origin(topic="events"), "read_at": "2025-01-18T00:00:00.000+00:00"}
    land_rows(lake, stream_feed(timezone=WEST), [noon], **west)  # type: ignore[arg-type]
    edited = lake.feed(stream_feed(timezone=EAST))

    with pytest.raises(LakeError, match=f"{day} was read before the day had ended"):
        load(edited, pa.Table, Wanted.of([day], {}))
    taken = load(edited, pa.Table, Wanted.of([day], {"allow_open": True}))
    assert (taken.value.num_rows, [str(each) for each in taken.unfinished]) == (1, [day])


def test_an_open_day_before_a_later_start_is_no_empty_day(tmp_path: Path) -> None:
    """Where a feed's start was moved past a day with rows that is open, the day is refused all the same."""
    lake, day = Lake(tmp_path), "2025-01-17"
    land_rows(lake, stream_feed(), [event(1), event(2, day=2)], read_at="2025-01-17T12:00:00.000+00:00")
    moved = lake.feed(stream_feed(start_date="2025-02-01"))

    for wanted in (Wanted.of(["2025-01-16", day], {}), Wanted.of([day], {"allow_missing_partitions": False})):
        with pytest.raises(LakeError, match=f"{day} was read before the day had ended"):
            load(moved, pa.Table, wanted)
    left_out = load(moved, pa.Table, Wanted.of([day], {"allow_missing_partitions": True}))
    assert (left_out.value.num_rows, [str(each) for each in left_out.missing]) == (0, [day])
    assert load(moved, pa.Table, Wanted.of(["2025-01-15", "2025-01-16"], {})).value.num_rows == 1


def test_a_run_without_a_partition_reaches_what_is_below(
    server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams, tables, the user's assets and the report: all of them run, on rows of this very run."""
    made = Project(tmp_path)
    made.write_feeds()
    for name, value in made.environment(server.url).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        job = user_project().resolve_job_def("theirs")
        theirs = job.execute_in_process(instance=instance, raise_on_error=False)
        ours = _run(
            instance,
            "payments",
            "refunds",
            "totals",
            "all_arrow",
            "table_arrow",
            "only_after",
            "monitoring_report",
        )

    assert theirs.success, failure_text(theirs)
    assert theirs.output_for_node("all_pandas") == IDS
    assert ours.success, failure_text(ours)
    assert ours.output_for_node("all_arrow") == IDS
    assert ours.output_for_node("table_arrow") == ["v1"] * 4
    assert {"only_after", "_monitoring_report"} <= {event.step_key for event in ours.get_step_success_events()}
    assert sum(ROWS_PER_DAY.values()) == len(IDS)


class Conditions:
    """Evaluates Dagster's own conditions of the user's assets, as the daemon does every half minute."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.defs, self.instance = user_project(), instance
        self.cursor: Any = None
        # The second evaluation is at a tick of the cron, which what is recorded from now on comes after.
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.moment = now - timedelta(minutes=now.minute % 2, seconds=60)

    def asked(self) -> dict[str, list[str]]:
        """Half a minute later: what is asked for, by asset."""
        self.moment += timedelta(seconds=30)
        told = dg.evaluate_automation_conditions(
            self.defs,
            self.instance,
            asset_selection=dg.AssetSelection.assets(*ASKED),
            cursor=self.cursor,
            evaluation_time=self.moment,
        )
        self.cursor = told.cursor
        found = {name: told.get_requested_partitions(dg.AssetKey(name)) for name in ASKED}
        return {name: sorted(map(str, keys)) for name, keys in found.items() if keys}


ASKED = [f"{condition}_{kind}" for condition in ("eager", "cron") for kind in ("day", "all", "table")]


@pytest.fixture
def whole(server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A lake that is complete: every day to now, and a version, exported without Dagster."""
    made = Project(tmp_path)
    made.write_feeds()
    for name, value in made.environment(server.url).items():
        monkeypatch.setenv(name, value)
    with KsqlClient(load_settings()) as client:
        for name in ("payments", "totals"):
            export_feed(made.lake(name).feed, client, Lake(tmp_path / "data_lake"))
    return made


def _tick(project: Project, instance: dg.DagsterInstance, cursor: str | None = None) -> str | None:
    sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    sensor(context)
    return context.cursor


@pytest.mark.parametrize("state", ["stale", "empty"])
def test_conditions_below_fire_in_every_home(whole: Project, state: str) -> None:
    """Eager and on_cron, by day, over all days, below a table: once Dagster has recorded the lake's state."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    with home(whole, state) as instance:
        conditions = Conditions(instance)
        before = conditions.asked() | conditions.asked()
        _tick(whole, instance)
        after = conditions.asked()

    assert before == {}
    assert after == {
        "eager_day": [yesterday],
        "eager_all": ["None"],
        "eager_table": ["None"],
        "cron_day": [yesterday],
        "cron_all": ["None"],
        "cron_table": ["None"],
    }


def test_conditions_below_follow_each_run_without_a_partition(whole: Project) -> None:
    """No day or version stays missing after scheduled runs; a run without new rows starts nothing below."""
    with dg.DagsterInstance.ephemeral() as instance:
        _tick(whole, instance)
        conditions = Conditions(instance)
        conditions.asked()
        assert whole.materialize(instance, "totals").success
        tables = conditions.asked()
        assert whole.materialize(instance, "payments").success
        streams = conditions.asked()
        missing = {
            "payments": user_project()
            .get_repository_def()
            .asset_graph.get(dg.AssetKey("payments"))
            .partitions_def,
        }
        days_known = instance.get_materialized_partitions(dg.AssetKey("payments"))

    assert tables["eager_table"] == ["None"]
    assert streams == {}
    assert missing["payments"] is not None
    assert set(missing["payments"].get_partition_keys()) == days_known


def test_the_sensor_leaves_a_run_the_time_to_record_itself(whole: Project) -> None:
    """A run records what it committed a moment ago; the sensor only records what stays unknown."""
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = _tick(whole, instance)
        with KsqlClient(load_settings()) as client:
            day = Days(datetime.fromisoformat(DAYS[0]).date(), datetime.fromisoformat(DAYS[0]).date())
            export_feed(whole.lake("payments").feed, client, Lake(whole.folder / "data_lake"), days=day)
            export_feed(whole.lake("totals").feed, client, Lake(whole.folder / "data_lake"))
        instance.wipe_assets([dg.AssetKey("payments")])
        cursor = _tick(whole, instance, cursor)
        first = instance.get_materialized_partitions(dg.AssetKey("payments"))
        cursor = _tick(whole, instance, cursor)
        second = instance.get_materialized_partitions(dg.AssetKey("payments"))

    assert first == set()
    assert set(DAYS) <= second


def test_the_example_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code that docs/dagster.md shows loads, as Dagster loads a module, over the sample feeds."""
    page = (REPOSITORY / "docs" / "dagster.md").read_text()
    code = page.partition("## Your own assets below ours")[2].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "page_example.py").write_text(code)
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(REPOSITORY / "feeds"))
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(tmp_path / "data_lake"))

    (found,) = loadable_targets_from_python_module("page_example", str(tmp_path))
    defs = found.target_definition
    assert callable(defs)
    repository = defs().get_repository_def()

    repository.load_all_definitions()
    assert {"everything", "daily"} <= {key.path[-1] for key in repository.asset_graph.materializable_asset_keys}

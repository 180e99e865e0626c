"""The job that brings Dagster's picture back in step with the lake."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ksql_lake.export.facts import ROWS
from ksql_lake.feeds import Feed
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.orchestration.scope import Scope
from ksql_lake.orchestration.sync import sync_feed
from ksql_lake.settings import load_settings
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project, failure_text

PAYMENTS = dg.AssetKey(["payments"])


def _payments(project: Project) -> tuple[Scope, Feed]:
    return Scope(load_settings()), project.lake("payments").feed


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that never heard of the project's exports, which are five days and two versions."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def exported(project: Project) -> Project:
    """A project whose exports were recorded in an instance that is gone."""
    with dg.DagsterInstance.ephemeral() as gone:
        assert project.materialize(gone, "payments", days=(DAYS[0], DAYS[-1])).success
        assert project.materialize(gone, "totals").success
        assert project.materialize(gone, "totals").success
    return project


def _sync(project: Project, instance: dg.DagsterInstance, **config: object) -> None:
    job = project.definitions().get_job_def("sync")
    run_config = {"ops": {"_tell_dagster": {"config": config}}} if config else None
    assert job.execute_in_process(instance=instance, run_config=run_config).success


def _counts(instance: dg.DagsterInstance) -> dict[str | None, object]:
    records = instance.fetch_materializations(PAYMENTS, limit=100).records
    found = [each.asset_materialization for each in reversed(records) if each.asset_materialization]
    return {event.partition: event.metadata[ROWS].value for event in found}


def test_one_run_restores_a_lost_instance(exported: Project, instance: dg.DagsterInstance) -> None:
    """Days with and without rows are materialised again with their counts and columns, versions are offered."""
    _sync(exported, instance)

    assert _counts(instance) == ROWS_PER_DAY
    assert instance.get_materialized_partitions(dg.AssetKey(["totals"])) == {"v1", "v2"}
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]
    newest = instance.get_latest_materialization_event(PAYMENTS)
    assert newest is not None
    assert newest.asset_materialization is not None
    assert newest.asset_materialization.partition == DAYS[-1]
    shown = newest.asset_materialization.metadata["dagster/column_schema"].value
    assert isinstance(shown, dg.TableSchema)
    assert [column.name for column in shown.columns] == ["ROWTIME", "ID", "AMOUNT", "NOTE"]
    assert newest.asset_materialization.metadata["dagster/row_count"].value == sum(ROWS_PER_DAY.values())


def test_a_second_run_records_nothing(exported: Project, instance: dg.DagsterInstance) -> None:
    """What agrees is left alone."""
    _sync(exported, instance)
    before = len(instance.fetch_materializations(PAYMENTS, limit=100).records)

    _sync(exported, instance)

    assert len(instance.fetch_materializations(PAYMENTS, limit=100).records) == before


def test_a_day_that_grew_without_dagster_is_told_again(exported: Project, instance: dg.DagsterInstance) -> None:
    """A materialisation with another row count than the lake's is followed by one that is true."""
    _sync(exported, instance)
    instance.report_runless_asset_event(
        dg.AssetMaterialization(PAYMENTS, partition=DAYS[1], metadata={ROWS: 1})
    )
    instance.report_runless_asset_event(
        dg.AssetMaterialization(PAYMENTS, partition=DAYS[0], metadata={ROWS: "three"})
    )

    told = sync_feed(*_payments(exported), instance, limit=10).said

    assert told == "payments: 5 partitions in the lake, 2 recorded"
    assert _counts(instance) == ROWS_PER_DAY


def test_the_work_of_a_run_is_bounded(exported: Project, instance: dg.DagsterInstance) -> None:
    """The newest partitions come first, the log says how many are left, and the next run goes on."""
    first = sync_feed(*_payments(exported), instance, limit=2).said
    newest = instance.get_materialized_partitions(PAYMENTS)
    _sync(exported, instance, limit=2)
    _sync(exported, instance, limit=2)

    assert first == "payments: 5 partitions in the lake, 2 recorded, 3 older ones left: run sync again"
    assert newest == set(DAYS[-2:])
    assert _counts(instance) == ROWS_PER_DAY


def test_the_page_shows_the_whole_feed_after_an_older_day(
    exported: Project, instance: dg.DagsterInstance
) -> None:
    """Dagster's page takes rows and size from the last materialisation, here that of the first day."""
    for _ in range(3):
        sync_feed(*_payments(exported), instance, limit=2)

    newest = instance.get_latest_materialization_event(PAYMENTS)
    assert newest is not None
    event = newest.asset_materialization
    assert event is not None
    assert event.partition == DAYS[0]
    assert event.metadata[ROWS].value == ROWS_PER_DAY[DAYS[0]]
    assert event.metadata["dagster/row_count"].value == sum(ROWS_PER_DAY.values())
    assert "dagster/size_bytes" in event.metadata


def test_what_only_dagster_remembers_is_named(exported: Project, instance: dg.DagsterInstance) -> None:
    """History is not deleted; the log says which partitions the lake does not hold."""
    instance.report_runless_asset_event(
        dg.AssetMaterialization(PAYMENTS, partition="2025-01-20", metadata={ROWS: 7})
    )

    told = sync_feed(*_payments(exported), instance, limit=10).said

    assert told.endswith("5 recorded; Dagster also has 1 that the lake does not hold: 2025-01-20")


def test_a_broken_lake_stops_only_its_feed(exported: Project, instance: dg.DagsterInstance) -> None:
    """The run fails and names the feed; the other feeds are in step."""
    commits = exported.folder / "data_lake" / "metadata" / "streams" / "payments" / "commits"
    (commits / f"{1:020d}.json").write_text("torn")

    result = (
        exported.definitions().get_job_def("sync").execute_in_process(instance=instance, raise_on_error=False)
    )

    assert not result.success
    assert "feed payments" in failure_text(result)
    assert instance.get_materialized_partitions(dg.AssetKey(["totals"])) == {"v1", "v2"}


def test_a_day_that_is_not_over_is_not_called_materialised(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """The running day was read too, and is left out."""
    with dg.DagsterInstance.ephemeral() as gone:
        assert project.materialize(gone, "payments").success
    today = max(project.lake("payments").state().looked)

    sync_feed(*_payments(project), instance, limit=5000)

    known = instance.get_materialized_partitions(PAYMENTS)
    assert set(DAYS) <= known
    assert today not in known


def _look(project: Project, instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str | None]:
    repository = project.definitions().get_repository_def()
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
    told = repository.get_sensor_def("lake_in_step").evaluate_tick(context)
    return str(told.skip_message), told.cursor


@pytest.mark.parametrize("by", ["job", "sensor"])
def test_a_feed_that_exports_nothing_is_restored_too(
    exported: Project, instance: dg.DagsterInstance, by: str
) -> None:
    """Its rows stay readable, so its days and versions are known; one that never exported offers nothing."""
    active, archived = exported.folder / "feeds" / "active", exported.folder / "feeds" / "archived"
    archived.mkdir()
    shutil.move(active / "totals.json", archived)
    exported.write_feed("payments", kind="stream", source="PAYMENTS", start_date=DAYS[0], enabled=False)
    exported.write_feed("never", kind="table", source="FEWER", enabled=False)

    if by == "job":
        _sync(exported, instance)
    else:
        _look(exported, instance)

    assert _counts(instance) == ROWS_PER_DAY
    assert instance.get_materialized_partitions(dg.AssetKey(["totals"])) == {"v1", "v2"}
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]
    assert instance.get_dynamic_partitions("never_versions") == []


def test_a_restored_lake_is_compared_again(exported: Project, instance: dg.DagsterInstance) -> None:
    """Also if it has as many commits as before; the tick names the days that only Dagster has."""
    lake, backup = exported.folder / "data_lake", exported.folder / "backup"
    shutil.copytree(lake, backup)
    with dg.DagsterInstance.ephemeral() as gone:
        assert exported.materialize(gone, "payments", days=(DAYS[0], "2025-01-20")).success
        _, cursor = _look(exported, instance)
        assert "2025-01-20" in instance.get_materialized_partitions(PAYMENTS)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(PAYMENTS, partition="2025-01-20", metadata={ROWS: 7})
        )
        shutil.rmtree(lake)
        backup.rename(lake)
        assert exported.materialize(gone, "payments", days=("2025-01-11", "2025-01-12")).success

    _, cursor = _look(exported, instance, cursor)
    said, cursor = _look(exported, instance, cursor)
    quiet, _ = _look(exported, instance, cursor)

    assert "Dagster also has 1 that the lake does not hold: 2025-01-20" in said
    assert "does not hold" not in quiet


def test_a_day_that_is_not_closed_is_in_the_lake(project: Project, instance: dg.DagsterInstance) -> None:
    """What was read of a day whose end no export has seen is not called Dagster's alone."""
    with dg.DagsterInstance.ephemeral() as gone:
        assert project.materialize(gone, "payments").success
    today = max(project.lake("payments").state().looked)
    instance.report_runless_asset_event(dg.AssetMaterialization(PAYMENTS, partition=today, metadata={ROWS: 7}))

    assert "does not hold" not in sync_feed(*_payments(project), instance, limit=5000).said


def test_a_day_that_lost_a_file_is_named(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Dagster has the day that doctor forgot: it is named, although the lake holds a part of its rows."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])
    lost = lake.feed(feed).state().files_of("2025-01-15")[0]
    land_rows(lake, feed, [event(1), event(2)])
    scope = Scope(load_settings(lake_root=str(tmp_path)))
    sync_feed(scope, feed, instance, limit=10)
    (tmp_path / "streams" / "events" / lost.path).unlink()
    list(repair(lake.storage, examine(lake.storage, FeedLayout("stream", "events")), apply=True))

    told = sync_feed(scope, feed, instance, limit=10)

    assert told.said.endswith("0 recorded; Dagster also has 1 that no export has read: 2025-01-15")
    assert told.gone == 1


def test_an_edited_time_zone_materialises_no_open_day(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """A day that is open in the lake's own time zone has not ended because the feed file names another."""
    lake, midnight = Lake(tmp_path), "2025-01-18T00:00:00.000+00:00"
    west, east = stream_feed(timezone="Etc/GMT+12"), stream_feed(timezone="Pacific/Kiritimati")
    land_rows(lake, west, [event(12 * 3600, day=2)], origin=Origin(topic="events"), read_at=midnight)

    sync_feed(Scope(load_settings(lake_root=str(tmp_path))), east, instance, limit=10)

    known = instance.get_materialized_partitions(dg.AssetKey(["events"]))
    assert known == {"2025-01-15", "2025-01-16"}


def test_versions_that_retention_removed_are_no_difference(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Dagster keeps their materialisations; a version that is lost, or newer than the lake, is named."""
    lake, feed, key = Lake(tmp_path), table_feed(retention=2), dg.AssetKey(["users"])
    scope = Scope(load_settings(lake_root=str(tmp_path)))
    for _ in range(4):
        land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
        sync_feed(scope, feed, instance, limit=10)
    lake.feed(feed).apply_retention()

    after = sync_feed(scope, feed, instance, limit=10)
    for odd in ("v5", "x"):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=odd, metadata={ROWS: 7}))
    named = sync_feed(scope, feed, instance, limit=10)

    assert lake.feed(feed).state().partition_keys() == ["v3", "v4"]
    assert instance.get_materialized_partitions(key) == {"v1", "v2", "v3", "v4", "v5", "x"}
    assert (after.said, after.gone) == ("users: 2 partitions in the lake, 0 recorded", 0)
    assert named.said.endswith("; Dagster also has 2 that the lake does not hold: v5, x")


def test_empty_days_of_a_start_that_moved_are_named(project: Project, instance: dg.DagsterInstance) -> None:
    """Days recorded as empty before a feed's start are named when the start is moved before them."""
    _, cursor = _look(project, instance)
    assert {"2025-01-06", "2025-01-08"} <= instance.get_materialized_partitions(dg.AssetKey(["refunds"]))
    project.write_feed("refunds", kind="stream", source="REFUNDS", start_date="2025-01-07")

    _, cursor = _look(project, instance, cursor)
    said, cursor = _look(project, instance, cursor)
    quiet, _ = _look(project, instance, cursor)

    assert "refunds: 0 partitions in the lake, 0 recorded; Dagster also has 2 that no export has read: " in said
    assert "2025-01-07, 2025-01-08" in said
    assert "no export has read" not in quiet

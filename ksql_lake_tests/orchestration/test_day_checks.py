"""Checks per day and version in Dagster: each has a result of its own, and the newest is about all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import dagster as dg
import pytest

from ksql_lake.devserver.door import append
from ksql_lake.export import Days, export_feed
from ksql_lake.export.checks import CheckOutcome
from ksql_lake.export.judging import JudgedCheck, judge_export
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration.asset_checks import AT_MOST, day_evaluations, found_here, summary
from ksql_lake.orchestration.recording import record
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text

KEY = dg.AssetKey(["payments"])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _payments(project: Project, source: str = "PAYMENTS", **checks: object) -> None:
    project.write_feed("payments", kind="stream", source=source, start_date="2025-01-06", checks=checks)


def _check(name: str, key: dg.AssetKey = KEY) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(key, name)


def _newest(instance: dg.DagsterInstance, name: str, key: dg.AssetKey = KEY) -> dg.AssetCheckEvaluation:
    """What the UI shows of a check, and takes for the health of its asset."""
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([_check(name, key)])
    evaluation = found[_check(name, key)].evaluation
    assert evaluation is not None
    return evaluation


def _by_day(instance: dg.DagsterInstance, name: str, key: dg.AssetKey = KEY) -> dict[str, bool]:
    infos = instance.event_log_storage.get_asset_check_partition_info([_check(name, key)])
    return {
        info.partition_key: info.latest_execution_status.value == "SUCCEEDED"
        for info in infos
        if info.partition_key is not None
    }


def _history(instance: dg.DagsterInstance, name: str, key: dg.AssetKey = KEY) -> list[dg.AssetCheckEvaluation]:
    records = instance.event_log_storage.get_asset_check_execution_history(_check(name, key), limit=1000)
    return [record.evaluation for record in reversed(records) if record.evaluation is not None]


@pytest.fixture
def growing(project: Project) -> Iterator[Callable[[str, int], None]]:
    """A stream of this test alone, the source of `payments`; a call puts rows into a day."""
    url = load_settings().ksqldb_url
    with KsqlClient(load_settings()) as client:
        client.execute(
            "CREATE STREAM GROWING (ID BIGINT) WITH (KAFKA_TOPIC='growing', VALUE_FORMAT='JSON', PARTITIONS=1);"
        )
        _payments(project, "GROWING", min_records=2)

        def add(day: str, number: int) -> None:
            at = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000)
            append(url, "GROWING", [{"ROWTIME": at + number, "ID": number}])

        yield add
        client.execute("DROP STREAM GROWING;")


def test_a_failed_day_stays_failed_while_later_days_pass(
    project: Project, instance: dg.DagsterInstance, growing: Callable[[str, int], None]
) -> None:
    """The check fails and names the day until that day is read again and passes, whatever other runs find."""
    for day, number in ((DAYS[0], 1), (DAYS[1], 2), (DAYS[1], 3), (DAYS[3], 4), (DAYS[3], 5)):
        growing(day, number)
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[1]))
    failed = _newest(instance, "min_records")
    later = project.materialize(instance, "payments", partition=DAYS[3])

    assert (failed.passed, failed.partition, found_here(failed)) == (False, None, True)
    assert later.success, failure_text(later)
    assert _by_day(instance, "min_records") == {DAYS[0]: False, DAYS[1]: True, DAYS[3]: True}
    newest = _newest(instance, "min_records")
    assert (newest.passed, newest.partition, found_here(newest)) == (False, None, False)
    assert newest.metadata["failing_partitions"].value == 1
    assert str(newest.description).endswith(f"until they are read again and pass: {DAYS[0]}")

    growing(DAYS[0], 6)
    project.materialize(instance, "payments", partition=DAYS[0])
    assert _newest(instance, "min_records").passed
    assert _by_day(instance, "min_records")[DAYS[0]]


def test_numbers_are_there_to_be_plotted(project: Project, instance: dg.DagsterInstance) -> None:
    """The result of each day has the numbers it was judged by."""
    _payments(project, min_records=1, not_null=["NOTE"], unique=["ID"])
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    told = {
        (each.check_name, each.partition): {key: value.value for key, value in each.metadata.items()}
        for name in ("not_null", "unique", "day_boundaries", "min_records", "certificate")
        for each in _history(instance, name)
        if each.partition is not None
    }

    assert told["not_null", DAYS[0]] == {"rows": 3, "null_rows": 2}
    assert told["unique", DAYS[0]] == {"rows": 3, "repeated_rows": 0}
    assert told["day_boundaries", DAYS[4]] == {"rows": 2, "stray_rows": 0}
    assert told["min_records", DAYS[2]] == {"records": 0}
    assert told["certificate", DAYS[1]] == {"records": 2, "certified_records": 2}
    assert {day for name, day in told if name == "not_null"} == set(DAYS)


def test_what_blocks_stops_its_own_days_only(project: Project, instance: dg.DagsterInstance) -> None:
    """A day that a check blocks fails its run; a run of other days succeeds, and the check still shows red."""
    _payments(project, not_null=["NOTE"], severity={"not_null": "block"})

    blocked = project.materialize(instance, "payments", "monitoring_report", partition=DAYS[0])
    shown = _newest(instance, "not_null")
    other = project.materialize(instance, "payments", "monitoring_report", partition=DAYS[3])

    assert not blocked.success
    assert (shown.passed, shown.partition) == (False, None)
    assert other.success, failure_text(other)
    newest = _newest(instance, "not_null")
    assert (newest.passed, newest.severity) == (False, dg.AssetCheckSeverity.ERROR)


def test_an_export_from_the_shell_records_its_days(project: Project) -> None:
    """Without a run it is the same: each day, then the one for all, and another day's failure stays."""
    _payments(project, not_null=["NOTE"])
    feed = FeedStore(project.folder / "feeds").load().get("payments")
    lake = Lake(project.folder / "data_lake")
    for day in (DAYS[0], DAYS[3]):
        with KsqlClient(load_settings()) as client:
            result = export_feed(
                feed, client, lake, days=Days(date.fromisoformat(day), date.fromisoformat(day))
            )
        checks = judge_export(result, lake.feed(feed))
        record([result], settings=load_settings(), checks={"payments": checks})

    with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
        assert _by_day(instance, "not_null") == {DAYS[0]: False, DAYS[3]: True}
        newest = _newest(instance, "not_null")
        assert (newest.passed, newest.partition) == (False, None)
        assert DAYS[0] in str(newest.description)
        assert instance.get_materialized_partitions(KEY) == {DAYS[0], DAYS[3]}


def test_results_are_of_the_newest_materialization(project: Project, instance: dg.DagsterInstance) -> None:
    """The UI shows every check as evaluated, also if Dagster recorded rows and results in the same second."""
    _payments(project, min_records=1)

    assert project.materialize(instance, "payments", partition=DAYS[0]).success

    (newest,) = instance.fetch_materializations(KEY, limit=1).records
    names = ("min_records", "day_boundaries", "volume", "certificate", "schema_unchanged", "files_match")
    targets = [_newest(instance, name).target_materialization_data for name in names]
    assert [target and (target.storage_id, target.run_id) for target in targets] == [
        (newest.storage_id, newest.run_id)
    ] * len(names)


def test_versions_have_results_of_their_own(project: Project, instance: dg.DagsterInstance) -> None:
    """A table's check has a result for each version, with the numbers of both."""
    key = dg.AssetKey(["totals"])
    for _ in range(2):
        assert project.materialize(instance, "totals").success

    (told,) = [each for each in _history(instance, "shrinkage", key) if each.partition == "v2"]

    assert {name: value.value for name, value in told.metadata.items()} == {"records": 4, "records_before": 4}
    assert _newest(instance, "shrinkage", key).partition is None


def test_years_at_once_are_bounded() -> None:
    """Of three years some days get a result of their own, failing ones first; the one for all counts all."""
    days = [str(date(2022, 1, 1) + timedelta(days=at)) for at in range(1095)]
    bad = {day: f"{day}: wrong" for day in days[10:20]}
    outcome = CheckOutcome("not_null", False, "many", tuple(days), bad)
    check = JudgedCheck(outcome, "error", {**bad, "2021-01-01": "older"})

    told = list(day_evaluations(check, KEY, set(days)))
    whole = summary(check, "all", KEY)

    assert len(told) == AT_MOST
    assert {each.partition for each in told if not each.passed} == set(bad)
    assert [each.partition for each in told if each.passed] == days[-21:]
    assert whole.metadata["failing_partitions"].value == 11
    assert "2021-01-01" in str(whole.description)
    assert len(str(whole.description)) < 500


def test_a_look_that_found_nothing_is_no_event(project: Project, instance: dg.DagsterInstance) -> None:
    """Days have an event when first read; read again without news they have none, nor a check's result."""
    start = date.today() - timedelta(days=2)  # noqa: DTZ011 - a day more or less is the same
    project.write_feed("refunds", kind="stream", source="REFUNDS", start_date=str(start), lookback_days=2)
    key = dg.AssetKey(["refunds"])

    first = project.materialize(instance, "refunds")
    before = len(_history(instance, "day_boundaries", key))
    second = project.materialize(instance, "refunds")

    assert first.success, failure_text(first)
    assert second.success, failure_text(second)
    assert _days(first) > 0
    assert _days(second) == 0
    assert len(_history(instance, "day_boundaries", key)) == before + 1
    assert len(instance.get_materialized_partitions(key)) >= 1


def _days(result: dg.ExecuteInProcessResult) -> int:
    kinds = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION")
    return sum(event.event_type_value in kinds and event.partition is not None for event in result.all_events)

"""Checks that ride on a materialisation: what each one finds, and how it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.export.checks import CheckOutcome, check_export
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.report import MetadataAnalyzer, MetadataReader, Status
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import DAYS, Project, checked, failure_text, materialized

CHECKS = {"min_records": 1, "not_null": ["ID"], "unique": ["ID"], "max_age_hours": 36}
STREAM_CHECKS = [
    "min_records",
    "not_null",
    "unique",
    "day_boundaries",
    "volume",
    "certificate",
    "schema_unchanged",
    "files_match",
]
ALWAYS = {"day_boundaries", "volume", "certificate", "schema_unchanged", "files_match"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _payments(project: Project, **keys: object) -> None:
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", **keys)


def _export(project: Project, name: str = "payments") -> ExportResult:
    feed = FeedStore(project.folder / "feeds").load().get(name)
    days = Days(date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[-1])) if feed.kind == "stream" else None
    with KsqlClient(load_settings()) as client:
        return export_feed(feed, client, Lake(project.folder / "data_lake"), days=days)


def _judge(project: Project, result: ExportResult) -> dict[str, CheckOutcome]:
    return {outcome.name: outcome for outcome in check_export(result, project.lake(result.feed.name))}


def _file(project: Project, day: str) -> Path:
    (entry,) = project.lake("payments").state().files_of(day)
    return project.folder / "data_lake" / "streams" / "payments" / entry.path


def test_a_healthy_day_passes_every_check(project: Project, instance: dg.DagsterInstance) -> None:
    """Each check of the feed is evaluated by the run itself, says why it passes and for which partitions."""
    _payments(project, checks=CHECKS)

    result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[1]))

    found = checked(result, "payments")
    assert list(found) == [*STREAM_CHECKS, "freshness"]
    assert all(each.passed for each in found.values())
    assert found["not_null"].description == "No NULL among 5 rows."
    assert found["volume"].description is not None
    assert found["volume"].description.startswith("Not judged")
    assert found["files_match"].metadata["partitions"].value == f"{DAYS[0]} to {DAYS[1]}"


def test_a_feed_without_checks_has_the_general_ones(project: Project, instance: dg.DagsterInstance) -> None:
    """What needs no threshold is always checked; a table has no days but can shrink."""
    stream = project.materialize(instance, "payments", partition=DAYS[0])
    table = project.materialize(instance, "totals", partition="v1")

    assert set(checked(stream, "payments")) == ALWAYS
    assert set(checked(table, "totals")) == {"shrinkage", "schema_unchanged", "files_match"}


def test_a_failed_check_fails_no_export(project: Project, instance: dg.DagsterInstance) -> None:
    """Too few records warn, NULLs and doubles are errors; the rows have landed all the same."""
    _payments(project, checks={"min_records": 2, "not_null": ["NOTE"], "unique": ["NOTE"]})

    result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    assert result.success, failure_text(result)
    assert len(materialized(result, "payments")) == 5
    found = checked(result, "payments")
    assert {name for name, each in found.items() if not each.passed} == {"min_records", "not_null", "unique"}
    assert found["min_records"].severity is dg.AssetCheckSeverity.WARN
    assert found["min_records"].description == "Fewer than 2 records: 2025-01-08 has 0\n2025-01-09 has 1"
    assert found["not_null"].severity is dg.AssetCheckSeverity.ERROR
    assert str(found["not_null"].description).startswith("2025-01-06: 2 of 3 rows have no NOTE")
    assert found["unique"].description == "2025-01-06: 1 of 3 rows repeat the NOTE of another"


def test_the_report_tells_what_a_run_found(project: Project, instance: dg.DagsterInstance) -> None:
    """What is red in Dagster is red in the report of the same lake, day by day."""
    _payments(project, checks={"not_null": ["NOTE"]})

    found = checked(project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])), "payments")
    feeds = FeedStore(project.folder / "feeds").load()
    report = MetadataAnalyzer(MetadataReader(project.folder / "data_lake"), feeds).generate_report()

    (payments,) = [feed for feed in report.feeds if feed.name == "payments"]
    states = {check.name: check.state != "failed" for check in payments.checks}
    assert states == {name: each.passed for name, each in found.items()}
    assert payments.status is Status.FAILING
    assert [each.partition for each in payments.checks[0].failed] == [DAYS[0], DAYS[1], DAYS[4]]


def test_a_feed_says_how_bad_a_failure_is(project: Project, instance: dg.DagsterInstance) -> None:
    """A check may be left out, only warn, or be an error, whatever its default."""
    severity = {"min_records": "error", "not_null": "warn", "volume": "off"}
    _payments(project, checks={"min_records": 2, "not_null": ["NOTE"], "severity": severity})

    found = checked(project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])), "payments")

    assert set(found) == {"min_records", "not_null", *ALWAYS} - {"volume"}
    assert found["min_records"].severity is dg.AssetCheckSeverity.ERROR
    assert found["not_null"].severity is dg.AssetCheckSeverity.WARN


def test_nothing_builds_on_a_partition_that_a_check_blocks(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """The rows land and the check says why; what is below does not run, and the run fails."""
    _payments(project, checks={"not_null": ["NOTE"], "severity": {"not_null": "block"}})

    blocked = project.materialize(instance, "payments", "monitoring_report", partition=DAYS[0])
    _payments(project, checks={"not_null": ["NOTE"]})
    told = project.materialize(instance, "payments", "monitoring_report", partition=DAYS[0])

    assert not blocked.success
    assert list(materialized(blocked, "payments")) == [DAYS[0]]
    assert materialized(blocked, "monitoring_report") == {}
    assert not checked(blocked, "payments")["not_null"].passed
    assert told.success, failure_text(told)
    assert list(materialized(told, "monitoring_report")) == [None]


def test_a_damaged_lake_blocks_without_being_asked(project: Project, instance: dg.DagsterInstance) -> None:
    """A committed file that is gone stops what is below; a row that is only unusual does not."""
    _payments(project)
    project.materialize(instance, "payments", partition=DAYS[0])
    _file(project, DAYS[0]).unlink()

    result = project.materialize(instance, "payments", partition=DAYS[1])

    assert not result.success
    assert list(materialized(result, "payments")) == [DAYS[1]]
    assert [name for name, each in checked(result, "payments").items() if not each.passed] == ["files_match"]


def test_a_run_without_partitions_is_checked_too(project: Project, instance: dg.DagsterInstance) -> None:
    """What a schedule starts evaluates the same checks; the running day is not called short of records."""
    _payments(project, checks={**CHECKS, "min_records": 0})

    result = project.materialize(instance, "payments")

    assert result.success, failure_text(result)
    found = checked(result, "payments")
    assert {name: each.passed for name, each in found.items()} == dict.fromkeys(
        [*STREAM_CHECKS, "freshness"], True
    )


def test_a_column_that_comes_or_goes_is_told_once(project: Project, instance: dg.DagsterInstance) -> None:
    """The export that met the change warns and names the columns; the next one is calm again."""
    _payments(project, columns=["ID"])
    first = project.materialize(instance, "payments", partition=DAYS[0])
    _payments(project)
    second = project.materialize(instance, "payments", partition=DAYS[1])
    third = project.materialize(instance, "payments", partition=DAYS[0])

    said = [checked(run, "payments")["schema_unchanged"] for run in (first, second, third)]

    assert [each.passed for each in said] == [True, False, True]
    assert said[1].description == "AMOUNT DECIMAL(10, 2) is new\nNOTE STRING is new"


def test_an_unusual_day_is_compared_with_its_weekday(project: Project, instance: dg.DagsterInstance) -> None:
    """A Monday with two rows after five with twenty warns with the figures; the one before it does not."""
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01")
    before = project.materialize(instance, "visits", days=("2025-02-01", "2025-03-03"))
    odd = project.materialize(instance, "visits", days=("2025-03-04", "2025-03-10"))

    calm, warned = checked(before, "visits")["volume"], checked(odd, "visits")["volume"]

    assert calm.passed
    assert str(calm.description).startswith("3 of 31 days judged")
    assert not warned.passed
    assert warned.severity is dg.AssetCheckSeverity.WARN
    assert warned.description == (
        "2025-03-10 has 2 records, 90% fewer than usual: the 5 Mondays before had 19, 20, 20, 21 and 22 "
        "(median 20), so 3 to 37 would be usual"
    )


def test_a_smaller_snapshot_is_noticed(project: Project, instance: dg.DagsterInstance) -> None:
    """A version that lost a quarter of its rows lands, and warns with both counts."""
    made = "CREATE TABLE SHRINKING AS SELECT NOTE, COUNT(*) AS N FROM PAYMENTS {} GROUP BY NOTE;"
    project.write_feed("totals", kind="table", source="SHRINKING")
    with KsqlClient(load_settings()) as client:
        client.execute(made.format(""))
        project.materialize(instance, "totals", partition="v1")
        client.execute("DROP TABLE SHRINKING;")
        client.execute(made.format("WHERE AMOUNT < 8"))

        result = project.materialize(instance, "totals", partition="v2")

        client.execute("DROP TABLE SHRINKING;")

    found = checked(result, "totals")["shrinkage"]
    assert not found.passed
    assert found.description == "v2 has 3 records, v1 has 4."


def test_files_that_changed_on_disk_are_named(project: Project) -> None:
    """A missing and a longer file are both named, with the command that helps."""
    result = _export(project)
    _file(project, DAYS[0]).unlink()
    longer = _file(project, DAYS[1])
    longer.write_bytes(longer.read_bytes() + b"x")

    found = _judge(project, result)["files_match"]

    assert not found.passed
    assert "day=06/" in found.says
    assert "is missing" in found.says
    assert f"has {longer.stat().st_size:,} bytes instead of" in found.says
    assert found.says.endswith("ksql-lake doctor")


def test_rows_in_the_wrong_day_are_counted(project: Project) -> None:
    """A file whose rows belong to the day after is found by its rows, whatever the metadata says."""
    result = _export(project)
    wrong = _file(project, DAYS[3])
    pq.write_table(pq.read_table(_file(project, DAYS[4]), partitioning=None), wrong)

    found = _judge(project, result)["day_boundaries"]

    assert not found.passed
    assert found.says == "2025-01-09: 2 of 2 rows belong to another day"


def test_what_cannot_be_read_fails_the_check_and_nothing_else(project: Project) -> None:
    """A torn file is a finding of the checks that needed it."""
    _payments(project, checks={"not_null": ["ID"]})
    result = _export(project)
    _file(project, DAYS[0]).write_bytes(b"no parquet")

    found = _judge(project, result)

    assert not found["not_null"].passed
    assert found["not_null"].says.startswith("2025-01-06 could not be read")


def test_a_nested_or_missing_column_is_not_called_unique(project: Project) -> None:
    """What cannot be compared is said, never passed over."""
    _payments(project, checks={"unique": ["ID"]})
    result = _export(project)
    path = _file(project, DAYS[3])
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.set_column(1, "ID", pa.array([[1]])), path)
    nested = _judge(project, result)["unique"]
    pq.write_table(rows.drop_columns(["ID"]), path)
    missing = _judge(project, result)["unique"]

    assert nested.says == "2025-01-09: ID is nested, and only plain columns can be compared"
    assert missing.says == "2025-01-09: 1 of 1 rows are without the columns ID"
    assert not nested.passed
    assert not missing.passed


def test_an_export_with_nothing_to_read_passes(project: Project) -> None:
    """No partition, no finding."""
    result = replace(_export(project), partitions=(), commit=None)

    assert all(outcome.passed for outcome in _judge(project, result).values())

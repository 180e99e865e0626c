"""What is said of an export, in words and as facts per partition."""

from __future__ import annotations

from datetime import UTC, date, datetime

from ksql_lake.export import Days, ExportPlan, ExportResult
from ksql_lake.export.facts import ROWS, beginning, partition_facts, summary
from ksql_lake.export.result import PartitionResult
from ksql_lake_tests.lake.landing import stream_feed, table_feed

STARTED = datetime(2025, 2, 1, tzinfo=UTC)


def _days(last: int) -> Days:
    return Days(date(2025, 1, 1), date(2025, 1, last))


def _part(key: str, *, late: int = 0) -> PartitionResult:
    return PartitionResult(
        partition=key,
        read=1000,
        new=400,
        already_there=600,
        late=late,
        records=1000,
        bytes=5000,
        files=(),
        path="/p",
    )


def _result(late: list[int]) -> ExportResult:
    return ExportResult(
        stream_feed(),
        ExportPlan(stream_feed(), days=_days(len(late))),
        STARTED,
        commit=7,
        partitions=tuple(_part(f"2025-01-{day:02d}", late=count) for day, count in enumerate(late, start=1)),
        statement="SELECT 1;",
        seconds=2.0,
        bytes_read=3_000_000,
        held_records=90_000,
        held_bytes=4_000_000,
    )


def test_a_summary_says_what_a_person_asks() -> None:
    """Window, rows read, new, there already and late, how fast, and what the lake shows now."""
    assert summary(_result([0, 0])).splitlines() == [
        "events, 2025-01-01 to 2025-01-02: 2,000 rows read, 800 new, 1,200 already there, 0 late",
        "2.0 s, 1,000 rows/s, 3.0 MB received; commit 7",
        "the lake now shows 90,000 rows, 4.0 MB",
    ]


def test_late_rows_are_told_by_day() -> None:
    """The newest days are named, the others counted."""
    assert summary(_result([3, 0])).splitlines()[-1] == "late rows: 2025-01-01 3"
    assert summary(_result([1] * 8)).splitlines()[-1] == (
        "late rows: 2025-01-04 1, 2025-01-05 1, 2025-01-06 1, 2025-01-07 1, 2025-01-08 1 and 3 days more"
    )


def test_what_will_be_read_is_told_before() -> None:
    """Days or version, why these, and from where; or why nothing is."""
    url = "http://ksqldb:8088"
    plan = ExportPlan(stream_feed(), days=_days(10), reason="as asked")
    version = ExportPlan(table_feed(), version=4, reason="after v3")
    nothing = ExportPlan(stream_feed(), reason="start_date 2025-01-01 is in the future")

    assert (
        beginning(plan, url)
        == "events: reading 2025-01-01 to 2025-01-10 (10 days; as asked) from EVENTS at http://ksqldb:8088"
    )
    assert beginning(version, url) == "users: reading version v4 (after v3) from USERS at http://ksqldb:8088"
    assert beginning(nothing, url) == "events: nothing to read: start_date 2025-01-01 is in the future"
    assert summary(ExportResult(stream_feed(), nothing, STARTED)) == beginning(nothing, url)


def test_numbers_are_what_can_be_plotted() -> None:
    """Counts, sizes and seconds are numbers; what only names something is text."""
    facts = partition_facts(_result([0, 2]), "2025-01-02")

    assert {name for name, value in facts.items() if not isinstance(value, str)} == {
        ROWS,
        "read_rows",
        "new_rows",
        "already_there_rows",
        "late_rows",
        "bytes",
        "export_seconds",
        "dagster/row_count",
        "dagster/size_bytes",
    }
    assert (facts["commit"], facts["query"]) == ("7", "SELECT 1;")

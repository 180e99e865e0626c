"""What a plan says of exports that could be cheaper."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from ksql_lake.export.advice import LONG, advice
from ksql_lake.feeds import Feed, parse_feed
from ksql_lake.lake import FeedState, ReadFacts
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import PartitionState
from ksql_lake.lake.compaction_plan import OPEN_FILES

NOW = datetime(2025, 1, 20, 12, tzinfo=UTC)
CONTINUED = '"extraction": "continue", "positions": {"partition": "P", "offset": "O"}'


def feed(more: str = '"extraction": "pull"') -> Feed:
    """A stream feed with some keys."""
    head = '"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"'
    return parse_feed(f"{{{head}, {more}}}".encode())


def held(**files: list[int]) -> FeedState:
    """A lake with days of January (`d15`), each with files of so many rows."""
    partitions = {}
    for name, sizes in files.items():
        day = f"2025-01-{name[1:]}"
        made = [
            FileEntry(
                path=f"year=2025/month=01/day={name[1:]}/data_20250115_120000_{number:06d}.parquet",
                partition=day,
                staged="",
                records=rows,
                bytes=rows,
                sha256="",
                checksum="",
            )
            for number, rows in enumerate(sizes, 1)
        ]
        partitions[day] = PartitionState(files=tuple(made))
    return FeedState(kind="stream", sequence=100, shapes=((1, "`ID` BIGINT"),), partitions=partitions)


def said(found: Feed, state: FeedState, *days: str) -> list[str]:
    """The advice for an export of some days."""
    return list(advice(found, state, days, now=NOW))


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_a_scan_that_is_mostly_for_nothing_is_told(extraction: str) -> None:
    """Rows scanned and rows wanted stand there, and what helps, in its order."""
    state = held(d05=[LONG], d20=[1000])

    (text,) = said(feed(f'"extraction": "{extraction}"'), state, "2025-01-20")

    assert text == (
        "orders scans its topic at every export, 1,001,000 rows at least if Kafka keeps what the lake holds, "
        "for days of 1,000. What helps, best first: ksql-lake feeds prepare orders --continue; a derived "
        "stream WITH (RETENTION_MS = ...), which loses late rows; fewer columns; fewer exports "
        "(docs/large-topics.md)"
    )


@pytest.mark.parametrize(
    ("keys", "state"),
    [
        ('"enabled": true', held(d05=[LONG - 2000], d20=[1000])),
        ('"enabled": true', held(d05=[LONG], d20=[LONG])),
        ('"topic_retention_hours": 24', held(d05=[LONG], d20=[1000])),
        (CONTINUED, held(d05=[LONG], d20=[1000])),
    ],
    ids=["short", "most of it wanted", "deleted by Kafka", "continued"],
)
def test_where_a_scan_is_cheap_or_needed_nothing_is_told(keys: str, state: FeedState) -> None:
    """No advice for a short topic, days that are most of it, deleted rows, and a feed that is continued."""
    assert said(feed(keys), state, "2025-01-20") == []


def test_many_small_files_of_open_days_are_told() -> None:
    """A day that exports still write to and that has many small files is named with the command that helps."""
    state = held(d10=[5] * 50, d20=[5] * OPEN_FILES)

    (text,) = said(feed(CONTINUED), state, "2025-01-20")

    assert text == (
        f"orders has {OPEN_FILES} files of 1 day that exports still write to; few are left after: "
        "ksql-lake compact orders --open"
    )
    assert said(feed(), held(d20=[5] * (OPEN_FILES - 1))) == []


def test_a_feed_that_could_not_be_continued_says_so() -> None:
    """Where the last export had to read by pull query, the plan of the next one says why."""
    read = ReadFacts(source="O", statement="SELECT ...;", read_at="2025-01-20T00:00:00.000+00:00")
    fell_back = msgspec.structs.replace(read, fell_back="the server ignored it")
    state = msgspec.structs.replace(held(d20=[1]), last_read=fell_back)

    assert said(feed(CONTINUED), state) == [
        "orders was read by pull query the last time, because it could not be continued: the server ignored it"
    ]
    assert said(feed(), state) == []
    assert said(feed(CONTINUED), msgspec.structs.replace(state, last_read=read)) == []


def test_a_table_needs_no_advice() -> None:
    """Its versions have one file each, and are read whole."""
    table = parse_feed(b'{"name": "totals", "kind": "table", "source": "TOTALS"}')

    assert said(table, FeedState(kind="table"), "v1") == []

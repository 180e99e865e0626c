"""What an export says about each of its partitions: plain names and values, for whoever keeps a record.

Dagster's metadata is made of these, in a run and from the shell alike. It refuses to call a day closed that had
not ended when its rows were read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ksql_lake.export.result import ExportResult, PartitionResult
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.days import day_of, day_start
from ksql_lake.lake.layout import partition_folder
from ksql_lake.schema import Schema, arrow_type

EMPTY_DAYS = 31
"""How many of an export's newest days are recorded although they hold no rows."""

Facts = dict[str, int | float | str]


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """What is recorded of one partition.

    Attributes:
        partition: `2025-01-15` or `v4`.
        closed: Whether it was over when it was read; only the running day is not.
        facts: Name -> count, seconds or text.
    """

    partition: str
    closed: bool
    facts: Facts


@dataclass(frozen=True, slots=True)
class ColumnRecord:
    """One column: its name in the lake, the Arrow type it is stored as, and the type ksqlDB declares."""

    name: str
    type: str
    declared: str


def partition_facts(result: ExportResult, partition: str) -> Facts:
    """Give the facts of one partition; a day the export had no reason to read holds no rows."""
    part = next((part for part in result.partitions if part.partition == partition), None)
    if part is None:
        return {"dagster/row_count": 0, "read_rows": 0, "new_rows": 0, "note": result.plan.reason}
    return _facts(result, part)


def partition_records(result: ExportResult) -> Iterator[PartitionRecord]:
    """Give what is worth recording of an export whose partitions nobody asked for by name.

    Of the days without rows only those among the newest `EMPTY_DAYS` are: a stream's first export may look at
    years.
    """
    newest = {part.partition for part in result.partitions[-EMPTY_DAYS:]}
    for part in result.partitions:
        if part.records or part.partition in newest:
            yield PartitionRecord(part.partition, is_closed(result, part.partition), _facts(result, part))


def lake_records(lake: FeedLake) -> Iterator[PartitionRecord]:
    """Give what is worth recording of everything a lake holds: versions, and days that were read to their end.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    state = lake.state()
    for key in (
        _read_to_the_end(lake.feed, state) if isinstance(lake.feed, StreamFeed) else state.partition_keys()
    ):
        part = state.partitions.get(key)
        facts: Facts = {
            "dagster/row_count": part.records if part else 0,
            "dagster/uri": lake.storage.uri(lake.layout.data(partition_folder(lake.layout.kind, key))),
            "bytes": part.bytes if part else 0,
            "committed_at": (part.committed_at if part else "") or state.looked.get(key, ""),
            "note": "recorded from the lake's metadata, not by an export",
        }
        yield PartitionRecord(key, closed=True, facts=facts)


def lake_columns(lake: FeedLake) -> tuple[ColumnRecord, ...]:
    """Give the columns a lake has; none before the first rows."""
    return _column_records(lake.state().columns)


def is_closed(result: ExportResult, partition: str) -> bool:
    """Tell whether a partition was over when it was read; a version always is."""
    if not isinstance(result.feed, StreamFeed):
        return True
    return date.fromisoformat(partition) < day_of(result.started_at, result.feed.zone)


def column_records(result: ExportResult) -> tuple[ColumnRecord, ...]:
    """Give the columns of the rows that were read; none when nothing was read."""
    return _column_records(result.schema)


def summary(result: ExportResult) -> str:
    """Tell in one line what an export did."""
    if result.commit is None:
        return f"{result.feed.name}: nothing to read: {result.plan.reason}"
    where = f"version {result.partitions[0].partition}" if result.partitions else "no version"
    if result.plan.days is not None:
        where = str(result.plan.days)
    late = f", {result.late:,} late" if result.late else ""
    gone = f"; retention removed {', '.join(result.removed)}" if result.removed else ""
    rate = result.read / result.seconds if result.seconds else 0.0
    return (
        f"{result.feed.name}, {where}: {result.read:,} rows read, {result.new:,} new, "
        f"{result.already_there:,} already there{late}; {result.seconds:.1f} s, {rate:,.0f} rows/s, "
        f"{result.bytes_read:,} response bytes, commit {result.commit}{gone}\n{result.statement}"
    )


def _column_records(schema: Schema | None) -> tuple[ColumnRecord, ...]:
    return tuple(
        ColumnRecord(column.name, str(arrow_type(column.type)), column.type.text) for column in schema or ()
    )


def _read_to_the_end(feed: StreamFeed, state: FeedState) -> Iterator[str]:
    for key, read_at in sorted(state.looked.items()):
        ended = day_start(date.fromisoformat(key) + timedelta(days=1), feed.zone)
        if datetime.fromisoformat(read_at).timestamp() * 1000 >= ended:
            yield key


def _facts(result: ExportResult, part: PartitionResult) -> Facts:
    facts: Facts = {
        "dagster/row_count": part.records,
        "dagster/uri": part.path,
        "read_rows": part.read,
        "new_rows": part.new,
        "already_there_rows": part.already_there,
        "late_rows": part.late,
        "bytes": part.bytes,
        "query": result.statement,
        "export_seconds": round(result.seconds, 3),
    }
    if result.commit is not None:
        facts["commit"] = result.commit
    if result.query_id:
        facts["query_id"] = result.query_id
    return facts

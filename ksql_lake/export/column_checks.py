"""The part of the checks that looks at values: NULLs, doubles, rows outside their day.

Reads the columns it needs and no others, one partition at a time, from committed files. What cannot be read is
a finding, not an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError
from ksql_lake.export.result import ExportResult
from ksql_lake.export.statement import ROWTIME
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedLake, FeedState, FileEntry
from ksql_lake.lake.days import day_start, event_times


@dataclass(slots=True)
class ColumnFindings:
    """What was found in the values: rows looked at, and a sentence per problem."""

    rows: int = 0
    nulls: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Wanted:
    """Columns by their names in the lake."""

    not_null: list[str]
    unique: list[str]
    events: list[str]

    @property
    def all(self) -> set[str]:
        return {*self.not_null, *self.unique, *self.events}


def column_findings(result: ExportResult, lake: FeedLake, state: FeedState) -> ColumnFindings:
    """Look at the values of every partition an export covered."""
    findings, wanted = ColumnFindings(), _wanted(result.feed)
    if not wanted.all:
        return findings
    for part in result.partitions:
        try:
            _look(part.partition, lake, state, wanted, findings)
        except (LakeError, pa.ArrowException, OSError) as error:
            unread = f"{part.partition} could not be read: {error}"
            for problems in (findings.nulls, findings.doubles, findings.strays):
                problems.append(unread)
    return findings


def _wanted(feed: Feed) -> _Wanted:
    names = [feed.lake_name(feed.event_time), ROWTIME] if isinstance(feed, StreamFeed) else []
    return _Wanted(
        [feed.lake_name(name) for name in feed.checks.not_null],
        [feed.lake_name(name) for name in feed.checks.unique],
        names,
    )


def _look(partition: str, lake: FeedLake, state: FeedState, wanted: _Wanted, findings: ColumnFindings) -> None:
    rows, nulls, strays = 0, dict.fromkeys(wanted.not_null, 0), 0
    keys: list[pa.RecordBatch] = []
    inside = _bounds(lake.feed, partition)
    for file in state.files_of(partition):
        for batch in _batches(lake, file, wanted.all):
            rows += batch.num_rows
            held = set(batch.schema.names)
            for name in wanted.not_null:
                nulls[name] += batch.column(name).null_count if name in held else batch.num_rows
            if wanted.unique and held.issuperset(wanted.unique):
                keys.append(batch.select(wanted.unique))
            # A column that `new_version` renamed is not looked for: the commit split the days by it.
            if inside and held.issuperset(wanted.events):
                events = event_times(batch, wanted.events[0])
                strays += int(((events < inside[0]) | (events >= inside[1])).sum())
    findings.rows += rows
    findings.nulls += [
        f"{partition}: {count:,} of {rows:,} rows have no {name}" for name, count in nulls.items() if count
    ]
    if strays:
        findings.strays.append(f"{partition}: {strays:,} of {rows:,} rows belong to another day")
    if wanted.unique and rows:
        findings.doubles += _doubles(partition, wanted.unique, keys, rows)


def _batches(lake: FeedLake, file: FileEntry, names: set[str]) -> Iterator[pa.RecordBatch]:
    with lake.storage.open(lake.layout.data(file.path)) as opened:
        parquet = pq.ParquetFile(opened)
        held = [name for name in parquet.schema_arrow.names if name in names]
        yield from parquet.iter_batches(columns=held)


def _doubles(partition: str, names: list[str], keys: list[pa.RecordBatch], rows: int) -> Iterator[str]:
    """NULL counts as a value."""
    table = pa.Table.from_batches(keys) if keys else None
    if table is None or table.num_rows < rows:
        missing = rows - (table.num_rows if table is not None else 0)
        yield f"{partition}: {missing:,} of {rows:,} rows are without the columns {', '.join(names)}"
        return
    nested = [name for name in names if pa.types.is_nested(table.schema.field(name).type)]
    if nested:
        yield f"{partition}: {', '.join(nested)} is nested, and only plain columns can be compared"
        return
    distinct = table.group_by(names).aggregate([]).num_rows
    if distinct < rows:
        yield f"{partition}: {rows - distinct:,} of {rows:,} rows repeat the {', '.join(names)} of another"


def _bounds(feed: Feed, partition: str) -> tuple[int, int] | None:
    """First and last instant of a day, the last excluded; None for a version."""
    if not isinstance(feed, StreamFeed):
        return None
    day = date.fromisoformat(partition)
    return day_start(day, feed.zone), day_start(day + timedelta(days=1), feed.zone)

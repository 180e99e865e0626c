"""Checks of values: NULLs, duplicates, rows outside their day.

It reads only the columns it needs, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError
from ksql_lake.export.result import ExportResult
from ksql_lake.export.statement import ROWTIME
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedLake, FeedState, FileEntry
from ksql_lake.lake.days import day_start
from ksql_lake.lake.rows.event_days import event_times
from ksql_lake.lake.rows.repeats import repeat_counter

Figures = Mapping[str, Mapping[str, int | float]]
"""Partition -> name -> number."""


@dataclass(slots=True)
class ColumnFindings:
    """What was found in the values: the rows read; per partition one sentence for each problem, and counts."""

    rows: int = 0
    nulls: dict[str, list[str]] = field(default_factory=dict)
    doubles: dict[str, list[str]] = field(default_factory=dict)
    strays: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)

    def of(self, name: str) -> Figures:
        """Return, per partition, its rows and its number called `name`, where that was counted."""
        return {
            partition: {"rows": found["rows"], name: found[name]}
            for partition, found in self.figures.items()
            if name in found
        }


@dataclass(slots=True)
class _Wanted:
    """Columns by their names in the lake, and the unit of the event time."""

    not_null: list[str]
    unique: list[str]
    events: list[str]
    unit: str

    @property
    def looked_at(self) -> set[str]:
        return {*self.not_null, *self.events}


def column_findings(
    result: ExportResult, lake: FeedLake, state: FeedState, names: Collection[str]
) -> ColumnFindings:
    """Check the values of every partition an export covered; `names` are the checks to evaluate."""
    findings, wanted = ColumnFindings(), _wanted(result.feed, names)
    if not wanted.looked_at and not wanted.unique:
        return findings
    with repeat_counter() if wanted.unique else nullcontext(_uncounted) as repeats:
        for part in result.partitions:
            try:
                _look(part.partition, lake, state, wanted, findings)
                if wanted.unique:
                    _count_doubles(part.partition, lake, state, wanted.unique, repeats, findings)
            except (LakeError, pa.ArrowException, OSError) as error:
                unread = f"{part.partition} could not be read: {error}"
                for problems in (findings.nulls, findings.doubles, findings.strays):
                    _add(problems, part.partition, [unread])
    return findings


def _uncounted(_rows: Callable[[], pa.RecordBatchReader]) -> int:
    """Replace the counter where no column is promised to be unique, so that DuckDB is not needed."""
    return 0


def _add(problems: dict[str, list[str]], partition: str, found: Iterable[str]) -> None:
    for problem in found:
        problems.setdefault(partition, []).append(problem)


def _wanted(feed: Feed, names: Collection[str]) -> _Wanted:
    events, unit = list[str](), "ms"
    if isinstance(feed, StreamFeed):
        events, unit = [feed.lake_name(feed.event_time), ROWTIME], feed.event_time_unit
    return _Wanted(
        [feed.lake_name(name) for name in feed.checks.not_null if "not_null" in names],
        [feed.lake_name(name) for name in feed.checks.unique if "unique" in names],
        events if "day_boundaries" in names else [],
        unit,
    )


def _look(partition: str, lake: FeedLake, state: FeedState, wanted: _Wanted, findings: ColumnFindings) -> None:
    rows, nulls, strays = 0, dict.fromkeys(wanted.not_null, 0), 0
    inside = _bounds(lake.feed, partition)
    for file in state.files_of(partition):
        with _parquet(lake, file) as parquet:
            rows += parquet.metadata.num_rows
            held = {name for name in parquet.schema_arrow.names if name in wanted.looked_at}
            for name in wanted.not_null:
                nulls[name] += 0 if name in held else parquet.metadata.num_rows
            for batch in parquet.iter_batches(columns=sorted(held)) if held else ():
                for name in held.intersection(wanted.not_null):
                    nulls[name] += batch.column(name).null_count
                # A column that `new_version` renamed is not looked for: the commit split the days by it.
                if inside and wanted.events and held.issuperset(wanted.events):
                    events = event_times(batch, wanted.events[0], wanted.unit)
                    strays += int(((events < inside[0]) | (events >= inside[1])).sum())
    findings.rows += rows
    counted = findings.figures.setdefault(partition, {})
    counted |= {"rows": rows, "null_rows": sum(nulls.values()), "stray_rows": strays}
    texts = (f"{partition}: {count:,} of {rows:,} rows have no {key}" for key, count in nulls.items() if count)
    _add(findings.nulls, partition, texts)
    if strays:
        _add(findings.strays, partition, [f"{partition}: {strays:,} of {rows:,} rows belong to another day"])


@contextmanager
def _parquet(lake: FeedLake, file: FileEntry) -> Iterator[pq.ParquetFile]:
    with lake.storage.open(lake.layout.data(file.path)) as opened:
        yield pq.ParquetFile(opened)


def _count_doubles(
    partition: str,
    lake: FeedLake,
    state: FeedState,
    names: list[str],
    repeats: Callable[[Callable[[], pa.RecordBatchReader]], int],
    findings: ColumnFindings,
) -> None:
    """Count the rows that repeat an earlier key; NULL counts as a value."""
    files = state.files_of(partition)
    listed, rows, missing = ", ".join(names), 0, 0
    shapes, counted = [], findings.figures.setdefault(partition, {})
    for file in files:
        with _parquet(lake, file) as parquet:
            held = parquet.schema_arrow
            rows += parquet.metadata.num_rows
            if set(held.names).issuperset(names):
                shapes.append(pa.schema([held.field(name).remove_metadata() for name in names]))
            else:
                missing += parquet.metadata.num_rows
    if missing:
        said = f"{partition}: {missing:,} of {rows:,} rows are without the columns {listed}"
        _add(findings.doubles, partition, [said])
        return
    nested = sorted({field.name for shape in shapes for field in shape if pa.types.is_nested(field.type)})
    if nested:
        said = f"{partition}: {', '.join(nested)} is nested, and only plain columns can be compared"
        _add(findings.doubles, partition, [said])
        return
    # A column may have become wider between two exports of a day.
    more = 0
    if shapes:
        schema = pa.unify_schemas(shapes, promote_options="permissive")
        more = repeats(lambda: pa.RecordBatchReader.from_batches(schema, _values(lake, files, schema)))
    counted |= {"rows": rows, "repeated_rows": more}
    if more:
        said = f"{partition}: {more:,} of {rows:,} rows repeat the {listed} of another"
        _add(findings.doubles, partition, [said])


def _values(lake: FeedLake, files: Sequence[FileEntry], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in files:
        with _parquet(lake, file) as parquet:
            for batch in parquet.iter_batches(columns=schema.names):
                yield batch.select(schema.names).cast(schema)


def _bounds(feed: Feed, partition: str) -> tuple[int, int] | None:
    """Return the first instant of a day and the first after it, epoch ms; None for a version."""
    if not isinstance(feed, StreamFeed):
        return None
    day = date.fromisoformat(partition)
    return day_start(day, feed.zone), day_start(day + timedelta(days=1), feed.zone)

"""Merge a day's small files into one: the same rows, fewer files, one commit."""

# Of an open day only files that together are about as large as its largest are merged, so that no row is
# written many times. Only files with the same columns are merged, because row identity depends on which columns
# a row had. The merged file must have the checksum of the files that it replaces. docs/reliability.md says what
# a glob reader sees meanwhile.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import CorruptLakeError, LakeError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import FileEntry, Manifest
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.days import day_of, event_times
from ksql_lake.lake.files.checksum import combined
from ksql_lake.lake.files.statistics import misleading_columns
from ksql_lake.lake.files.writer import PartitionWriter, StagedFile
from ksql_lake.schema import Schema, arrow_schema

OPEN_FILES = 8
"""The least number of small files of an open day that are merged."""

_FEW = 10
"""Late files of a closed day wait if its largest file has at least this many times their rows."""

_LARGE = 128_000_000
"""Files of this many bytes or more are not merged until their day is closed."""


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """The days that would be merged, and how many files and bytes they have now.

    Attributes:
        days: Closed days whose files would be merged into one.
        files: Files in all of the days, open ones too.
        bytes: Their size.
        open_days: Open days of which some files would be merged.
    """

    days: tuple[str, ...]
    files: int
    bytes: int
    open_days: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompactedDay:
    """The result of merging one day: the commit, and files and bytes before and after."""

    day: str
    commit: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def plan_compaction(
    feed: StreamFeed,
    state: FeedState,
    *,
    older_than: int,
    now: datetime,
    nan: CommitLog | None = None,
    open_files: int | None = None,
) -> CompactionPlan:
    """List the days with files to merge that ended at least `older_than` days ago, and open days on request.

    Args:
        feed: The feed.
        state: Its state.
        older_than: Full days between the end of a day and today; 0 takes every day before today.
        now: The present.
        nan: Location of the files, to also find those whose statistics leave NaN out; each file is read for
            that.
        open_files: The least number of small files of a younger day that are merged; None leaves younger days
            alone. A closed day that still gets a few late rows then counts as a younger one, so that its large
            file is not written anew for each of them.
    """
    newest = day_of(now, feed.zone) - timedelta(days=older_than)
    keys = state.partition_keys()
    closed = [day for day in keys if date.fromisoformat(day) < newest]
    days = [day for day in closed if _mergeable(state, day) or (nan and _misleading(nan, state, day))]
    opened: list[str] = []
    if open_files is not None:
        gets_rows = [day for day in days if _few_late_rows(state, day, now)]
        days = [day for day in days if day not in gets_rows]
        opened = [day for day in (*gets_rows, *keys[len(closed) :]) if ripe(state, day, open_files)]
    files = [file for day in (*days, *opened) for file in state.files_of(day)]
    return CompactionPlan(tuple(days), len(files), sum(file.bytes for file in files), tuple(opened))


def compact_day(
    log: CommitLog, feed: StreamFeed, day: str, *, nan: bool = False, open_files: int | None = None
) -> CompactedDay | None:
    """Merge a day's files with the same columns; None when there is nothing left to merge.

    Args:
        log: The feed's commit log.
        feed: The feed.
        day: The day.
        nan: Also write anew the files whose statistics leave NaN out.
        open_files: For an open day: merge small files only, and at least this many.

    Raises:
        ConflictError: Other runs took the commit number each time.
        CorruptLakeError: A file does not hold what its manifest says; nothing was changed.
        WriteError: The disk is full or not writable; nothing was changed.
    """
    with Attempt(log) as attempt:
        for state in attempt.states():
            group = _group(log, state, day, nan=nan, open_files=open_files)
            if not group:
                return None
            before, schema, now = state.files_of(day), state.shape(group[0]), datetime.now(UTC)
            try:
                attempt.check_partitions(state, [day])
                merged = _merge(attempt, feed, schema, group)
            except (LakeError, FileNotFoundError):
                # Another merge may have removed a file while it was read.
                if not attempt.overtaken(state):
                    raise
                continue
            manifest = Manifest(
                sequence=attempt.sequence,
                attempt=attempt.id,
                feed=feed.name,
                kind=feed.kind,
                operation="compact",
                committed_at=now.isoformat(timespec="milliseconds"),
                schema=schema.text,
                added=[attempt.entry(merged, day, at=now)],
                removed=[file.path for file in group],
                merged_form=state.form(group[0]),
            )
            if attempt.commit(manifest):
                after = log.finish().files_of(day)
                return CompactedDay(
                    day, manifest.sequence, len(before), len(after), _size(before), _size(after)
                )
    raise AssertionError("states() ends with an error")


def _group(log: CommitLog, state: FeedState, day: str, *, nan: bool, open_files: int | None) -> list[FileEntry]:
    if open_files is not None:
        return ripe(state, day, open_files)
    return (_misleading(log, state, day) if nan else []) or _mergeable(state, day)


def _few_late_rows(state: FeedState, day: str, now: datetime) -> bool:
    """Whether a closed day got files within the last day that are small compared with its largest file."""
    records = sorted(file.records for file in _mergeable(state, day))
    yesterday = (now - timedelta(days=1)).astimezone(UTC).isoformat(timespec="milliseconds")
    recent = state.partitions[day].committed_at > yesterday
    return recent and sum(records[:-1]) * _FEW < sum(records[-1:])


def ripe(state: FeedState, day: str, least: int) -> list[FileEntry]:
    """Return the most small files of an open day of which all but the largest hold as many rows as the largest.

    Each merge then makes a file with at least twice the rows of any file that it replaces. So a row of a day of
    N rows is written anew at most log2(N) times, and at most `least` + log2(N) files remain. Files with other
    columns than the newest, or of another form, wait until the day is closed.
    """
    files = state.files_of(day)
    if len(files) < least or not state.shapes:
        return []
    newest = (state.shapes[-1][1], max(state.form(file) for file in files))
    alike = [file for file in files if (state.shape_text(file), state.form(file)) == newest]
    small = sorted((file for file in alike if file.bytes < _LARGE), key=lambda file: file.records)
    rows, count = 0, 0
    for number, file in enumerate(small, 1):
        if number >= max(least, 2) and file.records <= rows:
            count = number
        rows += file.records
    return small[:count]


def _mergeable(state: FeedState, day: str) -> list[FileEntry]:
    """Return the day's largest group of two or more files with the same columns, read in the same form."""
    files, groups = state.files_of(day), dict[tuple[str, int], list[FileEntry]]()
    if len(files) < 2:
        return []
    for file in files:
        groups.setdefault((state.shape(file).text, state.form(file)), []).append(file)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def _misleading(log: CommitLog, state: FeedState, day: str) -> list[FileEntry]:
    """Return files with the same columns, one of which has statistics that leave NaN out; may be empty."""
    for file in state.files_of(day):
        with log.storage.open(log.layout.data(file.path)) as source, pq.ParquetFile(source) as parquet:
            if misleading_columns(parquet):
                alike = state.shape_text(file)
                return [other for other in state.files_of(day) if state.shape_text(other) == alike]
    return []


def _merge(attempt: Attempt, feed: StreamFeed, schema: Schema, files: list[FileEntry]) -> StagedFile:
    log, day = attempt.log, files[0].partition
    metadata: dict[str, str] = {}
    suffix = f"{attempt.sequence}.merged.tmp"
    writer: PartitionWriter | None = None
    for file in files:
        with (
            log.storage.open(log.layout.data(file.path), whole=True) as source,
            pq.ParquetFile(source) as parquet,
        ):
            if writer is None:
                metadata = _footer(parquet)
                replaced = msgspec.json.encode([old.path for old in files]).decode()
                metadata |= {"ksql_lake.attempt": attempt.id, "ksql_lake.replaces": replaced}
                writer = PartitionWriter(
                    attempt,
                    arrow_schema(schema),
                    compression=feed.compression,
                    metadata=metadata,
                    suffix=suffix,
                )
            for batch in _batches(parquet, writer.schema):
                unit = metadata.get("ksql_lake.event_time_unit", "ms")
                events = event_times(batch, metadata.get("ksql_lake.event_time", "ROWTIME"), unit)
                writer.write(day, batch, events=(int(events.min()), int(events.max())))
    assert writer is not None  # noqa: S101 - a group has files
    (merged,) = writer.close()
    expected = combined(file.checksum for file in files)
    if merged.records != sum(file.records for file in files) or merged.checksum != expected:
        raise CorruptLakeError(
            f"its files hold {merged.records} rows with checksum {merged.checksum}, their manifests say "
            f"{sum(file.records for file in files)} with {expected}; nothing was merged",
            hint="Run `ksql-lake doctor` to see which file is damaged.",
            feed=feed.name,
            partition=files[0].partition,
        )
    return merged


def _batches(parquet: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in parquet.iter_batches():
        if batch.num_rows:
            yield batch.cast(schema) if batch.schema != schema else batch


def _footer(parquet: pq.ParquetFile) -> dict[str, str]:
    pairs = parquet.metadata.metadata or {}
    return {
        key.decode(): value.decode()
        for key, value in pairs.items()
        if key.startswith(b"ksql_lake.") and key != b"ksql_lake.partition"
    }


def _size(files: Iterable[FileEntry]) -> int:
    return sum(file.bytes for file in files)

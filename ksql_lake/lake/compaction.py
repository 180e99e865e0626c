"""Merge a day's small files into one: the same rows, fewer files, one commit."""

# Only files with the same columns are merged, because row identity depends on which columns a row had. The
# merged file must have the checksum of the files that it replaces. docs/reliability.md says what a glob
# reader sees meanwhile.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import CorruptLakeError, LakeError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import FileEntry, Manifest
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.compaction_plan import mergeable, ripe
from ksql_lake.lake.files.checksum_sums import combined
from ksql_lake.lake.files.statistics import misleading_columns
from ksql_lake.lake.files.writer import PartitionWriter, StagedFile
from ksql_lake.lake.rows.event_days import event_times
from ksql_lake.schema import Schema, arrow_schema


@dataclass(frozen=True, slots=True)
class CompactedDay:
    """The result of merging one day: the commit, and files and bytes before and after."""

    day: str
    commit: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def compact_day(
    log: CommitLog, feed: StreamFeed, day: str, *, nan: bool = False, open_files: int | None = None
) -> CompactedDay | None:
    """Merge a day's files with the same columns; None when there is nothing left to merge.

    Args:
        log: The feed's commit log.
        feed: The feed.
        day: The day.
        nan: Also rewrite the files whose statistics leave NaN out.
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
    return (misleading_files(log, state, day) if nan else []) or mergeable(state, day)


def misleading_files(log: CommitLog, state: FeedState, day: str) -> list[FileEntry]:
    """Return files with the same columns and form, one of whose statistics leave NaN out; may be empty."""
    for file in state.files_of(day):
        with _opened(log, file) as parquet:
            if misleading_columns(parquet):
                alike = (state.shape_text(file), state.form(file))
                return [
                    other
                    for other in state.files_of(day)
                    if (state.shape_text(other), state.form(other)) == alike
                ]
    return []


def _merge(attempt: Attempt, feed: StreamFeed, schema: Schema, files: list[FileEntry]) -> StagedFile:
    log, day = attempt.log, files[0].partition
    metadata: dict[str, str] = {}
    suffix = f"{attempt.sequence}.merged.tmp"
    writer: PartitionWriter | None = None
    for file in files:
        with _opened(log, file, whole=True) as parquet:
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
            for batch in _batches(parquet, writer.schema, log.layout.data(file.path)):
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


@contextmanager
def _opened(log: CommitLog, file: FileEntry, *, whole: bool = False) -> Iterator[pq.ParquetFile]:
    key = log.layout.data(file.path)
    with log.storage.open(key, whole=whole) as source:
        try:
            parquet = pq.ParquetFile(source)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(key, error) from error
        with parquet:
            yield parquet


def _unreadable(key: str, error: Exception) -> CorruptLakeError:
    return CorruptLakeError(
        f"it cannot be read: {str(error).splitlines()[0]}; nothing was merged",
        hint="Run `ksql-lake doctor` to see what is damaged.",
        path=key,
    )


def _batches(parquet: pq.ParquetFile, schema: pa.Schema, key: str) -> Iterator[pa.RecordBatch]:
    read = parquet.iter_batches()
    while True:
        try:
            batch = next(read, None)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(key, error) from error
        if batch is None:
            return
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

"""Write record batches to staged Parquet files, one per partition, in bounded memory."""

# Threads write row groups while reading goes on; the largest buffers are written first. Options follow what
# Spark, pandas and DuckDB all read: no dictionary types, no nanoseconds, statistics except for columns that
# hold NaN.

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from ksql_lake.lake.files.checksum import RowChecksum
from ksql_lake.lake.files.checksum_sums import EMPTY, Sums
from ksql_lake.lake.files.codecs import incompressible_columns
from ksql_lake.lake.files.dictionaries import (
    TELLING_ROWS,
    TextDictionaries,
    dictionary_columns,
    plain_schema,
    text_columns,
)
from ksql_lake.lake.files.statistics import NanColumns, float_columns, leaf_paths, statistics_columns
from ksql_lake.lake.storage.abreast import abreast

_PREFIX = b"ksql_lake."

ROW_GROUP_ROWS = 250_000
ROW_GROUP_BYTES = 96_000_000
BUFFERED_BYTES = 128_000_000
_FIRST_SHARE = 5
"""A file's first row group is smaller by this factor, so that a small export too writes while it reads."""

_LEAST_ROWS = 2048
"""Rows per batch, on average, below which batches are joined before they are written."""

_WAITING = 32
"""The most partitions that buffer rows; beyond it, the one that got rows longest ago is written."""

_OPEN_FILES = 256
"""The most open files of partitions whose rows all seem to have come."""

_WRITING = 2
"""Partitions written at once: of small files, opening and closing costs more than the rows."""

_FINISHING = 4
"""Files finished at once."""

_SAMPLE_ROWS = 4096
"""Rows that show which columns compression makes smaller."""


def footer_facts(parquet: pq.ParquetFile) -> dict[str, str]:
    """Return what we wrote into a file's footer, by key without prefix; empty for a file that is not ours."""
    pairs: dict[bytes, bytes] = parquet.metadata.metadata or {}
    return {
        key.removeprefix(_PREFIX).decode(errors="replace"): value.decode(errors="replace")
        for key, value in pairs.items()
        if key.startswith(_PREFIX)
    }


class StagingArea(Protocol):
    """The folder of staged files: a local path per name, and a `WriteError` when writing fails."""

    def path(self, name: str) -> Path:
        """Return the local path of a staged file."""

    def writing(self) -> AbstractContextManager[None]:
        """Turn errors of the operating system while writing into a `WriteError`."""


@dataclass(slots=True)
class StagedFile:
    """A finished staged file: rows, their checksum, and the range of event times in epoch ms."""

    name: str
    partition: str
    records: int
    checksum: str = EMPTY
    min_event: int | None = None
    max_event: int | None = None


@dataclass(slots=True)
class _Partition:
    file: StagedFile
    nans: NanColumns
    writer: pq.ParquetWriter | None = None
    repeating: list[str] = field(default_factory=list)
    without: frozenset[str] = frozenset()
    uncompressed: frozenset[str] = frozenset()
    batches: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    groups: int = 0
    checksum: RowChecksum = field(default_factory=RowChecksum)

    @property
    def full(self) -> bool:
        """Whether the buffer holds enough rows for a row group."""
        share = 1 if self.groups else _FIRST_SHARE
        return self.rows * share >= ROW_GROUP_ROWS or self.size * share >= ROW_GROUP_BYTES

    def take(self) -> list[pa.RecordBatch]:
        """Return the buffered rows and empty the buffer."""
        taken = self.batches
        self.batches, self.rows, self.size = [], 0, 0
        self.groups += 1
        return taken

    def saw(self, low: int | None, high: int | None) -> None:
        if low is not None and high is not None:
            known = self.file
            known.min_event = low if known.min_event is None else min(known.min_event, low)
            known.max_event = high if known.max_event is None else max(known.max_event, high)


class PartitionWriter:
    """Writes the staged Parquet files of one commit, by partition.

    Args:
        area: The staging folder.
        schema: Columns of every file.
        compression: As in the feed: `zstd`, `zstd:N`, `snappy`, `lz4`, `none`.
        metadata: Key-value pairs for every file's footer.
        suffix: Ending of the staged names.
    """

    def __init__(
        self,
        area: StagingArea,
        schema: pa.Schema,
        *,
        compression: str,
        metadata: Mapping[str, str],
        suffix: str = "tmp",
    ) -> None:
        self.area = area
        self.schema = schema
        self.codec, self.level = parse_compression(compression)
        self.metadata = dict(metadata)
        self.suffix = suffix
        self._partitions: dict[str, _Partition] = {}
        self._waiting: dict[str, _Partition] = {}
        self._open_files = 0
        self._floats = float_columns(schema)
        self._leaves = leaf_paths(schema)
        self._plain = plain_schema(schema)
        self._uncompressed: frozenset[str] | None = None
        self._repeating: list[str] | None = None
        self._texts = TextDictionaries()
        self._buffered = 0
        self._threads = ThreadPoolExecutor(_WRITING, "ksql-lake-writer")
        self._writing: dict[str, Future[None]] = {}

    def write(
        self,
        partition: str,
        batch: pa.RecordBatch,
        *,
        events: tuple[int, int] | None = None,
        hashed: Sums | None = None,
        size: int | None = None,
    ) -> None:
        """Add rows to a partition.

        Args:
            partition: Its key.
            batch: The rows.
            events: The range of their event times.
            hashed: The sums of their hashes, if already known.
            size: About how many bytes they take in memory, if already known.

        Raises:
            WriteError: The disk is full or not writable.
        """
        part = self._open(partition)
        size = batch.nbytes if size is None else size
        part.batches.append(batch)
        part.rows += batch.num_rows
        part.size += size
        part.file.records += batch.num_rows
        part.saw(*(events or (None, None)))
        self._buffered += size
        if hashed is None:
            part.checksum.add(batch)
        else:
            part.checksum.count(hashed)
        # The order is that of the last rows: the first partition has waited longest.
        self._waiting.pop(partition, None)
        self._waiting[partition] = part
        if part.full:
            self._flush_behind(part)
        while self._buffered > BUFFERED_BYTES:
            self._flush_behind(max(self._waiting.values(), key=lambda other: other.size))
        while len(self._waiting) > _WAITING and self._open_files < _OPEN_FILES:
            self._open_files += 1
            self._flush_behind(next(iter(self._waiting.values())))

    def encoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch in the form in which it is hashed and written fastest; the same rows."""
        return self._texts.encoded(batch)

    def touch(self, partition: str) -> None:
        """Make sure that the partition gets a file, even without rows."""
        self._open(partition)

    def close(self) -> list[StagedFile]:
        """Finish every file, in order of partition.

        Raises:
            WriteError: The disk is full or not writable.
        """
        while self._writing:
            self._await(next(iter(self._writing)))
        self._threads.shutdown()
        abreast(self._finish, list(self._partitions.values()), threads=_FINISHING)
        return [self._partitions[key].file for key in sorted(self._partitions)]

    def abandon(self) -> None:
        """Close the files without finishing them; the owner of the folder removes them."""
        self._threads.shutdown(cancel_futures=True)
        for part in self._partitions.values():
            if part.writer is not None and part.writer.is_open:
                # This only frees the handle: no reader sees the file, and the first error is raised already.
                with suppress(OSError, pa.ArrowException):
                    part.writer.close()

    def _open(self, partition: str) -> _Partition:
        if partition not in self._partitions:
            name = f"{partition}.{self.suffix}"
            self._partitions[partition] = _Partition(StagedFile(name, partition, 0), NanColumns(self._floats))
        return self._partitions[partition]

    def _flush_behind(self, part: _Partition) -> None:
        """Write a partition's rows in a thread; at most one write per partition is under way."""
        partition = part.file.partition
        self._await(partition)
        if len(self._writing) == _WRITING:
            self._await(next(iter(self._writing)))
        self._waiting.pop(partition, None)
        self._buffered -= part.size
        self._writing[partition] = self._threads.submit(self._flush, part, part.take())

    def _await(self, partition: str) -> None:
        """Wait for the write of a partition that is under way; raises its error."""
        writing = self._writing.pop(partition, None)
        if writing is not None:
            writing.result()

    def _flush(self, part: _Partition, batches: list[pa.RecordBatch]) -> None:
        if not batches:
            return
        table = self._texts.table(batches)
        if table.num_rows < len(batches) * _LEAST_ROWS:
            table = table.combine_chunks()  # a day's share of a batch may be a few rows; writing wants many
        part.nans.add(table)
        with self.area.writing():
            writer = self._writer(part, sample=table)
            if table.schema != writer.schema:
                table = table.cast(writer.schema)  # the file was begun before it was known which texts repeat
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def _finish(self, part: _Partition) -> None:
        self._flush(part, part.take())
        part.file.checksum = part.checksum.text
        with self.area.writing():
            writer = self._writer(part)
            if part.nans.paths <= part.without:
                self._end(part, writer)
                return
            # A NaN came after the file was begun, so the statistics of its first row groups are wrong.
            writer.add_key_value_metadata(self._plain)
            writer.close()
            self._write_again(part)

    def _end(self, part: _Partition, writer: pq.ParquetWriter) -> None:
        own = {"ksql_lake.partition": part.file.partition, **part.nans.note, **self._plain}
        writer.add_key_value_metadata({**self.metadata, **own})
        writer.close()

    def _write_again(self, part: _Partition) -> None:
        begun = self.area.path(part.file.name)
        path = self.area.path(f"{part.file.name}.again")
        part.without = frozenset(part.nans.paths)
        part.writer = self._new_file(path, self.schema, part)
        with pq.ParquetFile(begun) as file:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number).replace_schema_metadata(self.schema.metadata)
                part.writer.write_table(group.cast(self.schema), row_group_size=ROW_GROUP_ROWS)
        self._end(part, part.writer)
        path.replace(begun)

    def _writer(self, part: _Partition, sample: pa.Table | None = None) -> pq.ParquetWriter:
        if part.writer is None:
            schema = self.schema if sample is None else sample.schema
            encoded = {field.name for field in schema if pa.types.is_dictionary(field.type)}
            part.repeating = sorted(encoded.union(self._repeating_columns(sample)))
            part.without = frozenset(part.nans.paths)
            part.uncompressed = self._uncompressed_columns(sample, part)
            part.writer = self._new_file(self.area.path(part.file.name), schema, part)
        return part.writer

    def _uncompressed_columns(self, sample: pa.Table | None, part: _Partition) -> frozenset[str]:
        """Choose a small file's columns without compression; the first sample that tells decides for all."""
        if self.codec != "zstd" or len(self._partitions) <= _WAITING:
            return frozenset()
        if sample is None or sample.num_rows * _FIRST_SHARE >= ROW_GROUP_ROWS:
            return frozenset()
        if self._uncompressed is None and sample.num_rows >= TELLING_ROWS:
            written = pa.BufferOutputStream()
            with self._new_file(written, sample.schema, part) as writer:
                writer.write_table(sample.slice(0, _SAMPLE_ROWS))
            self._uncompressed = incompressible_columns(pq.read_metadata(pa.BufferReader(written.getvalue())))
        return self._uncompressed or frozenset()

    def _new_file(
        self, sink: Path | pa.BufferOutputStream, schema: pa.Schema, part: _Partition
    ) -> pq.ParquetWriter:
        codec: str | dict[str, str] = self.codec
        level: int | dict[str, int] | None = self.level
        if part.uncompressed:
            codec = {path: "none" if path in part.uncompressed else self.codec for path in self._leaves}
            level = {path: self.level or 1 for path in self._leaves if path not in part.uncompressed}
        return pq.ParquetWriter(
            sink,
            schema,
            filesystem=LocalFileSystem() if isinstance(sink, Path) else None,
            compression=codec,
            compression_level=level,
            use_dictionary=part.repeating,
            # Times come nearly in order, and whole numbers are mostly small, so differences take much less
            # space.
            column_encoding={
                column.name: "DELTA_BINARY_PACKED"
                for column in self.schema
                if (pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type))
                and column.name not in part.repeating
            },
            write_statistics=statistics_columns(self.schema, part.without),
            store_schema=False,  # `_end` records the plain columns' types
        )

    def _repeating_columns(self, sample: pa.Table | None) -> list[str]:
        """Choose the columns with a dictionary; the first sample that is large enough decides for all files."""
        if sample is None:
            return self._repeating or []
        if sample.num_rows < TELLING_ROWS:
            # With few rows every text column gets one: DuckDB reads a plain column with one value and NULLs
            # wrongly.
            return sorted({*(self._repeating or dictionary_columns(sample)), *text_columns(sample)})
        if self._repeating is None:
            self._repeating = dictionary_columns(sample)
        return self._repeating


def parse_compression(text: str) -> tuple[str, int | None]:
    """Split a feed's compression into Parquet's codec name and level; zstd without a level is level 1."""
    codec, _, level = text.partition(":")
    if codec == "zstd":
        return codec, int(level or 1)
    return codec, None

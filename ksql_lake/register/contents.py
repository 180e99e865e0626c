"""The contents of a feed's index: its columns, and its committed files with their partitions. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime

import msgspec
import pyarrow as pa

from ksql_lake.errors import SchemaChangeError
from ksql_lake.lake import FeedState
from ksql_lake.lake.files.evolution import unify
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.rows.committed_rows import PARTITION_COLUMNS
from ksql_lake.schema import Schema, alike_fields, arrow_schema, parse_schema


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One committed Parquet file.

    Attributes:
        path: Relative to the dataset folder.
        partition: Values of the partition columns, in their order.
        records: Rows.
        bytes: Size.
        committed_at: Epoch ms.
    """

    path: str
    partition: tuple[int | str, ...]
    records: int
    bytes: int
    committed_at: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a feed's index at one commit.

    Attributes:
        layout: The feed's layout.
        sequence: Number of the commit.
        schema: The columns of all files.
        files: The files, in the order of their partitions.
    """

    layout: FeedLayout
    sequence: int
    schema: Schema
    files: tuple[IndexedFile, ...]

    @property
    def partition_columns(self) -> pa.Schema:
        """The partition columns, which come from the path."""
        return PARTITION_COLUMNS[self.layout.kind]

    @property
    def arrow(self) -> pa.Schema:
        """All columns, the partition's last."""
        return pa.schema([*arrow_schema(self.schema), *self.partition_columns])

    @property
    def records(self) -> int:
        """Rows of all files."""
        return sum(file.records for file in self.files)

    @property
    def digest(self) -> str:
        """A text that changes whenever these contents change."""
        files = sorted((file.path, file.partition) for file in self.files)
        return hashlib.sha256(msgspec.json.encode([self.schema.text, files])).hexdigest()


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """The result of building an index.

    Attributes:
        head: The file of the index's newest version, relative to the index's folder.
        files: All files from which a reader takes that version, relative to the same folder.
        added: How many files were added.
        removed: How many files were removed.
        left_out: Columns for which the format has no type, with the reason.
    """

    head: str
    files: tuple[str, ...]
    added: int
    removed: int
    left_out: tuple[str, ...] = ()


def contents(layout: FeedLayout, state: FeedState) -> Contents | None:
    """Return the contents for a feed's committed state; None before its first rows.

    Raises:
        SchemaChangeError: A column's types in several versions of a table cannot be unified.
    """
    schema = _table_schema(layout, state) if layout.kind == "table" else state.columns
    if schema is None:
        return None
    for column in schema:
        if (alike := alike_fields(column.type, column.name)) is not None:
            raise SchemaChangeError(
                f"fields {alike[0]} and {alike[1]} differ only in case, which table formats do not allow",
                hint="Export the feed without that column, or with other names of its fields.",
                feed=layout.name,
            )
    files = tuple(
        IndexedFile(
            path=file.path,
            partition=_partition(layout, file.partition),
            records=file.records,
            bytes=file.bytes,
            committed_at=_milliseconds(state.partitions[file.partition].committed_at),
        )
        for file in state.files()
    )
    return Contents(layout, state.sequence, schema, files)


def _table_schema(layout: FeedLayout, state: FeedState) -> Schema | None:
    """Return the columns of all kept versions, those of the newest first."""
    unified: Schema | None = None
    for version in reversed(state.partition_keys()):
        schema = parse_schema(state.partitions[version].schema)
        try:
            unified = unify(unified, schema) if unified else schema
        except SchemaChangeError as error:
            raise SchemaChangeError(
                f"version {version} has another type for a column than the versions after it, and table "
                "formats know one type for each",
                hint="Let retention remove the versions before the change, then register again.",
                feed=layout.name,
                **error.where,
            ) from None
    return unified or state.columns


def _partition(layout: FeedLayout, key: str) -> tuple[int | str, ...]:
    if layout.kind == "table":
        return (key,)
    day = date.fromisoformat(key)
    return (day.year, day.month, day.day)


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)

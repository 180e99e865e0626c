"""Choose the columns of a file that carry statistics: all but floating-point columns with a NaN."""

# Arrow leaves NaN out of minimum and maximum, while DuckDB and Spark trust both and would skip rows.

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ksql_lake.lake.files.dictionaries import leaves

NOTE = "ksql_lake.without_statistics"
"""The footer's key: a JSON object of column -> NULLs in it. A file without the key may be wrong about NaN."""

_MILLISECONDS = {("TIMESTAMP_MILLIS", "TIMESTAMP"), ("NONE", "NONE")}
"""The converted and the logical type of Parquet columns that `stated_range` reads."""


class NanColumns:
    """Finds the columns of a file that hold a NaN; `add` must see all of its rows.

    Args:
        floats: The columns that hold floating-point numbers, by `float_columns`.

    Attributes:
        paths: The Parquet columns that hold a NaN, as `column` or `column.list.element`.
    """

    def __init__(self, floats: Sequence[str]) -> None:
        self._floats = floats
        self.paths: set[str] = set()
        self._nulls: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Check more rows."""
        for name in self._floats:
            column = table.column(name)
            self._nulls[name] += column.null_count
            for chunk in column.chunks:
                self.paths.update(path for path, values in leaves(name, chunk) if _holds_nan(values))

    @property
    def note(self) -> dict[str, str]:
        """Return the footer entry."""
        nulls = {path: self._nulls[path] for path in sorted(self.paths) if path in self._nulls}
        return {NOTE: msgspec.json.encode(nulls).decode()}


def statistics_columns(schema: pa.Schema, without: Collection[str]) -> bool | list[str]:
    """Return the Parquet writer's option for the columns with statistics.

    Args:
        schema: The file's columns.
        without: Parquet columns that must have none.
    """
    if not without:
        return True
    return [path for path in leaf_paths(schema) if path not in without]


def leaf_paths(schema: pa.Schema) -> list[str]:
    """Return the Parquet columns of a schema, as `column` or `column.list.element`."""
    return [path for field in schema for path in _paths(field.name, field.type)]


def counted_nulls(metadata: pq.FileMetaData) -> dict[str, int] | None:
    """Return column -> NULLs for columns without statistics; None for a file that may be wrong about NaN."""
    note = (metadata.metadata or {}).get(NOTE.encode())
    if note is None:
        return None
    found: dict[str, int] = msgspec.json.decode(note)
    return found


def misleading_columns(parquet: pq.ParquetFile) -> list[str]:
    """Return the columns whose statistics leave a NaN out; reads floating-point columns only."""
    metadata = parquet.metadata
    if counted_nulls(metadata) is not None:
        return []
    suspect = {
        column.path_in_schema
        for group in map(metadata.row_group, range(metadata.num_row_groups))
        for column in map(group.column, range(group.num_columns))
        if column.physical_type in {"DOUBLE", "FLOAT"}
        and (stated := column.statistics) is not None
        and stated.has_min_max
    }
    if not suspect:
        return []
    floats = float_columns(parquet.schema_arrow)
    found = NanColumns(floats)
    for batch in parquet.iter_batches(columns=floats):
        found.add(pa.table(batch))
    return sorted(suspect & found.paths)


def float_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold floating-point numbers, nested ones too."""
    return [field.name for field in schema if _floats(field.type)]


def _floats(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_floats(kind.field(at).type) for at in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))


def _holds_nan(values: pa.Array) -> bool:
    return pa.types.is_floating(values.type) and bool(pc.any(pc.is_nan(values)).as_py())


def _paths(path: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_map(kind):
        yield from _paths(f"{path}.key_value.key", kind.key_type)
        yield from _paths(f"{path}.key_value.value", kind.item_type)
    elif pa.types.is_list(kind):
        yield from _paths(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _paths(f"{path}.{field.name}", field.type)
    else:
        yield path


def stated_range(parquet: pq.ParquetFile, column: str) -> tuple[int, int] | None:
    """Return the lowest and highest epoch ms of a column by its statistics; None if they do not cover all rows.

    Args:
        parquet: A file.
        column: A column of milliseconds: 64-bit integers, or timestamps of UTC.

    Raises:
        KeyError: The file has no such column.
    """
    groups = [parquet.metadata.row_group(number) for number in range(parquet.metadata.num_row_groups)]
    if not groups:
        return None
    places = (at for at in range(groups[0].num_columns) if groups[0].column(at).path_in_schema == column)
    place = next(places, None)
    if place is None:
        raise KeyError(f"no column {column}")
    found = [group.column(place).statistics for group in groups]
    stated = [each for each in found if each is not None and each.has_min_max and each.has_null_count]
    if len(stated) < len(found) or any(each.null_count for each in stated):
        return None
    kind = stated[0]
    if kind.physical_type != "INT64" or (kind.converted_type, kind.logical_type.type) not in _MILLISECONDS:
        return None
    return min(each.min_raw for each in stated), max(each.max_raw for each in stated)

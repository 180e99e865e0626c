"""Committed files as one SQL SELECT with exact rows, columns and types."""

# Files are named one by one, so that no other file is read. Files with the same columns are one scan, for which
# DuckDB opens one file to plan. Path columns come from the path below the lake's root only.

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.evolution import unify_versions
from ksql_lake.lake.files.sql_values import sql_files, sql_name, sql_text, sql_type
from ksql_lake.lake.layout import Kind
from ksql_lake.schema import Column, Primitive, Schema, alike_fields, parse_schema

if TYPE_CHECKING:
    import duckdb

PATH_COLUMNS: Mapping[Kind, Mapping[str, str]] = {
    "stream": {"year": "INTEGER", "month": "INTEGER", "day": "INTEGER"},
    "table": {"version": "VARCHAR"},
}
"""Columns of the path, and the types as which they are read."""

_BEFORE_ANY_EXPORT: Mapping[Kind, Schema] = {
    "stream": Schema((Column("ROWTIME", Primitive.TIMESTAMP),)),
    "table": Schema(()),
}
"""The columns of a feed before its first rows."""

FOLDERS: Mapping[Kind, str] = {
    "stream": "year=([0-9]+)/month=([0-9]+)/day=([0-9]+)",
    "table": "version=(v[0-9]+)",
}
"""Regular expressions of a partition's folder, with a group for each path column."""

Held = Mapping[str, str]
"""Column of the answer -> column of the file, for each column of the file."""


def spilling(spill: Path, limit: str | None, threads: int) -> duckdb.DuckDBPyConnection:
    """Open a new connection in memory, in UTC, which keeps no order of rows.

    Args:
        spill: Folder for temporary files; made when needed.
        limit: Memory limit as DuckDB writes it; None is DuckDB's own, 80 % of the machine's memory.
        threads: How many threads it may use.
    """
    import duckdb  # noqa: PLC0415 - most exports compare nothing, and small ones would wait for it

    connection = duckdb.connect()
    if limit is not None:
        connection.execute(f"SET memory_limit = '{limit}'")
    connection.execute(f"SET threads = {threads}")
    connection.execute(f"SET temp_directory = {sql_text(str(spill))}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def unified_columns(state: FeedState, partitions: Collection[str] | None = None) -> tuple[Schema, list[Held]]:
    """Return the columns of `committed_rows` without path columns, and their names in each kind of file."""
    return _unified(state, _shapes(state, partitions))


def committed_rows(
    state: FeedState, address: Callable[[str], str], *, partitions: Collection[str] | None = None
) -> str:
    """Return a SELECT of committed rows: the unified columns in their order, then the path columns.

    The columns are those of the chosen partitions. Without any file it is a typed SELECT of no rows.

    Args:
        state: What is committed and in place.
        address: Returns DuckDB's address of a file whose path is relative to the dataset folder.
        partitions: Which partitions; None means all.
    """
    shapes = _shapes(state, partitions)
    columns, names = _unified(state, shapes)
    scans = [
        _scan(state.kind, columns, parse_schema(shape), mapped, [address(file.path) for file in files])
        for (shape, files), mapped in zip(shapes.items(), names, strict=True)
    ]
    return "\nUNION ALL\n".join(scans) if scans else _no_rows(state.kind, columns)


def _shapes(state: FeedState, partitions: Collection[str] | None) -> dict[str, list[FileEntry]]:
    """Return the files by their own columns, the oldest first."""
    shapes: dict[str, list[FileEntry]] = {}
    for file in state.files():
        if partitions is None or file.partition in partitions:
            shapes.setdefault(state.shape_text(file), []).append(file)
    return shapes


def _unified(state: FeedState, shapes: Iterable[str]) -> tuple[Schema, list[Held]]:
    parsed = [parse_schema(shape) for shape in shapes]
    if state.kind == "stream" or not parsed:
        columns = state.columns or _BEFORE_ANY_EXPORT[state.kind]
        return columns, [{name: name for name in shape.names} for shape in parsed]
    columns, named = unify_versions(parsed)
    return columns, [{lake: own for own, lake in names.items()} for names in named]


def _scan(kind: Kind, columns: Schema, shape: Schema, names: Held, paths: Sequence[str]) -> str:
    held = {column.name: column.type for column in shape}
    listed = []
    for column in columns:
        own = names.get(column.name)
        value = "NULL" if own is None else sql_name(own)
        if (alike := alike_fields(column.type, column.name)) is not None:
            # Files of an older release: DuckDB would return one field for the other.
            refusal = (
                f"fields {alike[0]} and {alike[1]} differ only in case; read them with read_{kind}(as_='arrow')"
            )
            value = "NULL" if own is None else f"error({sql_text(refusal)})"
            listed.append(f"{value} AS {sql_name(column.name)}")
            continue
        if own is None or held[own] != column.type:
            value = f"CAST({value} AS {sql_type(column.type)})"
        listed.append(value if value == sql_name(column.name) else f"{value} AS {sql_name(column.name)}")
    options, found = path_terms(kind, paths[0].rsplit("/", len(PATH_COLUMNS[kind]) + 1)[0], shape.names)
    return f"SELECT {', '.join([*listed, *found])}\nFROM read_parquet({sql_files(paths)}, {options})"


def path_terms(kind: Kind, dataset: str, names: Iterable[str]) -> tuple[str, list[str]]:
    """Return the options of `read_parquet` and the select terms for the path columns.

    DuckDB makes a column `x` of every folder called `x=y`, also above the lake, and prefers it to the file's
    column. Below such a folder the path columns are cut from the file name instead; DuckDB skips files by a
    filter on them too, but not by a join.

    Args:
        kind: The feed's kind.
        dataset: The full path of its dataset folder.
        names: Columns of the files.
    """
    if "=" not in dataset:
        return f"hive_partitioning = true, hive_types = {hive_types(kind)}", list(PATH_COLUMNS[kind])
    name = free_name("ksql_lake_file", names)
    found = [
        f"CAST(regexp_extract({name}, '{FOLDERS[kind]}/[^/]*$', {number}) AS {of}) AS {column}"
        for number, (column, of) in enumerate(PATH_COLUMNS[kind].items(), start=1)
    ]
    return f"hive_partitioning = false, filename = '{name}'", found


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """Return a name that no column has in any case of letters."""
    known = {name.casefold() for name in taken}
    while wanted.casefold() in known:
        wanted += "_"
    return wanted


def hive_types(kind: Kind) -> str:
    """Return the value of DuckDB's option `hive_types` for feeds of a kind."""
    return f"{{{', '.join(f'{sql_text(name)}: {of}' for name, of in PATH_COLUMNS[kind].items())}}}"


def _no_rows(kind: Kind, columns: Schema) -> str:
    typed = [f"CAST(NULL AS {sql_type(column.type)}) AS {sql_name(column.name)}" for column in columns]
    typed += [f"CAST(NULL AS {of}) AS {name}" for name, of in PATH_COLUMNS[kind].items()]
    return f"SELECT {', '.join(typed)} WHERE false"

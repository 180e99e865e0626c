"""One feed as SQL views: pure text, made from the feed and what is committed of it.

A base view names its files one by one and gives every column the feed's unified type, so that it is exact
whatever other processes commit meanwhile, and cheap to open: files of the same columns are one scan, of which
DuckDB opens a single file to plan, and reads only those whose path columns fit. Views derived from these (what
changed between versions) name the base views and no files. It refuses to read anything itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ksql_lake.lake import FileEntry
from ksql_lake.query.changes import change_views
from ksql_lake.query.types import duckdb_type
from ksql_lake.query.view import Builder, Committed, View
from ksql_lake.schema import Schema

HIVE_TYPES = {
    "stream": {"year": "INTEGER", "month": "INTEGER", "day": "INTEGER"},
    "table": {"version": "VARCHAR"},
}


DERIVED: tuple[Builder, ...] = (change_views,)
"""Makers of views over a feed's base views, `NAME` and for a table `NAME_versions`, which their SQL names.

Each is asked for every feed that was ever exported and gives no views for feeds that it has none for.
"""


def lake_views(committed: Committed) -> list[View]:
    """Give a feed's views, base views first; none before its first export.

    A stream `NAME` has the view `NAME`. A table has `NAME`, its latest version, and `NAME_versions`, all.
    """
    if committed.state.columns is None:
        return []
    return [*_base(committed), *(view for build in DERIVED for view in build(committed))]


def rows_sql(committed: Committed, *, partitions: Collection[str] | None = None) -> str:
    """Give a SELECT of committed rows: unified columns, then path columns; `partitions` None means all."""
    state = committed.state
    columns = state.columns
    assert columns is not None  # noqa: S101 - asked only of feeds that have rows
    files = [file for file in state.files() if partitions is None or file.partition in partitions]
    shapes: dict[str, list[FileEntry]] = {}
    for file in files:
        shapes.setdefault(state.shape(file).text, []).append(file)
    scans = [
        _scan(committed, columns, state.shape(group[0]), [file.path for file in group])
        for group in shapes.values()
    ]
    return "\nUNION ALL\n".join(scans) if scans else _nothing(committed, columns)


def quoted(name: str) -> str:
    """Give a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Give a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _base(committed: Committed) -> list[View]:
    feed, state = committed.feed, committed.state
    if feed.kind == "stream":
        return [View(feed.name, rows_sql(committed), feed.description or f"stream {feed.source}")]
    newest = state.partition_keys()[-1:]
    about = feed.description or f"table {feed.source}"
    return [
        View(feed.name, rows_sql(committed, partitions=newest), f"{about} (the latest version)"),
        View(f"{feed.name}_versions", rows_sql(committed), f"{about} (all kept versions)"),
    ]


def _scan(committed: Committed, columns: Schema, shape: Schema, paths: Iterable[str]) -> str:
    held = {column.name: column.type for column in shape}
    listed = [
        quoted(column.name)
        if held.get(column.name) == column.type
        else f"CAST({quoted(column.name) if column.name in held else 'NULL'} AS {duckdb_type(column.type)}) "
        f"AS {quoted(column.name)}"
        for column in columns
    ]
    hive = HIVE_TYPES[committed.feed.kind]
    kinds = ", ".join(f"{text(name)}: {kind}" for name, kind in hive.items())
    files = ", ".join(text(committed.address(path)) for path in paths)
    return (
        f"SELECT {', '.join([*listed, *hive])} FROM read_parquet([{files}], hive_partitioning = true, "
        f"hive_types = {{{kinds}}})"
    )


def _nothing(committed: Committed, columns: Schema) -> str:
    typed = [f"CAST(NULL AS {duckdb_type(column.type)}) AS {quoted(column.name)}" for column in columns]
    hive = HIVE_TYPES[committed.feed.kind]
    typed += [f"CAST(NULL AS {kind}) AS {name}" for name, kind in hive.items()]
    return f"SELECT {', '.join(typed)} WHERE false"

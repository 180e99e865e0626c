"""Committed files to readers: exactly what the manifests say, typed by the unified columns.

Plain readers may glob the dataset folder instead and see the same rows; what this adds is one typed answer
across files written before and after a schema change, and partition columns as the integers they are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from ksql_lake.errors import LakeError, VersionError
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.manifest import FileEntry
from ksql_lake.lake.state import FeedState
from ksql_lake.lake.storage import Storage
from ksql_lake.schema import arrow_schema

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PARTITION_COLUMNS = {
    "stream": pa.schema([("year", pa.int32()), ("month", pa.int32()), ("day", pa.int32())]),
    "table": pa.schema([("version", pa.string())]),
}
HIVE_TYPES = {
    "stream": {"year": "INTEGER", "month": "INTEGER", "day": "INTEGER"},
    "table": {"version": "VARCHAR"},
}


def dataset(
    storage: Storage, layout: FeedLayout, state: FeedState, *, partitions: Collection[str] | None = None
) -> ds.Dataset:
    """Give a lazy dataset over committed files, partition columns included.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        state: The feed's state.
        partitions: Which partitions; None means all.

    Raises:
        LakeError: Nothing was ever exported, so there are no columns to give.
        VersionError: A table's version is not there, e.g. because retention removed it.
    """
    # It brings pandas along, a good part of every command's start, and only whoever reads rows needs it.
    import pyarrow.dataset as ds  # noqa: PLC0415

    schema = _columns(layout, state)
    keys = [layout.data(file.path) for file in _files(layout, state, partitions)]
    hive = PARTITION_COLUMNS[layout.kind]
    full = pa.schema([*schema, *hive])
    if not keys:
        return ds.dataset(full.empty_table())
    (base, *paths), filesystem = storage.arrow_paths([layout.dataset, *keys])
    return ds.dataset(
        paths,
        schema=full,
        format="parquet",
        partitioning=ds.partitioning(hive, flavor="hive"),
        partition_base_dir=base,
        filesystem=filesystem,
    )


def relation(
    connection: duckdb.DuckDBPyConnection,
    storage: Storage,
    layout: FeedLayout,
    state: FeedState,
    *,
    partitions: Collection[str] | None = None,
) -> duckdb.DuckDBPyRelation:
    """Give a lazy DuckDB relation over committed files, partition columns as integers.

    Raises:
        LakeError: Nothing was ever exported, so there are no columns to give.
        VersionError: A table's version is not there, e.g. because retention removed it.
    """
    paths = [storage.uri(layout.data(file.path)) for file in _files(layout, state, partitions)]
    if not paths:
        empty = dataset(storage, layout, state, partitions=()).to_table()
        return connection.from_arrow(empty)
    storage.attach(connection)
    kinds = ", ".join(f"'{name}': {kind}" for name, kind in HIVE_TYPES[layout.kind].items())
    files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return connection.sql(
        f"SELECT * FROM read_parquet([{files}], union_by_name = true, hive_partitioning = true, "
        f"hive_types = {{{kinds}}})"
    )


def _columns(layout: FeedLayout, state: FeedState) -> pa.Schema:
    columns = state.columns
    if columns is None:
        raise LakeError(
            "nothing was exported yet",
            hint=f"Run `ksql-lake export --{layout.kind} {layout.name}` first.",
            feed=layout.name,
        )
    return arrow_schema(columns)


def _files(layout: FeedLayout, state: FeedState, partitions: Collection[str] | None) -> list[FileEntry]:
    wanted = None if partitions is None else set(partitions)
    gone = sorted((wanted or set()) - set(state.partitions))
    # A day without rows is an empty answer; a version that is not there would be a wrong one.
    if gone and layout.kind == "table":
        kept = ", ".join(state.partition_keys()) or "none"
        raise VersionError(
            f"version {', '.join(gone)} is not in the lake", hint=f"There are {kept}.", feed=layout.name
        )
    return [file for file in state.files() if wanted is None or file.partition in wanted]

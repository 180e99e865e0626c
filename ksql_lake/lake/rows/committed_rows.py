"""Read the committed files that the manifests list, in the unified columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from ksql_lake.errors import LakeError, SchemaChangeError, VersionError
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.rows.scan import committed_rows, unified_columns
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.schema import Schema, arrow_schema

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

PARTITION_COLUMNS = {
    "stream": pa.schema([("year", pa.int32()), ("month", pa.int32()), ("day", pa.int32())]),
    "table": pa.schema([("version", pa.string())]),
}


def dataset(
    storage: Storage,
    layout: FeedLayout,
    state: FeedState,
    *,
    partitions: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
) -> ds.Dataset:
    """Return a lazy dataset over committed files, partition columns included.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        state: The feed's state; every file of it is in place.
        partitions: Which partitions; None means all.
        columns: Which columns, in this order; None means all.

    Raises:
        LakeError: The feed was never exported, so it has no columns.
        SchemaChangeError: The columns of several versions of a table cannot be unified.
        VersionError: A table's version is not in the lake, e.g. because retention removed it.
    """
    # It imports pandas, which takes much of a command's start, and only reading rows needs it.
    import pyarrow.dataset as ds  # noqa: PLC0415

    keys = [layout.data(file.path) for file in _files(layout, state, partitions)]
    hive = PARTITION_COLUMNS[layout.kind]
    schema = pa.schema([*arrow_schema(_columns(layout, state, partitions)), *hive])
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    if not keys:
        return ds.dataset(schema.empty_table())
    (base, *paths), filesystem = storage.arrow_paths([layout.dataset, *keys])
    return ds.dataset(
        paths,
        schema=schema,
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
    """Return a lazy DuckDB relation over committed files, partition columns as integers.

    Raises:
        LakeError: The feed was never exported, so it has no columns.
        VersionError: A table's version is not in the lake, e.g. because retention removed it.
    """
    _check_exported(layout, state)
    _files(layout, state, partitions)
    storage.attach(connection)
    rows = committed_rows(state, lambda path: storage.uri(layout.data(path)), partitions=partitions)
    return connection.sql(rows)


def _columns(layout: FeedLayout, state: FeedState, partitions: Collection[str] | None) -> Schema:
    _check_exported(layout, state)
    columns, held = unified_columns(state, partitions)
    apart = sorted({lake for names in held for lake, own in names.items() if lake != own})
    if apart:
        raise SchemaChangeError(
            f"its versions hold columns of one name that cannot be read as one: {', '.join(apart)}",
            hint=f"Read one version at a time, or `FROM {layout.name}_versions` with `ksql-lake sql`.",
            feed=layout.name,
        )
    return columns


def _check_exported(layout: FeedLayout, state: FeedState) -> None:
    if state.columns is None:
        raise LakeError(
            "nothing was exported yet",
            hint=f"Run `ksql-lake export --{layout.kind} {layout.name}` first.",
            feed=layout.name,
        )


def _files(layout: FeedLayout, state: FeedState, partitions: Collection[str] | None) -> list[FileEntry]:
    wanted = None if partitions is None else set(partitions)
    gone = sorted((wanted or set()) - set(state.partitions))
    # A day without rows is a correct, empty answer; an empty answer for a missing version would be wrong.
    if gone and layout.kind == "table":
        kept = ", ".join(state.partition_keys()) or "none"
        raise VersionError(
            f"version {', '.join(gone)} is not in the lake", hint=f"There are {kept}.", feed=layout.name
        )
    return [file for file in state.files() if wanted is None or file.partition in wanted]

"""Committed rows as each Python engine's type; all except pandas are lazy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ksql_lake.errors import ConfigError
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.lake.rows import committed_rows
from ksql_lake.lake.rows.scan import FOLDERS, PATH_COLUMNS, free_name
from ksql_lake.query.event_range import EventRange
from ksql_lake.query.sql.connection import blank_connection

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a feed to read.

    Attributes:
        lake: The feed's lake.
        state: The state at a commit.
        partitions: The partitions.
        columns: The columns in their order; None means all.
        events: The range of event times; None means all.
        more: Further rows that are only parts of files, with all columns.
    """

    lake: FeedLake
    state: FeedState
    partitions: Sequence[str]
    columns: Sequence[str] | None = None
    events: EventRange | None = None
    more: pa.Table | None = None

    @property
    def paths(self) -> list[str]:
        """The paths of their files."""
        wanted = set(self.partitions)
        return [self.lake.address(file.path) for file in self.state.files() if file.partition in wanted]


def arrow_dataset(rows: Rows) -> ds.Dataset:
    """Return a pyarrow dataset, which reads rows when it is scanned.

    One exception: a range of event times whose columns are not selected is read at once.
    """
    import pyarrow.dataset as ds  # noqa: PLC0415 - it brings pandas along

    lake, wanted = rows.lake, rows.columns
    if wanted is not None and rows.events is not None:
        wanted = list(dict.fromkeys([*wanted, *rows.events.columns]))
    found = committed_rows.dataset(
        lake.storage, lake.layout, rows.state, partitions=rows.partitions, columns=wanted
    )
    if rows.more is not None:
        more = rows.more.select(found.schema.names).cast(found.schema)
        found = ds.dataset([found, ds.dataset(more)]) if rows.paths else ds.dataset(more)
    if rows.events is not None:
        found = found.filter(rows.events.arrow(found.schema))
        if rows.columns is not None and list(wanted or ()) != list(rows.columns):
            named: Any = {name: ds.field(name) for name in rows.columns}
            found = ds.dataset(found.to_table(columns=named))
    return found


def pandas_frame(rows: Rows) -> pd.DataFrame:
    """Return a DataFrame, read at once, with Arrow's types, which hold NULLs without losing digits."""
    import pandas as pd  # noqa: PLC0415 - the other engines do without it

    frame: pd.DataFrame = arrow_dataset(rows).to_table().to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def duckdb_relation(rows: Rows) -> duckdb.DuckDBPyRelation:
    """Return a DuckDB relation in a new connection, which reads rows when they are fetched."""
    lake = rows.lake
    connection = blank_connection(lake.storage)
    relation = committed_rows.relation(
        connection, lake.storage, lake.layout, rows.state, partitions=rows.partitions
    )
    if rows.more is not None:
        relation = relation.union(connection.from_arrow(rows.more))
    if rows.events is not None:
        relation = relation.filter(rows.events.sql(rows.state))
    return relation if rows.columns is None else relation.project(", ".join(map(sql_name, rows.columns)))


def polars_frame(rows: Rows) -> pl.LazyFrame:
    """Return a polars LazyFrame, which reads rows when it is collected."""
    try:
        import polars as pl  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigError(
            "the package polars is not installed", hint="Install it: pip install 'ksql-lake[polars]'"
        ) from None
    schema = arrow_dataset(Rows(rows.lake, rows.state, rows.partitions)).schema
    empty = pl.DataFrame(pl.from_arrow(schema.empty_table()))
    frame = _polars_scan(rows, empty) if rows.paths else empty.lazy()
    if rows.more is not None:
        frame = pl.concat([frame, pl.DataFrame(pl.from_arrow(rows.more.cast(schema))).lazy()])
    if rows.events is not None:
        frame = frame.filter(rows.events.polars(schema))
    return frame if rows.columns is None else frame.select(rows.columns)


def _polars_scan(rows: Rows, empty: pl.DataFrame) -> pl.LazyFrame:
    """Return a scan of the files; `empty` has the columns and their types."""
    import polars as pl  # noqa: PLC0415 - an extra

    kind = rows.lake.layout.kind
    hive = set(committed_rows.PARTITION_COLUMNS[kind].names)
    own = {name: of for name, of in empty.schema.items() if name not in hive}
    # polars reads every folder named `x=y` as a column, also those above the lake.
    marked = "=" in rows.lake.dataset_path
    file = free_name("ksql_lake_file", empty.columns)
    frame = pl.scan_parquet(
        rows.paths,
        glob=False,
        schema=own,
        hive_partitioning=not marked,
        hive_schema=None if marked else {name: of for name, of in empty.schema.items() if name in hive},
        include_file_paths=file if marked else None,
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(integer_cast="upcast", missing_struct_fields="insert"),
    )
    if not marked:
        return frame
    found = [
        pl.col(file).str.extract(f"{FOLDERS[kind]}/[^/]*$", number).cast(empty.schema[name]).alias(name)
        for number, name in enumerate(PATH_COLUMNS[kind], start=1)
    ]
    return frame.with_columns(found).select(empty.columns)


ENGINES: Mapping[str, Callable[[Rows], Any]] = {
    "pandas": pandas_frame,
    "arrow": arrow_dataset,
    "duckdb": duckdb_relation,
    "polars": polars_frame,
}
"""Value of `as_` -> its engine."""

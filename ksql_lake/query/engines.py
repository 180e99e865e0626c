"""Committed rows as what each Python engine calls its own: lazy but for pandas, exact in all of them.

Only the files of the asked partitions are named, so an engine has nothing to prune that was not asked for; what
it filters by path columns later, it prunes by itself. It refuses conversions that could change a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ksql_lake.errors import ConfigError
from ksql_lake.lake import FeedLake, FeedState, reader
from ksql_lake.lake.equality import sql_name
from ksql_lake.lake.scan import FOLDERS, PATH_COLUMNS, free_name
from ksql_lake.query.connection import blank_connection

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a feed: partitions of one commit, and columns in their order (None: all)."""

    lake: FeedLake
    state: FeedState
    partitions: Sequence[str]
    columns: Sequence[str] | None

    @property
    def paths(self) -> list[str]:
        """Where their files are."""
        wanted = set(self.partitions)
        return [self.lake.address(file.path) for file in self.state.files() if file.partition in wanted]


def arrow_dataset(rows: Rows) -> ds.Dataset:
    """Give a pyarrow dataset; nothing is read before it is scanned."""
    lake = rows.lake
    return reader.dataset(
        lake.storage, lake.layout, rows.state, partitions=rows.partitions, columns=rows.columns
    )


def pandas_frame(rows: Rows) -> pd.DataFrame:
    """Give a DataFrame, read at once; columns are of Arrow's types, which hold NULLs without losing digits."""
    import pandas as pd  # noqa: PLC0415 - the other engines do without it

    frame: pd.DataFrame = arrow_dataset(rows).to_table().to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def duckdb_relation(rows: Rows) -> duckdb.DuckDBPyRelation:
    """Give a DuckDB relation in a connection of its own; nothing is read before it is asked for rows."""
    lake = rows.lake
    relation = reader.relation(
        blank_connection(lake.storage), lake.storage, lake.layout, rows.state, partitions=rows.partitions
    )
    return relation if rows.columns is None else relation.project(", ".join(map(sql_name, rows.columns)))


def polars_frame(rows: Rows) -> pl.LazyFrame:
    """Give a polars LazyFrame; nothing is read before it is collected."""
    try:
        import polars as pl  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ConfigError(
            "the package polars is not installed", hint="Install it: pip install 'ksql-lake[polars]'"
        ) from None
    schema = arrow_dataset(Rows(rows.lake, rows.state, rows.partitions, None)).schema
    empty = pl.DataFrame(pl.from_arrow(schema.empty_table()))
    frame = _polars_scan(rows, empty) if rows.paths else empty.lazy()
    return frame if rows.columns is None else frame.select(rows.columns)


def _polars_scan(rows: Rows, empty: pl.DataFrame) -> pl.LazyFrame:
    """Scan the files; `empty` has the columns and their types."""
    import polars as pl  # noqa: PLC0415 - an extra

    kind = rows.lake.layout.kind
    hive = set(reader.PARTITION_COLUMNS[kind].names)
    own = {name: of for name, of in empty.schema.items() if name not in hive}
    # polars takes every folder called `x=y` for a column, those above the lake too.
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
"""What `as_` may say."""

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
    frame = empty.lazy()
    if rows.paths:
        hive = set(reader.PARTITION_COLUMNS[rows.lake.layout.kind].names)
        frame = pl.scan_parquet(
            rows.paths,
            glob=False,
            schema={name: kind for name, kind in empty.schema.items() if name not in hive},
            hive_partitioning=True,
            hive_schema={name: kind for name, kind in empty.schema.items() if name in hive},
            missing_columns="insert",
            cast_options=pl.ScanCastOptions(integer_cast="upcast", missing_struct_fields="insert"),
        )
    return frame if rows.columns is None else frame.select(rows.columns)


ENGINES: Mapping[str, Callable[[Rows], Any]] = {
    "pandas": pandas_frame,
    "arrow": arrow_dataset,
    "duckdb": duckdb_relation,
    "polars": polars_frame,
}
"""What `as_` may say."""

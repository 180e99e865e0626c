"""Moments before the year 1 and after 9999, which Python's datetime cannot hold, in every reader."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from pyiceberg.table import StaticTable

from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake.doctor import examine
from ksql_lake.register import register
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import stream_feed

FAR = [
    -9_199_999_999_999_999,
    -62_170_156_800_000,
    -62_135_596_800_001,
    253_402_300_800_000,
    2_534_023_008_000_000,
    9_199_999_999_999_999,
]
MIDDAY = 1_736_942_400_000
MICRO = pa.timestamp("us", tz="UTC")


def numbers(table: pa.Table) -> list[int]:
    """The moments of a table in milliseconds."""
    micro: list[int] = table.column("AT").cast(MICRO).cast(pa.int64()).to_pylist()
    return sorted(value // 1000 for value in micro)


def test_far_moments_are_the_same_number_in_every_reader(tmp_path: Path) -> None:
    """DuckDB, Polars, pandas, Delta and Iceberg agree to the millisecond, and doctor finds the lake sound."""
    schema = parse_schema("`ROWTIME` TIMESTAMP, `AT` TIMESTAMP, `S` STRUCT<`AT` TIMESTAMP>")
    kind = pa.timestamp("ms", tz="UTC")
    moments = pa.array(FAR, kind)
    times = pa.array([MIDDAY + number for number in range(len(FAR))], kind)
    nested = pa.StructArray.from_arrays([moments], names=["AT"])
    lake = Lake(tmp_path).feed(stream_feed())
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    day = date(2025, 1, 15)
    with lake.stage(schema, read=read, days=(day, day)) as staging:
        staging.write(pa.RecordBatch.from_arrays([times, moments, nested], schema=arrow_schema(schema)))
        staging.commit()
    files = [str(path) for path in tmp_path.glob("streams/**/*.parquet")]

    assert examine(lake.storage, lake.layout).sound
    for form in ("delta", "iceberg"):
        register(lake.storage, lake.layout, form)
    assert numbers(DeltaTable(lake.storage.uri(lake.layout.index("delta"))).to_pyarrow_table()) == FAR
    assert (
        numbers(StaticTable.from_metadata(lake.storage.uri(lake.layout.index("iceberg"))).scan().to_arrow())
        == FAR
    )
    asked = f'SELECT epoch_ms("AT"), epoch_ms(S."AT") FROM read_parquet({files}) ORDER BY "AT"'
    assert duckdb.execute(asked).fetchall() == [(value, value) for value in FAR]
    assert sorted(pl.read_parquet(files)["AT"].cast(pl.Int64).to_list()) == FAR
    assert sorted(pd.read_parquet(files[0], columns=["AT"])["AT"].astype("int64").to_list()) == FAR
    # A STRUCT becomes Python's own objects, unless pandas leaves it to Arrow.
    assert len(pd.read_parquet(files[0], dtype_backend="pyarrow")) == len(FAR)

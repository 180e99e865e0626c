"""Spark reads the lake's folders: every type, columns that changed, several versions, only what it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ksql_lake import read_stream
from ksql_lake.lake import Lake
from ksql_lake.lake.rows.scan import unified_columns
from ksql_lake.query.sql.dialects import ddl
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct
from ksql_lake_tests.lake.landing import stream_feed, table_feed
from ksql_lake_tests.query.lakes import EveryType, comparable
from ksql_lake_tests.query.spark import collected, files_read, spark

_NAMES = {Primitive.BYTES: "BINARY", Primitive.INTEGER: "INT", Primitive.TIME: "TIME(6)"}


def spark_type(kind: KsqlType) -> str:
    """Return Spark's name of a type."""
    match kind:
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
        case Array(element):
            return f"ARRAY<{spark_type(element)}>"
        case Map(key, value):
            return f"MAP<{spark_type(key)}, {spark_type(value)}>"
        case Struct(fields):
            return f"STRUCT<{', '.join(f'`{name}`: {spark_type(inner)}' for name, inner in fields)}>"
        case _:
            return _NAMES.get(kind, kind.text)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> EveryType:
    """A lake with every type."""
    return EveryType.make(tmp_path_factory.mktemp("every"))


def ours(every: EveryType, *days: str) -> list[dict[str, Any]]:
    """The rows of some days as our own reader gives them."""
    rows = read_stream("events", *days, as_="arrow", root=every.lake, feeds=every.feeds).to_table()
    return list(rows.to_pylist(maps_as_pydicts="strict"))


def test_every_type_has_its_value(every: EveryType) -> None:
    """Files as they are, with no schema given: numbers, texts, times and nested values are ours."""
    for day in ("2025-01-15", "2025-01-17"):
        year, month, number = day.split("-")
        path = f"{every.lake}/streams/events/year={year}/month={month}/day={number}"
        frame = spark().read.option("basePath", f"{every.lake}/streams/events").parquet(path)
        found = collected(frame)
        expected = [{name: row[name] for name in found[0]} for row in ours(every, day, day)]
        if day == "2025-01-15":  # from before the columns changed: the STRUCTs have fewer fields
            for row in expected:
                row["N"] = row["N"] and {"x": row["N"]["x"], "inner": {"s": row["N"]["inner"]["s"]}}
                row["SS"] = row["SS"] and [each and {"sku": each["sku"], "n": each["n"]} for each in row["SS"]]

        assert comparable(found) == comparable(expected)


def test_columns_that_changed_with_the_wide_schema(every: EveryType) -> None:
    """Given the unified types, Spark reads old and new files as one, every digit kept."""
    columns, _ = unified_columns(Lake(every.lake).feed(stream_feed()).published())
    names = [column.name for column in columns]
    listed = ", ".join(f"`{column.name}` {spark_type(column.type)}" for column in columns)
    frame = spark().read.schema(listed).parquet(f"{every.lake}/streams/events")

    expected = [{name: row[name] for name in [*names, "year", "month", "day"]} for row in ours(every)]
    assert comparable(collected(frame)) == comparable(expected)


def test_a_month_opens_the_files_of_a_month(every: EveryType) -> None:
    """The plan filters partitions, and the scan counts no other files."""
    frame = spark().read.schema("L BIGINT").parquet(f"{every.lake}/streams/events")
    month = frame.where("year = 2025 AND month = 2")

    filters = re.search(r"PartitionFilters: \[(.*?)\]", month._jdf.queryExecution().toString())
    assert filters is not None
    assert "month" in filters.group(1)
    assert files_read(month) == 1
    assert files_read(frame) == len(list(Path(every.lake, "streams").rglob("*.parquet")))


def test_versions_of_a_table(every: EveryType) -> None:
    """Each version is there once, by its own name, and one of them opens one file."""
    frame = spark().read.parquet(f"{every.lake}/tables/users")

    counts = {row["version"]: row["count"] for row in frame.groupBy("version").count().collect()}
    assert counts == {
        "v3": 3,
        "v4": 4,
        "v5": 5,
    }
    assert files_read(frame.where("version = 'v4'")) == 1
    assert dict(frame.dtypes)["version"] == "string"


def test_the_ddl_of_schema_makes_tables(every: EveryType) -> None:
    """What `ksql-lake schema --dialect spark` prints runs as it is, and its tables hold our rows."""
    lake = Lake(every.lake)
    session = spark()
    for feed in (stream_feed(), table_feed()):
        text = re.sub(r"^--.*$", "", ddl(lake.feed(feed), "spark"), flags=re.MULTILINE)
        for statement in filter(None, map(str.strip, text.split(";"))):
            session.sql(statement)
    try:
        streamed = session.table("events")
        found = collected(streamed)
        names = [name for name, kind in streamed.dtypes if kind != "time(6)"]
        expected = [{name: row[name] for name in names} for row in ours(every)]
        assert comparable([{name: row[name] for name in names} for row in found]) == comparable(expected)
        assert session.sql("SELECT count(*) FROM users WHERE version = 'v4'").collect()[0][0] == 4
    finally:
        for name in ("events", "users"):
            session.sql(f"DROP TABLE IF EXISTS {name}")

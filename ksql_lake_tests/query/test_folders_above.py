"""A folder above the lake may have any name: it is neither a column of the rows nor a pattern of folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from ksql_lake import connect, read_stream, read_table
from ksql_lake.errors import CorruptLakeError
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.query.page import duckdb_snippet
from ksql_lake.query.sql.database_file import write_catalog
from ksql_lake.report.agreement import cross_check
from ksql_lake.report.lake_facts import MetadataReader
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.query.test_reading import ENGINES, listed

SCHEMA = parse_schema(
    "`ROWTIME` TIMESTAMP, `ID` BIGINT, `TENANT` BIGINT, `tenant_` STRING, `KSQL_LAKE_FILE` BIGINT"
)
USERS = parse_schema("`ID` BIGINT KEY, `TENANT` BIGINT")
FOLDERS = [
    "TENANT=acme",
    "tenant=acme",
    "foo=bar",
    "month=13",
    "version=v9",
    "a/year=1/month=2/day=3/b",
    "plain",
]


OWN = {"TENANT": 7, "tenant_": "t", "KSQL_LAKE_FILE": 5}


def _made(root: Path) -> Path:
    """Land a row in each of two days, and two versions of a table."""
    lake = Lake(root / "lake")
    for feed in (stream_feed(), table_feed()):
        FeedStore(root / "feeds").add(feed)
    rows = [{key: event(day, day=day)[key] for key in ("ROWTIME", "ID")} | OWN for day in range(2)]
    land_rows(lake, stream_feed(), rows, schema=SCHEMA)
    for version in (1, 2):
        land_rows(lake, table_feed(), [{"ID": version, "TENANT": 7}], schema=USERS)
    return root


DAYS = [(0, 7, "t", 5, 2025, 1, 15), (1, 7, "t", 5, 2025, 1, 16)]
COLUMNS = "ID, TENANT, tenant_, KSQL_LAKE_FILE, year, month, day"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_reads_the_columns_of_the_files(tmp_path: Path, folder: str, engine: str) -> None:
    """Values come from the files, and day and version from the path below the lake's root."""
    made = _made(tmp_path / folder)
    where = {"root": made / "lake", "feeds": made / "feeds", "as_": engine}

    rows = listed(read_stream("events", **where))  # type: ignore[arg-type]

    wanted = COLUMNS.split(", ")
    assert sorted(tuple(row[name] for name in wanted) for row in rows) == DAYS
    assert list(rows[0]) == ["ROWTIME", *wanted]
    assert listed(read_table("users", **where)) == [{"ID": 2, "TENANT": 7, "version": "v2"}]  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", FOLDERS)
def test_views_catalogs_and_snippets_read_the_columns_of_the_files(tmp_path: Path, folder: str) -> None:
    """So do `connect`, a catalog for BI tools, and the SQL on a feed's page."""
    made = _made(tmp_path / folder)
    lake = Lake(made / "lake")
    write_catalog(made / "lake.duckdb", root=made / "lake", feeds=made / "feeds")
    connection = connect(made / "lake", made / "feeds")
    catalog = duckdb.connect(str(made / "lake.duckdb"), read_only=True, config={"file_search_path": str(made)})
    for views in (connection, catalog):
        assert views.sql(f"SELECT {COLUMNS} FROM events ORDER BY ID").fetchall() == DAYS
        assert views.sql(f"SELECT {COLUMNS} FROM events WHERE day = 16").fetchall() == DAYS[1:]
        assert views.sql("FROM users").fetchall() == [(2, 7, "v2")]
        assert views.sql("FROM users_versions ORDER BY ID").fetchall() == [(1, 7, "v1"), (2, 7, "v2")]
    plan = connection.execute("EXPLAIN ANALYZE SELECT sum(ID) FROM events WHERE year = 2025 AND day = 16")
    assert "Scanning Files: 1/2" in plan.fetchall()[0][1]
    if folder == "plain":
        return  # the plain form lets DuckDB name the path columns; tested with the pages
    day = duckdb_snippet(lake.feed(table_feed()), "v1").removesuffix(";")
    assert duckdb.connect().execute(f"SELECT ID, TENANT, version FROM ({day})").fetchall() == [(1, 7, "v1")]


@pytest.mark.parametrize("folder", ["lake[12]", "lake?", "l*ke["])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_is_no_pattern(tmp_path: Path, folder: str, engine: str) -> None:
    """Beside copies that such a pattern matches, the named lake alone is read, and an export knows its rows."""
    made = _made(tmp_path / folder)
    for copy in ("lake1", "lake2", "like["):
        shutil.copytree(made, tmp_path / copy)
    row = {key: event(0)[key] for key in ("ROWTIME", "ID")} | OWN
    where = {"root": made / "lake", "feeds": made / "feeds"}

    land_rows(Lake(made / "lake"), stream_feed(), [row, row], schema=SCHEMA)
    found = listed(read_stream("events", as_=engine, **where))  # type: ignore[arg-type]
    assert sorted(row["ID"] for row in found) == [0, 0, 1]
    connection = connect(**where)
    assert connection.sql("SELECT ID FROM events ORDER BY ID").fetchall() == [(0,), (0,), (1,)]
    assert connection.sql("FROM users_versions ORDER BY ID").fetchall() == [(1, 7, "v1"), (2, 7, "v2")]
    assert connection.sql("SELECT version FROM users_changes").fetchall() == [("v2",), ("v2",)]
    reader = MetadataReader(made / "lake")
    agreed = cross_check(reader.storage, reader.connection, reader.list_all_metadata()).check
    assert (agreed.sampled, agreed.disagreements) == (5, ())
    for file in (made / "lake" / "tables").rglob("*.parquet"):
        file.unlink()
    with pytest.raises((duckdb.Error, CorruptLakeError)):
        connection.sql("FROM users").fetchall()


def test_a_catalog_that_moved_below_such_a_folder_says_so(tmp_path: Path) -> None:
    """Moved with its lake to where DuckDB takes a folder for a column, it is an error, never another value."""
    made = _made(tmp_path / "plain")
    write_catalog(made / "lake.duckdb", root=made / "lake", feeds=made / "feeds")
    moved = made.rename(tmp_path / "day_=x")
    catalog = duckdb.connect(
        str(moved / "lake.duckdb"), read_only=True, config={"file_search_path": str(moved)}
    )

    for view in ("events", "users", "users_versions"):
        with pytest.raises(duckdb.Error, match="run ksql-lake catalog again"):
            catalog.sql(f"FROM {view}").fetchall()

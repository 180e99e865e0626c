"""`ksql-lake catalog`: views in a file, read by DuckDB alone."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ksql_lake import connect
from ksql_lake.errors import ConfigError
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import CATALOGS
from ksql_lake.query.sql.database_file import CONTENTS, write_catalog
from ksql_lake.query.sql.followed_catalogs import keep_catalogs, write_followed
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.lake.test_published import Killed, dying
from ksql_lake_tests.query.lakes import EveryType, comparable

COUNTS = (
    "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM users), (SELECT count(*) FROM users_versions)"
)


def written(made: EveryType, path: Path, **options: Any) -> Path:
    """Write the catalog of a lake."""
    write_catalog(path, root=made.lake, feeds=made.feeds, **options)
    return path


def opened(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a catalog as another program would that knows its folder."""
    return duckdb.connect(str(path), read_only=True, config={"file_search_path": str(path.parent)})


def asked(sql: str, path: Path, *, cwd: Path) -> Any:
    """Ask a catalog in a process of its own, started in a folder, with nothing but DuckDB."""
    code = (
        "import duckdb, json, sys; "
        "print(json.dumps(duckdb.connect(sys.argv[1], read_only=True).sql(sys.argv[2]).fetchall()))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, path, sql], cwd=cwd, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout)


@pytest.fixture
def made(tmp_path: Path) -> EveryType:
    """A lake with every type."""
    return EveryType.make(tmp_path / "first")


def test_its_views_are_those_of_connect(made: EveryType) -> None:
    """The same rows, columns and types, in evolved columns too."""
    ours = connect(made.lake, made.feeds)
    theirs = opened(written(made, made.root / "lake.duckdb"))
    theirs.execute("SET TimeZone = 'UTC'")

    for view in ("events", "users", "users_versions"):
        one, other = (connection.sql(f"FROM {view}") for connection in (ours, theirs))
        assert (one.columns, one.types) == (other.columns, other.types)
        one_rows, other_rows = (
            comparable(dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall())
            for answer in (one, other)
        )
        assert one_rows == other_rows


def test_lake_and_catalog_move_together(made: EveryType, tmp_path: Path) -> None:
    """After a move it reads the lake beside it, from its own folder, or given the folder from anywhere."""
    written(made, made.root / "lake.duckdb")
    moved = tmp_path / "elsewhere" / "second"
    shutil.move(made.root, moved)

    assert asked(COUNTS, moved / "lake.duckdb", cwd=moved) == [[40, 5, 12]]
    assert opened(moved / "lake.duckdb").sql(COUNTS).fetchall() == [(40, 5, 12)]


def test_the_full_path_needs_no_setting(made: EveryType, tmp_path: Path) -> None:
    """With `absolute` it reads its lake from any folder, wherever the catalog itself is."""
    path = written(made, tmp_path / "lake.duckdb", absolute=True)

    assert asked(COUNTS, path, cwd=Path("/")) == [[40, 5, 12]]


def test_a_lake_beside_the_catalogs_folder(made: EveryType) -> None:
    """The way from the catalog to the lake may lead upwards."""
    (made.root / "bi" / "deep").mkdir(parents=True)

    assert opened(written(made, made.root / "bi" / "deep" / "c.duckdb")).sql(COUNTS).fetchall() == [(40, 5, 12)]


def test_later_exports_show_up(made: EveryType) -> None:
    """New days, new versions and removed ones are seen by a catalog that was written before."""
    catalog = opened(written(made, made.root / "lake.duckdb"))
    lake = Lake(made.lake)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "new"}, {"ID": 2, "NAME": "new"}])
    lake.feed(table_feed(retention=1)).apply_retention()

    assert catalog.sql("FROM users ORDER BY ID").fetchall() == [(1, "new", "v6"), (2, "new", "v6")]
    assert catalog.sql("SELECT DISTINCT version FROM users_versions").fetchall() == [("v6",)]


def test_an_empty_snapshot_is_the_latest_version(made: EveryType) -> None:
    """A table without rows is shown without rows, not as the version before."""
    land_rows(Lake(made.lake), table_feed(min_ratio_to_previous=0), [])

    assert opened(written(made, made.root / "lake.duckdb")).sql("FROM users").fetchall() == []


@pytest.mark.parametrize("removed", range(3))
def test_a_merge_on_its_way_shows_each_row_once(tmp_path: Path, removed: int) -> None:
    """The merged file and those it replaces lie side by side for a moment, or for a day after a kill."""
    made = EveryType(tmp_path)
    lake = Lake(made.lake)
    for number in range(4):
        land_rows(lake, stream_feed(), [event(number)])
    with pytest.raises(Killed):
        list(dying(made.lake, "remove", after=removed).feed(stream_feed()).compact())

    catalog = opened(written(made, tmp_path / "lake.duckdb"))

    assert len(list(made.lake.rglob("*.parquet"))) == 5 - removed
    assert catalog.sql("SELECT ID FROM events ORDER BY ID").fetchall() == [(0,), (1,), (2,), (3,)]


def test_a_month_opens_the_files_of_a_month(made: EveryType) -> None:
    """Path columns prune, and the latest version is the only one opened."""
    catalog = opened(written(made, made.root / "lake.duckdb"))

    def plan(sql: str) -> str:
        return str(catalog.execute(f"EXPLAIN ANALYZE {sql}").fetchall()[0][1])

    assert "Scanning Files: 1/5" in plan("SELECT sum(L) FROM events WHERE year = 2025 AND month = 2")
    assert "Total Files Read: 1 " in plan("SELECT max(NAME) FROM users")


def test_a_type_that_changed_is_an_error_not_another_value(made: EveryType) -> None:
    """A BIGINT that became a DOUBLE would lose digits in all versions; the catalog says to write it again."""
    path = written(made, made.root / "lake.duckdb")
    schema = parse_schema("`ID` DOUBLE KEY, `NAME` STRING")
    land_rows(Lake(made.lake), table_feed(), [{"ID": 0.5, "NAME": "n"}], schema=schema)

    with pytest.raises(duckdb.InvalidInputException, match="column ID now has another type"):
        opened(path).sql("SELECT ID FROM users").fetchall()
    with pytest.raises(duckdb.InvalidInputException, match="has another type in some version"):
        opened(written(made, path)).sql("FROM users_versions").fetchall()


def test_it_says_what_is_in_it(made: EveryType) -> None:
    """One row per view with its feed, and a comment on each view for the tools that show them."""
    FeedStore(made.feeds).add(stream_feed(name="orders", source="ORDERS", description="What was ordered"))
    catalog = opened(written(made, made.root / "lake.duckdb"))

    assert catalog.sql(f"SELECT view_name, feed, kind, source, about FROM {CONTENTS}").fetchall() == [
        ("events", "events", "stream", "EVENTS", "stream EVENTS"),
        ("orders", "orders", "stream", "ORDERS", "What was ordered"),
        ("users", "users", "table", "USERS", "table USERS (the latest version)"),
        ("users_versions", "users", "table", "USERS", "table USERS (all kept versions)"),
    ]
    assert catalog.sql("SELECT comment FROM duckdb_views() WHERE view_name = 'orders'").fetchall() == [
        ("What was ordered",)
    ]
    assert catalog.sql("FROM orders").fetchall() == []


@pytest.mark.parametrize("content", ["text", "tables"])
def test_anybody_elses_file_stays(made: EveryType, content: str) -> None:
    """A file that is no catalog is never overwritten, a database with tables least of all."""
    path = made.root / "mine.duckdb"
    if content == "text":
        path.write_text("dear diary")
    else:
        with duckdb.connect(str(path)) as mine:
            mine.execute("CREATE TABLE precious AS SELECT 1")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="is no catalog of ksql-lake, so it stays as it is"):
        written(made, path)

    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_to(made: EveryType) -> None:
    """The reason, and nothing left behind."""
    with pytest.raises(ConfigError, match="the catalog cannot be written"):
        written(made, made.root / "no" / "folder" / "lake.duckdb")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EveryType:
    """A project with two feed files, and no lake yet."""
    made = EveryType(tmp_path / "new")
    for feed in (stream_feed(), table_feed()):
        FeedStore(made.feeds).add(feed)
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(made.lake))
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(made.feeds))
    return made


@pytest.mark.parametrize("absolute", [False, True])
def test_a_catalog_before_the_first_export_works_after_it(empty: EveryType, absolute: bool) -> None:
    """First rows, a new column and a new feed are written when they come, and nothing when nothing is new."""
    path, lake, events = empty.root / "bi" / "c.duckdb", Lake(empty.lake), stream_feed()
    path.parent.mkdir()
    write_followed(path, absolute=absolute)
    before = opened(path).sql("FROM events").fetchall()
    land_rows(lake, events, [event(1)])
    first = keep_catalogs(lake, events)
    wider = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `V` STRING, `MORE` STRING")
    land_rows(lake, events, [event(2) | {"MORE": "m"}], schema=wider)
    second, third = keep_catalogs(lake, events), keep_catalogs(lake, events)
    other = table_feed(name="accounts", source="ACCOUNTS")
    land_rows(lake, other, [{"ID": 1, "NAME": "a"}])
    fourth = keep_catalogs(lake, other)

    catalog = opened(path)
    assert (before, first, second, third, fourth) == ([], (path,), (path,), (), (path,))
    assert catalog.sql("SELECT ID, MORE FROM events ORDER BY ID").fetchall() == [(1, None), (2, "m")]
    assert catalog.sql("FROM accounts_versions").fetchall() == [(1, "a", "v1")]
    assert catalog.sql("FROM users").fetchall() == []
    assert catalog.sql(f"SELECT view_name FROM {CONTENTS}").fetchall() == [
        ("accounts",),
        ("accounts_versions",),
        ("events",),
        ("users",),
        ("users_versions",),
    ]


def test_a_feed_called_like_a_view_takes_its_name(empty: EveryType) -> None:
    """A stream `users_versions` replaces the table's view of that name, then and ever after."""
    path, lake = empty.root / "c.duckdb", Lake(empty.lake)
    write_followed(path)
    stream = stream_feed(name="users_versions")
    land_rows(lake, stream, [event(1)])
    keep_catalogs(lake, stream)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "a"}])
    keep_catalogs(lake, table_feed())

    assert opened(path).sql("SELECT ID FROM users_versions").fetchall() == [(1,)]
    assert opened(path).sql("SELECT NAME FROM users").fetchall() == [("a",)]


def test_a_copied_lake_leaves_the_catalog_of_the_other_alone(empty: EveryType) -> None:
    """An export into a copy beside the lake does not bend the catalog of the lake to the copy."""
    path, lake = empty.root / "c.duckdb", Lake(empty.lake)
    land_rows(lake, stream_feed(), [event(1)])
    write_followed(path)
    shutil.copytree(empty.lake, empty.root / "copy")
    copy, before = Lake(empty.root / "copy"), path.read_bytes()
    other = table_feed(name="accounts", source="ACCOUNTS")
    land_rows(copy, other, [{"ID": 1, "NAME": "a"}])

    assert keep_catalogs(copy, other) == ()
    assert path.read_bytes() == before


def test_a_catalog_that_is_in_the_way_harms_no_export(
    empty: EveryType, caplog: pytest.LogCaptureFixture
) -> None:
    """A removed catalog and a foreign file are passed by; one that cannot be written is logged."""
    path, lake = empty.root / "bi" / "c.duckdb", Lake(empty.lake)
    path.parent.mkdir()
    write_followed(path)
    land_rows(lake, stream_feed(), [event(1)])
    good = path.read_bytes()
    path.write_text("dear diary")
    assert keep_catalogs(lake, stream_feed()) == ()
    assert path.read_text() == "dear diary"
    path.unlink()
    assert keep_catalogs(lake, stream_feed()) == ()
    assert not caplog.records
    path.write_bytes(good)
    (path.parent / f".{path.name}.{os.getpid()}.tmp").mkdir()

    with caplog.at_level(logging.WARNING):
        assert keep_catalogs(lake, stream_feed()) == ()

    assert f"events: the catalog {path} is not up to date: " in caplog.text
    assert opened(path).sql("FROM events").fetchall() == []


def test_a_lake_that_may_only_be_read_has_catalogs_too(empty: EveryType) -> None:
    """The catalog is written; why the lake will not follow it up is said."""
    land_rows(Lake(empty.lake), stream_feed(), [event(1)])
    (empty.lake / "metadata" / "catalogs.lock").mkdir()

    written, alone = write_followed(empty.root / "c.duckdb")

    assert "events" in written.views
    assert alone is not None
    assert not (empty.lake / CATALOGS).exists()
    assert opened(empty.root / "c.duckdb").sql("SELECT ID FROM events").fetchall() == [(1,)]

"""`connect`: one typed view per feed over exactly what is committed."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb
import pytest

from ksql_lake.errors import ConfigError, CorruptLakeError, LakeError
from ksql_lake.feeds import Feed, FeedStore
from ksql_lake.feeds.validation import parse_feed
from ksql_lake.lake import FeedLake, FeedState, Lake
from ksql_lake.query import changes_since, connect, read_stream, read_table
from ksql_lake.query.sql.sql_answer import ask
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed


def test_a_stream_and_a_table_are_views(tmp_path: Path) -> None:
    """Path columns are integers; a table's name is its latest version, and `NAME_versions` all of them."""
    lake, stream, table = Lake(tmp_path / "lake"), stream_feed(), table_feed()
    for feed in (stream, table):
        FeedStore(tmp_path / "feeds").add(feed)
    land_rows(lake, stream, [event(1), event(2, day=1)])
    land_rows(lake, table, [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}])
    land_rows(lake, table, [{"ID": 1, "NAME": "c"}])

    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    assert connection.sql("SELECT ID, year, month, day FROM events ORDER BY ID").fetchall() == [
        (1, 2025, 1, 15),
        (2, 2025, 1, 16),
    ]
    assert connection.sql("FROM users").fetchall() == [(1, "c", "v2")]
    assert connection.sql("SELECT version, count(*) FROM users_versions GROUP BY 1 ORDER BY 1").fetchall() == [
        ("v1", 2),
        ("v2", 1),
    ]


def two_tables(tmp_path: Path) -> Lake:
    """A lake with a stream `events` and tables `users` and `orders`, of two versions each."""
    lake = Lake(tmp_path / "lake")
    feeds: list[Feed] = [stream_feed(), table_feed(), table_feed(name="orders", source="ORDERS")]
    for feed in feeds:
        FeedStore(tmp_path / "feeds").add(feed)
    land_rows(lake, feeds[0], [event(1), event(2, day=1)])
    for hour, name in enumerate("ab", start=1):
        for table in feeds[1:]:
            read_at = f"2025-01-19T0{hour}:00:00.000+00:00"
            land_rows(lake, table, [{"ID": 1, "NAME": name}], read_at=read_at)
    return lake


def made(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The views that are there, asked past the connection's own door."""
    rows = duckdb.DuckDBPyConnection.execute(
        connection, "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    )
    return {str(name) for (name,) in rows.fetchall()}


def test_a_view_is_made_when_it_is_named(tmp_path: Path) -> None:
    """By any of the connection's doors, in any case of letters, once, and no other feed is read for it."""
    two_tables(tmp_path)
    for damaged in (tmp_path / "lake/metadata/tables/orders/commits").iterdir():
        damaged.write_text("{}")
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    assert isinstance(connection, duckdb.DuckDBPyConnection)
    assert made(connection) == set()
    assert connection.execute('SELECT "NAME" FROM Users').fetchall() == [("b",)]
    assert made(connection) == {"users"}
    assert len(connection.view("users_versions").fetchall()) == 2
    assert connection.query(
        "SELECT count(*) FROM users_changes WHERE op = ?", params=["update"]
    ).fetchall() == [(1,)]
    assert connection.cursor().sql("DESCRIBE events").fetchall()[0][0] == "ROWTIME"
    assert made(connection) == {"users", "users_versions", "users_changes", "events"}
    with pytest.raises(LakeError, match="manifest"):
        connection.sql("FROM orders")
    assert connection.sql("SELECT 1 AS orders").fetchall() == [(1,)]


def test_only_feeds_that_are_named_are_parsed(tmp_path: Path) -> None:
    """The cost of a question does not grow with the feed files that it does not name."""
    two_tables(tmp_path)
    parsed = []

    def note(frame: FrameType, what: str, _: object) -> None:
        if what == "call" and frame.f_code is parse_feed.__code__:
            parsed.append(frame.f_locals["file_name"])

    sys.setprofile(note)
    try:
        connection = connect(tmp_path / "lake", tmp_path / "feeds")
        connection.sql("SELECT 1").fetchall()
        assert parsed == []
        connection.sql("SELECT * FROM users_history WHERE ID = 1").fetchall()
        read_table("users", root=tmp_path / "lake", feeds=tmp_path / "feeds")
        ask("FROM users WHERE ID = 1", root=tmp_path / "lake", feeds=tmp_path / "feeds")
    finally:
        sys.setprofile(None)

    assert parsed == ["users.json"] * 3


def test_feed_files_count_as_they_were_at_connect(tmp_path: Path) -> None:
    """A feed that is changed, archived or removed behind `connect` keeps its meaning there."""
    two_tables(tmp_path)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")
    shutil.rmtree(tmp_path / "feeds/active")
    feeds = FeedStore(tmp_path / "feeds")
    feeds.add(stream_feed(description="another"))
    feeds.add(stream_feed(name="users", source="USERS"))

    rows = connection.sql("FROM users ORDER BY ALL").fetchall()
    (about,) = connection.sql("SELECT comment FROM duckdb_views() WHERE view_name = 'events'").fetchall()

    assert rows == [(1, "b", "v2")]
    assert about == ("stream EVENTS",)


def test_show_tables_lists_and_makes_nothing(tmp_path: Path) -> None:
    """Names and comments are all there; a view that was only listed has its rows once it is named."""
    two_tables(tmp_path)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    names = {name for (name,) in connection.sql("SHOW TABLES").fetchall()}

    assert names == {
        *("events", "orders", "orders_changes", "orders_history", "orders_versions", "users", "users_changes"),
        *("users_history", "users_versions", "ksql_lake_feeds", "ksql_lake_partitions", "ksql_lake_versions"),
        "ksql_lake_commits",
    }
    assert len(connection.sql("FROM users_history").fetchall()) == 2
    told = "SELECT view_name, comment FROM duckdb_views() WHERE view_name = 'orders_history'"
    assert connection.sql(told).fetchall() == [
        ("orders_history", "table ORDERS (every state of every row, with its time)")
    ]
    # About columns: all of them are made.
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders_changes'"
    assert connection.sql(columns).fetchall() == [(7,)]


def test_a_connection_shows_one_moment_whenever_a_view_is_made(tmp_path: Path) -> None:
    """What is exported behind `connect` is in no view, also not in one that is named later."""
    lake = two_tables(tmp_path)
    before = connect(tmp_path / "lake", tmp_path / "feeds")
    land_rows(lake, stream_feed(), [event(3), event(4, day=2)])
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "c"}])

    assert before.sql('SELECT "ID" FROM events ORDER BY 1').fetchall() == [(1,), (2,)]
    assert before.sql("SELECT NAME, version FROM users").fetchall() == [("b", "v2")]
    assert before.sql("SELECT max(\"commit\") FROM ksql_lake_commits WHERE feed = 'events'").fetchall() == [
        (1,)
    ]
    later = connect(tmp_path / "lake", tmp_path / "feeds")
    merged = connect(tmp_path / "lake", tmp_path / "feeds")
    for _ in lake.feed(stream_feed()).compact(older_than=0):
        pass
    assert len(merged.sql("FROM events").fetchall()) == 4
    assert len(later.cursor().sql("FROM events").fetchall()) == 4
    # Rows of that moment and of later ones share a file now.
    assert not made(before.cursor()) - {"events", "users"}
    stale = connect(tmp_path / "lake", tmp_path / "feeds")
    land_rows(lake, stream_feed(), [event(9)])
    for _ in lake.feed(stream_feed()).compact(older_than=0):
        pass
    with pytest.raises(LakeError, match="files were merged with later ones since the connection was made"):
        stale.sql("FROM events")


def test_a_rollback_takes_no_view_away_for_good(tmp_path: Path) -> None:
    """A view that was made inside of a transaction is made again after it was rolled back; older ones stay."""
    two_tables(tmp_path)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    assert connection.sql("SELECT count(*) FROM ksql_lake_feeds").fetchall() == [(3,)]
    for by_method in (False, True):
        connection.execute("BEGIN")
        assert len(connection.sql("FROM users").fetchall()) == 1
        if by_method:
            connection.rollback()
        else:
            connection.execute("ROLLBACK")
        assert connection.sql("SELECT count(*) FROM ksql_lake_feeds").fetchall() == [(3,)]

        assert len(connection.sql("FROM users").fetchall()) == 1


def test_the_lake_as_tables(tmp_path: Path) -> None:
    """Feeds, partitions, versions and commits say what the manifests say."""
    lake = two_tables(tmp_path)
    land_rows(lake, stream_feed(), [event(1), event(7)])
    for _ in lake.feed(stream_feed()).compact(older_than=0):
        pass
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    def rows(sql: str) -> list[tuple[object, ...]]:
        return list(connection.sql(sql).fetchall())

    assert rows('SELECT feed, kind, source, partitions, files, rows, "commit" FROM ksql_lake_feeds') == [
        ("events", "stream", "EVENTS", 2, 2, 3, 3),
        ("orders", "table", "ORDERS", 2, 2, 2, 2),
        ("users", "table", "USERS", 2, 2, 2, 2),
    ]
    # The third day was read, and is empty.
    assert rows(
        "SELECT partition, rows, files, min_event, read_at FROM ksql_lake_partitions WHERE feed = 'events' "
        "ORDER BY 1"
    ) == [
        (f"2025-01-{day}", count, files, at and datetime(2025, 1, day, 0, 0, at, tzinfo=UTC), READ_AT)
        for day, count, files, at in ((15, 2, 1, 1), (16, 1, 1, 2), (17, 0, 0, None))
    ]
    assert rows("SELECT version, read_at, rows FROM ksql_lake_versions WHERE feed = 'users'") == [
        (f"v{number}", datetime(2025, 1, 19, number, tzinfo=UTC), 1) for number in (1, 2)
    ]
    assert rows(
        'SELECT "commit", operation, rows, late_rows, files_added, files_removed FROM ksql_lake_commits '
        "WHERE feed = 'events'"
    ) == [(1, "append", 2, 0, 2, 0), (2, "append", 1, 1, 1, 0), (3, "compact", 0, 0, 1, 2)]


READ_AT = datetime(2025, 1, 19, tzinfo=UTC)


def test_a_table_as_of_a_time_opens_one_version(tmp_path: Path) -> None:
    """`NAME__as_of(ts)` is the version that was the newest then; before all of them it is an error."""
    two_tables(tmp_path)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    for at, name in {"2025-01-19 01:00": "a", "2025-01-19 01:59:59.999": "a", "2025-01-19 02:00": "b"}.items():
        for argument in (f"'{at}'", f"TIMESTAMP '{at}'", f"TIMESTAMPTZ '{at}+00:00'"):
            assert connection.sql(f"SELECT NAME FROM users__as_of({argument})").fetchall() == [(name,)]
    sql = "EXPLAIN ANALYZE SELECT NAME FROM users__as_of('2025-01-19 01:30')"
    plan = connection.sql(sql).fetchall()[0][1]
    assert "Scanning Files: 1/2" in plan
    assert "version=v2" not in plan
    for early in ("'2025-01-19 00:59'", "NULL"):
        with pytest.raises(
            duckdb.Error, match="no kept version of users had been read by then; the oldest is v1"
        ):
            connection.sql(f"FROM users__as_of({early})").fetchall()


def test_a_macro_reads_its_own_feed_whatever_has_the_name_of_its_view(tmp_path: Path) -> None:
    """Another feed, a CTE or a table of the caller's called `NAME` or `NAME_versions` changes nothing."""
    lake, other = two_tables(tmp_path), table_feed(name="users_versions", source="OTHERS")
    FeedStore(tmp_path / "feeds").add(other)
    land_rows(lake, other, [{"ID": 1, "NAME": "other"}])
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    assert connection.sql("SELECT NAME FROM users_versions").fetchall() == [("other",)]
    as_of = "SELECT NAME FROM users__as_of('2025-01-19 01:30')"
    between = "SELECT ID FROM events__between('2025-01-15', '2025-01-16')"
    for name in ("users_versions", "events"):
        own = f"WITH {name} AS (SELECT now() AS ROWTIME, 9 AS ID, 'x' AS NAME, 'v1' AS version, 2025 AS year)"
        assert connection.sql(f"{own} {as_of}").fetchall() == [("a",)]
        assert connection.sql(f"{own} {between}").fetchall() == [(1,)]
        connection.execute(f"CREATE TEMP TABLE {name} AS SELECT now() AS ROWTIME, 9 AS ID, 'v1' AS version")
    assert connection.sql(as_of).fetchall() == [("a",)]
    assert connection.sql(between).fetchall() == [(1,)]


def test_an_argument_of_a_macro_is_the_caller_s_column(tmp_path: Path) -> None:
    """A column that has the name of one of the feed's is the caller's; a table may have a column `ts`."""
    two_tables(tmp_path)
    tagged = table_feed(name="tagged", source="TAGGED")
    FeedStore(tmp_path / "feeds").add(tagged)
    schema = parse_schema("`ID` BIGINT KEY, `TS` STRING")
    land_rows(Lake(tmp_path / "lake"), tagged, [{"ID": 1, "TS": "a"}], schema=schema)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    given = "(SELECT TIMESTAMPTZ '2025-01-16 00:00Z' AS ROWTIME) AS given"
    assert connection.sql(f"SELECT e.ID FROM {given}, events__between(ROWTIME, NULL) AS e").fetchall() == [(2,)]
    assert connection.sql("FROM tagged__as_of(now())").fetchall() == [(1, "a", "v1")]
    assert connection.sql("SELECT ID FROM events__between('-infinity', '2025-01-16')").fetchall() == [(1,)]
    assert connection.sql("SELECT ID FROM events__between('2025-01-16', 'infinity')").fetchall() == [(2,)]


def test_views_are_made_beside_the_databases_of_the_caller(tmp_path: Path) -> None:
    """A view of the caller's in an attached database stays, also while that database is the one in use."""
    two_tables(tmp_path)
    with duckdb.connect(str(tmp_path / "own.duckdb")) as own:
        own.execute("CREATE VIEW users AS SELECT 'own' AS whose")
    connection = connect(tmp_path / "lake", tmp_path / "feeds")
    connection.execute(f"ATTACH '{tmp_path / 'own.duckdb'}' AS own; USE own")

    for name in ("users", "own.users"):
        assert connection.sql(f"FROM {name}").fetchall() == [("own",)]
    assert connection.sql("SELECT NAME FROM memory.users").fetchall() == [("b",)]
    assert connection.sql("SELECT feed FROM memory.ksql_lake_versions LIMIT 1").fetchall() == [("orders",)]
    connection.close()
    with duckdb.connect(str(tmp_path / "own.duckdb")) as own:
        assert own.sql("FROM users").fetchall() == [("own",)]


def test_a_filter_on_the_key_of_a_history_reaches_the_files(tmp_path: Path) -> None:
    """DuckDB's plan of a one-key look-up filters where the files are read, below the grouping."""
    FeedStore(tmp_path / "feeds").add(table_feed())
    for name in "ab":
        land_rows(Lake(tmp_path / "lake"), table_feed(), [{"ID": number, "NAME": name} for number in range(9)])
    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    plan = connection.sql('EXPLAIN FROM users_history WHERE "ID" = 1').fetchall()[0][1]

    told = " ".join(plan.replace("│", " ").split())
    assert told.count("Filters: ID = 1") == 1  # one scan of both versions, which have the same columns
    assert told.rindex("Group By") < told.index("Filters: ID = 1")


def test_show_tables_reads_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are listed without what streams hold; the tables of the lake come when they are named."""
    two_tables(tmp_path)
    connection = connect(tmp_path / "lake", tmp_path / "feeds")
    read: list[str] = []
    published = FeedLake.published

    def counted(lake: FeedLake) -> FeedState:
        read.append(lake.feed.name)
        return published(lake)

    monkeypatch.setattr(FeedLake, "published", counted)
    names = [name for (name,) in connection.sql("SHOW TABLES").fetchall()]

    assert sorted(read) == ["orders", "users"]
    assert {"events", "ksql_lake_commits", "users_history"} <= set(names)
    feeds = connection.sql("SELECT feed FROM ksql_lake_feeds").fetchall()
    assert feeds == [("events",), ("orders",), ("users",)]
    assert [name for (name,) in connection.sql("SHOW TABLES").fetchall()] == names
    connection.execute("BEGIN")
    assert connection.sql("SELECT count(*) FROM ksql_lake_versions").fetchall() == [(4,)]
    connection.execute("ROLLBACK")
    assert connection.sql("SELECT count(*) FROM ksql_lake_versions").fetchall() == [(4,)]


ORDERS = "orders_versions, orders_changes, orders_history, orders__as_of"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("eventz", "Did you mean 'events'?"),
        ("events_betwen", "Did you mean 'events__between'?"),
        ("users_history", "users has no export yet; its first rows add this view."),
        ("users__as_of(now())", "users has no export yet; its first rows add this view."),
        ("events__as_of(now())", "events is a stream; its other views are events__between."),
        ("orders__between(NULL, NULL)", f"orders is a table; its other views are {ORDERS}."),
        ("orders_history", "orders lacks its key columns, so its rows cannot be followed."),
    ],
)
def test_a_name_that_is_no_view_is_answered_by_what_there_is(tmp_path: Path, name: str, hint: str) -> None:
    """By `connect` and on the command line alike; a function of DuckDB's keeps DuckDB's answer."""
    for feed in (stream_feed(), table_feed(), table_feed(name="orders", source="ORDERS")):
        FeedStore(tmp_path / "feeds").add(feed)
    keyless = parse_schema("`NAME` STRING")
    land_rows(Lake(tmp_path / "lake"), table_feed(name="orders"), [{"NAME": "a"}], schema=keyless)

    with pytest.raises(duckdb.CatalogException) as caught:
        connect(tmp_path / "lake", tmp_path / "feeds").sql(f"FROM {name}")
    with pytest.raises(ConfigError) as answered:
        ask(f"FROM {name}", root=tmp_path / "lake", feeds=tmp_path / "feeds")

    assert str(caught.value) == str(answered.value) == f"there is no view {name.partition('(')[0]!r}\n{hint}"
    with pytest.raises(ConfigError, match="read_csv"):
        ask("FROM read_csvv('x')", root=tmp_path / "lake", feeds=tmp_path / "feeds")


def test_files_without_their_metadata_are_no_empty_feed(tmp_path: Path) -> None:
    """A lake that was restored without `metadata` is an error for SQL, frames and cursors, never no rows."""
    FeedStore(tmp_path / "feeds").add(stream_feed())
    land_rows(Lake(tmp_path / "lake"), stream_feed(), [event(1)])
    shutil.rmtree(tmp_path / "lake" / "metadata")
    place: dict[str, Any] = {"root": tmp_path / "lake", "feeds": tmp_path / "feeds"}

    for ask_for in (
        lambda: connect(**place).sql("FROM events").fetchall(),
        lambda: read_stream("events", **place),
        lambda: changes_since("events", **place),
        lambda: ask("FROM events", **place),
    ):
        with pytest.raises(CorruptLakeError, match="there are files in streams/events, but no commit in"):
            ask_for()

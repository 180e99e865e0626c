"""Conditions on time open only the files that they can touch, and never change an answer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.query import connect
from ksql_lake.query.sql.database_file import write_catalog
from ksql_lake.query.sql.sql_answer import ask
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import Row, event, land_rows, stream_feed, table_feed

DAYS = 40
ZONES = ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"]


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with streams of 40 days: `events` by ROWTIME, `berlin` in another zone, `counted` by a number."""
    root = tmp_path_factory.mktemp("pruning")
    lake = Lake(root / "lake")
    feeds = [stream_feed(), stream_feed(name="berlin", timezone="Europe/Berlin")]
    counted = stream_feed(name="counted", event_time="TS", event_time_unit="s")
    for feed in (*feeds, counted):
        FeedStore(root / "feeds").add(feed)
    rows = [event(second, day=day) for day in range(DAYS) for second in (0, 43_200, 86_399)]
    land_rows(lake, feeds[0], rows, days=DAYS)
    land_rows(lake, feeds[1], rows[:-1], days=DAYS)
    numbered: list[Row] = [
        {"ROWTIME": datetime(2025, 2, 1, tzinfo=UTC), "TS": int(row["ROWTIME"].timestamp()), "ID": 1}
        for row in rows
    ]
    land_rows(
        lake, counted, numbered, days=DAYS, schema=parse_schema("`ROWTIME` TIMESTAMP, `TS` BIGINT, `ID` BIGINT")
    )
    return root


def opened(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """How many Parquet files a statement opens, by DuckDB's own account."""
    plan = connection.sql(f"EXPLAIN ANALYZE {sql}").fetchall()[0][1]
    return sum(int(number) for number in re.findall(r"Total Files Read: (\d+)", plan))


@pytest.mark.parametrize(
    ("condition", "files"),
    [
        ("ROWTIME >= TIMESTAMPTZ '2025-02-10T00:00:00Z' AND ROWTIME < '2025-02-12T00:00:00Z'", 2),
        ("ROWTIME BETWEEN '2025-02-10T00:00:00Z' AND '2025-02-11T23:59:59Z'", 2),
        ("'2025-01-16 00:00:00+00' > ROWTIME", 1),
        ("make_date(year, month, day) = DATE '2025-02-01'", 1),
        ("make_date(year, month, day) BETWEEN '2025-01-30' AND '2025-02-02'", 4),
        ("(year, month, day) BETWEEN (2025, 1, 30) AND (2025, 2, 2)", 4),
        ("ROWTIME > '2030-01-01T00:00:00Z'", 0),
        # A day more on each side: the session may have any zone.
        ("ROWTIME::DATE = '2025-02-01'", 3),
        ("ROWTIME >= '2025-02-20' AND \"ID\" IS NOT NULL", 5),
        # Nothing is known of these.
        ("ROWTIME::VARCHAR >= '2025-02-20'", DAYS),
        ("ROWTIME >= '2025-02-20' OR true", DAYS),
    ],
)
def test_a_condition_on_time_opens_the_days_it_can_touch(lakes: Path, condition: str, files: int) -> None:
    """By the plan that DuckDB ran, over 40 days in two months."""
    connection = connect(lakes / "lake", lakes / "feeds")
    sql = f'SELECT sum("ID") FROM events WHERE {condition}'

    found = opened(connection, sql)

    assert found == files
    past = duckdb.DuckDBPyConnection.sql(connection, sql)  # as it is written, past the connection's own door
    assert connection.sql(sql).fetchall() == past.fetchall()


def test_the_command_line_knows_that_times_are_utc(lakes: Path) -> None:
    """There a time without an offset opens its own day; unless the statements set another zone."""
    zones = (
        "SET TimeZone = 'Asia/Tokyo'; ",
        "SET TIME ZONE 'Asia/Tokyo'; ",
        "SET \"TimeZone\" = 'Asia/Tokyo'; ",
    )
    for before, days in (("", 1), *((zone, 3) for zone in zones)):
        sql = f"{before}EXPLAIN ANALYZE SELECT count(\"NOTE\") FROM events WHERE ROWTIME::DATE = '2025-02-01'"
        answer = ask(sql, root=lakes / "lake", feeds=lakes / "feeds")
        assert answer is not None
        assert f"Total Files Read: {days}" in str(answer.plan)


MOMENTS = st.integers(-5, DAYS * 24 + 5).map(
    lambda hours: datetime(2025, 1, 15, tzinfo=UTC) + timedelta(hours=hours)
)


@st.composite
def conditions(draw: st.DrawFn, alias: str) -> str:
    """A condition on time in one of the forms people write."""
    column = draw(st.sampled_from([f"{alias}ROWTIME", f"{alias}rowtime", f'{alias}"ROWTIME"']))
    how = draw(st.sampled_from(["<", "<=", ">", ">=", "="]))
    at = draw(MOMENTS)
    text = at.strftime("%Y-%m-%d %H:%M:%S")
    other = (at + timedelta(hours=draw(st.integers(0, 100)))).strftime("%Y-%m-%d")
    return draw(
        st.sampled_from(
            [
                f"{column} {how} '{text}'",
                f"{column} {how} TIMESTAMP '{text}'",
                f"{column} {how} TIMESTAMPTZ '{text}+05:30'",
                f"'{text}Z' {how} {column}",
                f"{column} {how} DATE '{text[:10]}' + INTERVAL 1 DAY",
                f"{column} BETWEEN '{text}' AND '{other}'::TIMESTAMP + INTERVAL 3 HOURS",
                f"CAST({column} AS DATE) {how} '{text[:10]}'",
                f"make_date({alias}year, {alias}month, {alias}day) {how} DATE '{text[:10]}'",
                f"make_date({alias}year, {alias}month, {alias}day) {how} TIMESTAMPTZ '{text}+05:30'",
                f"{column} {how} TIMESTAMPTZ '{text}+00' + INTERVAL 1 MONTH",
                f"NOT {column} {how} '{text}'",
            ]
        )
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), zone=st.sampled_from(ZONES), view=st.sampled_from(["events", "berlin"]))
def test_no_answer_changes(lakes: Path, data: st.DataObject, zone: str, view: str) -> None:
    """Whatever the form, the session's zone, the feed's zone and the place in the statement."""
    joined = data.draw(st.booleans())
    alias = data.draw(st.sampled_from(["e.", "E."])) if joined else data.draw(st.sampled_from(["", "e."]))
    where = data.draw(st.sampled_from([" AND ", " OR "])).join(
        data.draw(st.lists(conditions(alias), min_size=1, max_size=3))
    )
    kind = data.draw(st.sampled_from(["JOIN", "LEFT JOIN", "FULL JOIN"]))
    other = f' {kind} events AS x ON x."ID" = e."ID" AND x.day = e.day AND x.month = e.month' if joined else ""
    shape = data.draw(
        st.sampled_from(
            [
                "SELECT count(*), max(q) FROM (SELECT {a}ROWTIME AS q FROM {v} e{o} WHERE {w})",
                "WITH é AS (SELECT '€', {a}\"ID\" AS q FROM {v} AS e{o} WHERE {w}) SELECT sum(q) FROM é",
                "SELECT (SELECT count(*) FROM {v} e{o} WHERE {w}), 1",
            ]
        )
    )
    sql = shape.format(a=alias or "e.", v=view, o=other, w=where)
    connection = connect(lakes / "lake", lakes / "feeds")
    connection.execute(f"SET TimeZone = '{zone}'")

    assert connection.sql(sql).fetchall() == duckdb.DuckDBPyConnection.sql(connection, sql).fetchall()


def test_an_event_time_of_ones_own_decides(lakes: Path) -> None:
    """Its numbers prune by their unit; ROWTIME says nothing about the days then."""
    connection, noon = (
        connect(lakes / "lake", lakes / "feeds"),
        int(datetime(2025, 2, 1, 12, tzinfo=UTC).timestamp()),
    )

    assert opened(connection, f'SELECT sum("ID") FROM counted WHERE "TS" BETWEEN {noon} AND {noon + 1}') == 1
    assert connection.sql(f'SELECT sum("ID") FROM counted WHERE "TS" >= {noon}').fetchall() == [(68,)]
    by_rowtime = "SELECT sum(\"ID\") FROM counted WHERE ROWTIME >= '2025-01-31T00:00:00Z'"
    assert connection.sql(by_rowtime).fetchall() == [(3 * DAYS,)]


def test_a_join_that_goes_by_order_is_left_alone(lakes: Path) -> None:
    """ASOF picks the nearest row, so leaving rows out before it would change which."""
    connection = connect(lakes / "lake", lakes / "feeds")
    sql = (
        "SELECT count(*) FROM berlin b ASOF JOIN events e ON b.ROWTIME >= e.ROWTIME "
        "WHERE e.ROWTIME < '2025-01-20T00:00:00Z'"
    )

    assert (
        connection.sql(sql).fetchall() == duckdb.DuckDBPyConnection.sql(connection, sql).fetchall() == [(15,)]
    )


@pytest.fixture(scope="module")
def doors(lakes: Path) -> list[duckdb.DuckDBPyConnection]:
    """A connection of ours, and a catalog that is opened as any program opens it."""
    write_catalog(lakes / "lake.duckdb", root=lakes / "lake", feeds=lakes / "feeds", absolute=True)
    catalog = duckdb.connect(str(lakes / "lake.duckdb"), read_only=True)
    catalog.execute("SET TimeZone = 'UTC'")
    return [connect(lakes / "lake", lakes / "feeds"), catalog]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(view=st.sampled_from(["events", "berlin", "counted"]), low=st.none() | MOMENTS, high=st.none() | MOMENTS)
def test_a_range_by_its_macro_has_the_rows_of_that_range(
    doors: list[duckdb.DuckDBPyConnection], view: str, low: datetime | None, high: datetime | None
) -> None:
    """`NAME__between` is a filter of all rows, in a connection and in a catalog, whatever the clock."""
    clock = 'to_timestamp("TS")' if view == "counted" else "ROWTIME"
    for connection in doors:
        every = connection.execute(f"SELECT {clock} AS at, * FROM {view}").fetchall()
        expected = [row for row in every if (not low or low <= row[0]) and (not high or row[0] < high)]
        ends = [low.isoformat() if low else None, high.isoformat() if high else None]
        found = connection.execute(f"SELECT {clock} AS at, * FROM {view}__between($1, $2)", ends).fetchall()
        assert sorted(map(str, found)) == sorted(map(str, expected))


def test_an_attached_catalog_has_the_macro_too(lakes: Path, doors: list[duckdb.DuckDBPyConnection]) -> None:
    """It reads the lake's rows, whatever the caller has of the stream's name."""
    (every,) = doors[0].sql("SELECT count(*) FROM events").fetchall()
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{lakes / 'lake.duckdb'}' AS lake (READ_ONLY)")
    for _ in range(2):
        found = connection.sql("SELECT count(*) FROM lake.events__between(NULL, NULL)").fetchall()
        assert found == [every]
        connection.execute("CREATE OR REPLACE TABLE events AS SELECT now() AS ROWTIME, 2025 AS year")


def test_a_range_by_its_macro_opens_its_days_in_a_catalog_too(doors: list[duckdb.DuckDBPyConnection]) -> None:
    """The days of the range and one on either side, where a plain condition opens all; by DuckDB's plan."""
    for connection in doors:
        for stream in ("events", "counted"):
            for ends, files in (
                ("'2025-02-10T00:00:00Z', '2025-02-12T00:00:00Z'", 5),
                ("NULL, DATE '2025-01-16'", 3),
                ("now(), NULL", 0),
            ):
                assert opened(connection, f'SELECT sum("ID") FROM {stream}__between({ends})') == files
    catalog = doors[1]
    assert opened(catalog, "SELECT sum(\"ID\") FROM events WHERE ROWTIME >= '2025-02-20T00:00:00Z'") == DAYS
    day = "make_date(year, month, day) = DATE '2025-02-01'"
    assert opened(catalog, f'SELECT sum("ID") FROM events WHERE {day}') == DAYS


def test_a_clock_that_is_null_or_called_like_an_end(tmp_path: Path) -> None:
    """ROWTIME decides where the event time is NULL; a column `FROM_TIME` is no end of the range."""
    lake = Lake(tmp_path / "lake")
    feed = stream_feed(event_time="FROM_TIME")
    FeedStore(tmp_path / "feeds").add(feed)
    at = datetime(2025, 1, 16, 12, tzinfo=UTC)
    rows: list[Row] = [
        {"ROWTIME": at, "FROM_TIME": at - timedelta(days=1), "ID": 1},
        {"ROWTIME": at, "FROM_TIME": None, "ID": 2},
    ]
    land_rows(lake, feed, rows, schema=parse_schema("`ROWTIME` TIMESTAMP, `FROM_TIME` TIMESTAMP, `ID` BIGINT"))

    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    for ends, found in (("'2025-01-16', NULL", [(2,)]), ("NULL, '2025-01-16'", [(1,)])):
        assert connection.sql(f'SELECT "ID" FROM events__between({ends})').fetchall() == found


SHIFTED = "SELECT * REPLACE (ROWTIME + INTERVAL 300 DAY AS ROWTIME) FROM main.events"


@pytest.mark.parametrize(
    "made",
    [
        f"CREATE TEMP TABLE events AS {SHIFTED}",
        f"ATTACH ':memory:' AS other; CREATE TABLE other.events AS {SHIFTED}; USE other",
        f"CREATE TABLE kept AS {SHIFTED}; CREATE OR REPLACE VIEW events AS FROM kept",
        "register",
    ],
)
def test_a_table_of_ones_own_is_no_stream(lakes: Path, made: str) -> None:
    """The lake says nothing about the days of a table or a frame to which the caller gave a feed's name."""
    connection = connect(lakes / "lake", lakes / "feeds")
    if made == "register":
        connection.register("events", connection.sql(SHIFTED).to_arrow_table())
    else:
        connection.execute(made)

    for since, count in (("2025-11-01", 3 * DAYS), ("2026-01-01", None)):
        asked = f"SELECT count(*) FROM events WHERE ROWTIME >= TIMESTAMPTZ '{since}T00:00:00Z'"
        found = connection.sql(asked).fetchall()
        assert found == duckdb.DuckDBPyConnection.sql(connection, asked).fetchall()
        assert count is None or found == [(count,)]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six versions, read an hour apart, of which rows come, change, go and come back."""
    root = tmp_path_factory.mktemp("histories")
    lake, table = Lake(root / "lake"), table_feed(min_ratio_to_previous=0)
    FeedStore(root / "feeds").add(table)
    for version, names in enumerate(["ab-", "ab-", "aXc", "a-c", "ab-", "Yb-"], start=1):
        rows: list[Row] = [{"ID": at, "NAME": name} for at, name in enumerate(names) if name != "-"]
        land_rows(lake, table, rows, read_at=f"2025-01-19T0{version}:00:00.000+00:00")
    return root


AT = "TIMESTAMPTZ '2025-01-19T03:30:00Z'"
TURNED = f"({AT} < valid_to OR valid_to IS NULL) AND {AT} >= valid_from"
THEN = f"valid_from <= {AT} AND (valid_to IS NULL OR valid_to > {AT})"


@pytest.mark.parametrize(
    ("sql", "files"),
    [
        (f'SELECT "ID", "NAME" FROM users_history WHERE {THEN}', 1),
        (f'SELECT count(*) FROM users_history AS h WHERE h."ID" > 0 AND {THEN}', 1),
        (f'SELECT "NAME" FROM users_history WHERE {TURNED}', 1),
        (f'WITH t AS (SELECT "ID" FROM users_history WHERE {THEN}) SELECT sum("ID") FROM t', 1),
        (f"SELECT count(*) FROM users_history WHERE {THEN.replace('03:30', '00:30')}", 0),
        (f'SELECT "ID" FROM users_history WHERE {THEN.replace("03:30", "03:00")}', 1),
        # What shows or compares the times needs all versions, and so does what another zone could move.
        (f"SELECT * FROM users_history WHERE {THEN}", 6),
        (f'SELECT "ID", valid_from FROM users_history WHERE {THEN}', 6),
        (f"SELECT h FROM users_history AS h WHERE {THEN}", 6),
        (f"SELECT \"ID\" FROM users_history WHERE {THEN} AND from_version = 'v1'", 6),
        (f'SELECT "ID" FROM users_history WHERE {THEN} ORDER BY valid_from', 6),
        (f'SELECT "ID" FROM users_history WHERE valid_from <= {AT}', 6),
        (f'SELECT "ID" FROM users_history WHERE {THEN} OR "ID" = 1', 6),
        (f'SELECT "ID" FROM users_history WHERE {THEN.replace("03:30:00Z", "03:30:00")}', 6),
        (f'SELECT "ID" FROM users_history WHERE {THEN.replace("03:30", "04:30", 1)}', 6),
    ],
)
def test_a_history_at_a_time_opens_one_version(histories: Path, sql: str, files: int) -> None:
    """By the plan that DuckDB ran, and with the answer of the whole history."""
    connection = connect(histories / "lake", histories / "feeds")

    assert opened(connection, sql) == files

    past = duckdb.DuckDBPyConnection.sql(connection, sql)
    assert sorted(connection.sql(sql).fetchall(), key=str) == sorted(past.fetchall(), key=str)


def test_gaps_in_a_history_are_states_of_their_own(histories: Path) -> None:
    """A row that goes, or becomes another, and comes back as it was has a state for each time it was there."""
    connection = connect(histories / "lake", histories / "feeds")

    assert connection.sql(
        'SELECT "ID", "NAME", from_version, to_version FROM users_history ORDER BY "ID", valid_from'
    ).fetchall() == [
        (0, "a", "v1", "v6"),
        (0, "Y", "v6", None),
        (1, "b", "v1", "v3"),
        (1, "X", "v3", "v4"),
        (1, "b", "v5", None),
        (2, "c", "v3", "v5"),
    ]

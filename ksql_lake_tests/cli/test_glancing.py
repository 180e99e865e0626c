"""`ksql-lake schema`, `head`, `describe`, `profile`, and the shell of `sql`: a feed at a glance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ksql_lake.cli.entry import run
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake_tests.cli.conftest import Project
from ksql_lake_tests.cli.test_output import on_a_terminal, without_styles
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.query.lakes import FIRST, EveryType
from ksql_lake_tests.query.lakes import event as every_event


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with a stream of two days and a table of two versions, as the one the environment names."""
    made = EveryType(tmp_path)
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(made.lake))
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(made.feeds))
    lake = Lake(made.lake)
    for feed in (stream_feed(), table_feed(description="who there is"), stream_feed(name="every")):
        FeedStore(made.feeds).add(feed)
    land_rows(lake, stream_feed(), [event(1), *(event(number, day=1) for number in range(20))])
    for name in "ab":
        land_rows(lake, table_feed(), [{"ID": 1, "NAME": name}, {"ID": 2, "NAME": None}])
    land_rows(lake, stream_feed(name="every"), [every_event(1, day=0)], schema=FIRST)
    return lake


@pytest.fixture
def said(lake: Lake, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Runs a command in this process; gives its output, which is all that it says."""
    assert lake.begun

    def command(*arguments: str) -> str:
        assert run(list(arguments)) == 0
        captured = capfdbinary.readouterr()
        assert captured.err == b""
        return captured.out.decode()

    return command


def test_head_shows_the_newest_day_or_version(said: Any) -> None:
    """As many rows as asked for, ten without; of a table its latest version."""
    lines = said("head", "events").splitlines()
    assert len(lines) == 11
    assert all(line.split()[-1] == "16" for line in lines[1:])
    assert len(said("head", "events", "-n", "3").splitlines()) == 4
    assert [line.split() for line in said("head", "users").splitlines()[1:]] == [
        ["1", "b", "v2"],
        ["2", "NULL", "v2"],
    ]


def test_describe_says_what_there_is(said: Any) -> None:
    """Sizes, days or versions, columns; as a table and as JSON."""
    told = json.loads(said("describe", "users", "--json"))
    expected = {"feed": "users", "kind": "table", "source": "USERS", "description": "who there is", "rows": 4}
    expected |= {"versions": 2, "first": "v1", "last": "v2", "files": 2, "commit": 2}
    assert told | expected == told
    assert told["columns"] == "`ID` BIGINT KEY, `NAME` STRING"
    lines = {line.split()[0]: line.split()[1:] for line in said("describe", "events").splitlines()}
    assert (lines["rows"], lines["days"], lines["last"]) == (["21"], ["2"], ["2025-01-16"])


def test_profile_summarizes_each_column(said: Any) -> None:
    """A line per column with its least and greatest value; of some rows where they are named."""
    lines = said(
        "profile", "events", "--where", 'year = 2025 AND month = 1 AND day = 16 AND "ID" < 5'
    ).splitlines()
    titles, rows = lines[0].split(), {line.split()[0]: line.split() for line in lines[1:]}
    assert titles[:4] == ["column_name", "column_type", "min", "max"]
    assert rows["ID"][:4] == ["ID", "BIGINT", "0", "4"]


def test_schema_names_columns_and_types(said: Any) -> None:
    """KsqlDB's type and DuckDB's, and which columns are the key."""
    assert json.loads(said("schema", "users", "--json")) == [
        {"name": "ID", "type": "BIGINT", "duckdb": "BIGINT", "key": True},
        {"name": "NAME", "type": "STRING", "duckdb": "VARCHAR", "key": False},
    ]
    assert said("schema", "users").splitlines()[1].split() == ["ID", "BIGINT", "BIGINT", "yes"]


def test_the_ddl_of_duckdb_and_arrow_is_that_of_the_files(said: Any, lake: Lake) -> None:
    """DuckDB runs it and sees the rows; Arrow's schema is that of the dataset."""
    with duckdb.connect() as connection:
        connection.execute(said("schema", "events", "--dialect", "duckdb"))
        assert connection.sql("SELECT count(*), max(day) FROM events").fetchall() == [(21, 16)]
    schema = lake.feed(stream_feed(name="every")).dataset().schema
    assert said("schema", "every", "--dialect", "arrow") == f"{schema}\n"


def test_the_ddl_of_spark_and_trino(said: Any, lake: Lake) -> None:
    """Every type in their words; a time of day, which neither reads, is left out and said to be."""
    spark, trino = (said("schema", "every", "--dialect", dialect) for dialect in ("spark", "trino"))
    for text in (spark, trino):
        assert text.startswith("-- left out, no type for a time of day ")
        assert text.splitlines()[0].endswith(": AT")
        assert f"{lake.root}/streams/every'" in text
    assert "`M` DECIMAL(20, 4)" in spark
    assert "`P` MAP<STRING, DECIMAL(9, 2)>" in spark
    assert "`N` STRUCT<`x`: INT, `inner`: STRUCT<`s`: STRING>>" in spark
    assert "PARTITIONED BY (year, month, day)" in spark
    assert '"N" ROW("x" INTEGER, "inner" ROW("s" VARCHAR))' in trino
    assert '"ROWTIME" TIMESTAMP(3)' in trino
    assert "partitioned_by = ARRAY['year', 'month', 'day']" in trino
    assert "partitioned_by = ARRAY['version']" in said("schema", "users", "--dialect", "trino")


def test_on_a_terminal_sql_starts_the_shell(lake: Lake, tmp_path: Path) -> None:
    """DuckDB's program gets a catalog of the lake; without it the answer says how to get it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    where = {"KSQL_LAKE_ROOT": lake.root, "KSQL_LAKE_FEEDS": str(tmp_path / "feeds"), "PATH": str(programs)}

    out = on_a_terminal(Project(tmp_path), "sql", **where)
    assert "install DuckDB's command line (duckdb.org)" in " ".join(without_styles(out).split())

    shell = programs / "duckdb"
    shell.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cp "$last" {tmp_path}/seen.duckdb\n')
    shell.chmod(0o755)
    out = on_a_terminal(Project(tmp_path), "sql", **where)
    assert "SHOW TABLES lists them" in " ".join(without_styles(out).split())
    with duckdb.connect(str(tmp_path / "seen.duckdb"), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM events").fetchall() == [(21,)]

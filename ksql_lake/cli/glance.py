"""`ksql-lake schema`, `head`, `describe` and `profile`: show one feed."""

from __future__ import annotations

from datetime import date

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.sql import print_rows
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_table
from ksql_lake.feeds import Feed
from ksql_lake.lake import FeedLake
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.sql.dialects import DIALECTS, columns_of, ddl
from ksql_lake.query.sql.sql_answer import ask

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_SCHEMA = """Show a feed's columns, or their definition for another engine.

\b
Examples:
  ksql-lake schema orders                      names and types
  ksql-lake schema orders --dialect spark      CREATE TABLE over the lake's folder
"""


@click.command(help=_SCHEMA)
@click.argument("name", shell_complete=feed_names())
@click.option("--dialect", type=click.Choice(list(DIALECTS)), help="DDL for an engine, or Arrow's schema.")
@_AS_JSON
def schema(*, name: str, dialect: str | None, as_json: bool) -> None:
    """Show a feed's columns."""
    if dialect and as_json:
        raise click.UsageError("--dialect prints text; leave out --json")
    _, lake = _feed(name)
    if dialect:
        click.echo(ddl(lake, dialect))
        return
    rows = columns_of(lake).rows
    if as_json:
        print_json([dict(zip(("name", "type", "duckdb", "key"), row, strict=True)) for row in rows])
        return
    print_table(
        ["Column", "ksqlDB", "DuckDB", "Key"],
        [[column, kind, duckdb, "yes" if key else ""] for column, kind, duckdb, key in rows],
        flexible=("ksqlDB", "DuckDB"),
    )


@click.command(help="Show a feed's first rows: of the newest day with rows, or of a table's latest version.")
@click.argument("name", shell_complete=feed_names())
@click.option("-n", "rows", type=click.IntRange(1), default=10, show_default=True, help="How many.")
def head(*, name: str, rows: int) -> None:
    """Show a feed's first rows."""
    feed, lake = _feed(name)
    with notes_from_log():
        _show(f"FROM {sql_name(name)}{_newest(feed, lake)} LIMIT {rows}", rows)


@click.command(help="Show what the lake holds of a feed: sizes, days or versions, evidence, columns.")
@click.argument("name", shell_complete=feed_names())
@_AS_JSON
def describe(*, name: str, as_json: bool) -> None:
    """Show what the lake holds of a feed."""
    feed, lake = _feed(name)
    state = lake.published()
    keys = state.partition_keys()
    facts: dict[str, object] = {
        "feed": feed.name,
        "kind": feed.kind,
        "source": feed.source,
        "description": feed.description,
        "rows": state.records,
        "bytes": state.bytes,
        "days" if feed.kind == "stream" else "versions": len(keys),
        "first": keys[0] if keys else None,
        "last": keys[-1] if keys else None,
        "files": sum(1 for _ in state.files()),
        "commit": state.sequence,
        "exported_at": state.last_export or None,
        "evidence": state.evidence.get(keys[-1]) if keys else None,
        "folder": lake.dataset_path,
        "columns": state.columns.text if state.columns else None,
    }
    if as_json:
        print_json(facts)
        return
    print_table(["What", "Is"], [[key, _text(value)] for key, value in facts.items()], flexible=("Is",))


_PROFILE = """Summarise each column: minimum, maximum, distinct values, quartiles, share of NULL.

It reads all rows; use --where to limit a stream's days. The number of distinct values is DuckDB's estimate.

\b
Examples:
  ksql-lake profile customers
  ksql-lake profile orders --where "year = 2025 AND month = 1"
"""


@click.command(help=_PROFILE)
@click.argument("name", shell_complete=feed_names())
@click.option("--where", help="Condition in SQL that selects the rows.")
def profile(*, name: str, where: str | None) -> None:
    """Summarise each column of a feed by its values."""
    _feed(name)
    with notes_from_log():
        _show(f"SUMMARIZE SELECT * FROM {sql_name(name)}{f' WHERE {where}' if where else ''}", None)


def _feed(name: str) -> tuple[Feed, FeedLake]:
    holdings = Holdings.open()
    feed = holdings.get(name)
    return feed, holdings.lake.feed(feed)


def _newest(feed: Feed, lake: FeedLake) -> str:
    newest = lake.published().newest_day if feed.kind == "stream" else ""
    if not newest:
        return ""
    day = date.fromisoformat(newest)
    return f" WHERE year = {day.year} AND month = {day.month} AND day = {day.day}"


def _show(sql: str, limit: int | None) -> None:
    answer = ask(sql)
    assert answer is not None  # noqa: S101 - a SELECT always has one
    for remark in answer.remarks:
        note(remark)
    print_rows(answer, limit)


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)

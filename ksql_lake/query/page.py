"""A feed's page in Markdown: description, how to read it, a few rows."""

# The SQL names folders, not files, so that it stays valid. The sample shows no binary values and no secrets.

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb

from ksql_lake.errors import MASK, KsqlLakeError
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedLake
from ksql_lake.lake.files.sql_values import literally, sql_name, sql_text
from ksql_lake.lake.layout import version_number
from ksql_lake.lake.rows.scan import PATH_COLUMNS, path_terms
from ksql_lake.markdown import block, code
from ksql_lake.quantities import count_text

_DEPTH = {"stream": "*/*/*/*.parquet", "table": "*/*.parquet"}

COLUMNS = 12
"""Most columns of a sample."""

CHARACTERS = 40
"""Most characters of a cell."""

SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|credential|(^|_)token|api_?key|private_?key|(^|_)(cvv|cvc|pin)(_|$)",
    re.IGNORECASE,
)
"""Words in the name of a column whose values must not be shown."""

NARROW = 60
"""Most characters of a table's heading that fit beside the other facts of a page."""

FOLDED = 1000
"""From this many characters on, Dagster opens Markdown in a separate window."""


def duckdb_snippet(lake: FeedLake, partition: str | None = None) -> str:
    """Return a SELECT of one day or version, or of a whole stream or a table's latest version.

    Args:
        lake: The feed's lake.
        partition: `2025-01-15` or `v4`; None means the stream or the latest version.
    """
    rows = _rows(lake)
    if lake.feed.kind == "stream":
        return f"FROM {rows}{_day(partition) if partition else ''};"
    if partition is not None:
        return f"FROM {rows}\nWHERE version = 'v{version_number(partition)}';"
    newest = "SELECT max_by(version, CAST(substr(version, 2) AS INTEGER)) FROM versions"
    return f"WITH versions AS (\nFROM {rows})\nFROM versions\nWHERE version = ({newest});"


def _rows(lake: FeedLake) -> str:
    folder = lake.dataset_path
    files = sql_text(f"{literally(folder)}/{_DEPTH[lake.feed.kind]}")
    options, terms = path_terms(lake.feed.kind, folder, ())
    scan = f"read_parquet(\n  {files},\n  union_by_name = true, {options})"
    if "=" not in folder:
        return scan
    listed = ",\n  ".join(terms)
    return f"(SELECT * EXCLUDE (ksql_lake_file),\n  {listed}\nFROM {scan})"


def _day(key: str) -> str:
    year, month, day = (int(part) for part in key.split("-"))
    return f"\nWHERE year = {year} AND month = {month} AND day = {day}"


def sample(lake: FeedLake, partition: str, *, rows: int) -> str:
    """Return the first rows of a day or version as Markdown; of the newest day with rows if it has none.

    Args:
        lake: The feed's lake.
        partition: `2025-01-15` or `v4`.
        rows: Most rows.
    """
    try:
        state = lake.state()
        key = partition if partition in state.partitions else state.newest_day
        if not key:
            return "There are no rows yet."
        names, found = _read(lake, key, rows)
    except (KsqlLakeError, duckdb.Error) as error:
        # A committed file may be removed at this moment, by retention, compaction or doctor.
        return f"The rows could not be read: `{_plain(str(error), 200)}`"
    if not found:
        return f"{key} holds no rows."
    left_out = len(names) - COLUMNS
    more = f"; {count_text(left_out, 'column')} more" if left_out > 0 else ""
    return f"{_table(names[:COLUMNS], found)}\n\nThe first rows of {key}{more}."


def _read(lake: FeedLake, partition: str, rows: int) -> tuple[list[str], list[dict[str, Any]]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        relation = lake.relation(connection, partitions=[partition])
        names = [name for name in relation.columns if name not in PATH_COLUMNS[lake.feed.kind]]
        shown = relation.project(", ".join(sql_name(name) for name in names[:COLUMNS])).limit(rows)
        return names, shown.to_arrow_table().to_pylist()


def _table(names: list[str], rows: list[dict[str, Any]]) -> str:
    head = [f"`{_plain(name, CHARACTERS)}`" for name in names]
    cells = [[f"`{_plain(_worded(row[name], name), CHARACTERS)}`" for name in names] for row in rows]
    lines = [head, ["---"] * len(names), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _worded(value: Any, name: str = "") -> str:
    if value is None:
        return "NULL"
    value = _shown(value, name)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _shown(value: Any, name: str = "") -> Any:
    """Return the value to show: JSON-like, without bytes, and without values whose `name` marks them secret."""
    if value is None:
        return None
    if SECRET.search(name):
        return MASK
    for kind, word in _WORDS.items():
        if isinstance(value, kind):
            return word(value)
    return value


def _map(entries: dict[str, Any]) -> dict[str, Any]:
    return {str(key): _shown(value, str(key)) for key, value in entries.items()}


def _list(items: list[Any]) -> Any:
    # A MAP arrives as a list of pairs.
    if items and all(isinstance(item, tuple) for item in items):
        return _map(dict(items))
    return [_shown(item) for item in items]


_WORDS: dict[type, Callable[[Any], Any]] = {
    Decimal: str,
    bytes: lambda value: count_text(len(value), "byte"),
    datetime: lambda value: value.replace(tzinfo=None).isoformat(" ", "milliseconds"),
    date: date.isoformat,
    time: time.isoformat,
    dict: _map,
    list: _list,
}


def _plain(text: str, most: int) -> str:
    """Return one line for a code span in a table, without anything that ends the span, the cell or the line."""
    line = " ".join(text.split()).replace("`", "'")
    line = line if len(line) <= most else line[: most - 1] + "…"
    # After cutting: readers see an escape as one character.
    return line.replace("|", "\\|") or " "


def description(lake: FeedLake) -> str:
    """Return the feed's description, the meaning of its partitions, and the SQL that reads it."""
    feed = lake.feed
    summary = feed.description.rstrip(".") or f"The ksqlDB {feed.kind} {code(feed.source)} as Parquet"
    sql = block(duckdb_snippet(lake), "sql")
    return f"{summary}.\n\n{_about(feed)}\n\nIn DuckDB, without ksql-lake:\n\n{sql}"


@dataclass(frozen=True, slots=True)
class PartitionPage:
    """The rows of one day or version on its page.

    Attributes:
        duckdb: SQL that reads it, on one line: pages break text, but not code.
        sample: The first rows as Markdown, of the newest day with rows if the day has none; None if the
            feed shows no rows.
    """

    duckdb: str
    sample: str | None


def partition_page(lake: FeedLake, partition: str) -> PartitionPage:
    """Return the rows of one day or version for its page."""
    sql = " ".join(line.strip() for line in duckdb_snippet(lake, partition).splitlines())
    if not lake.feed.sample_rows:
        return PartitionPage(sql, None)
    rows = sample(lake, partition, rows=lake.feed.sample_rows)
    return PartitionPage(sql, rows if len(rows.partition("\n")[0]) <= NARROW else rows.ljust(FOLDED))


def _about(feed: Feed) -> str:
    if not isinstance(feed, StreamFeed):
        return (
            f"Each version is the whole table {code(feed.source)} at one moment; the newest "
            f"{count_text(feed.retention, 'version')} are kept. Only the open version, the next one, can be "
            "materialized; add its key first with *Add a partition*."
        )
    identity = {
        "row": "the lake does not hold",
        "key": f"whose {' and '.join(map(code, feed.identity.columns))} the lake does not hold",
        "offset": "whose Kafka offset the lake does not hold",
    }[feed.identity.by]
    return (
        f"Each partition is a day in {feed.timezone}, by {code(feed.event_time)}, of the stream "
        f"{code(feed.source)}. "
        f"Materializing a day again adds the rows {identity}, and deletes nothing."
    )

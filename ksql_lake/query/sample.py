"""A few committed rows as a Markdown table, for a page that people look at.

Bounded in every direction: rows, columns, characters of a cell. It refuses to show binary values, and the
values of columns and fields whose names speak of a secret; nothing a row holds is taken for Markdown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb

from ksql_lake.errors import MASK, KsqlLakeError
from ksql_lake.lake import FeedLake
from ksql_lake.lake.equality import sql_name
from ksql_lake.lake.scan import PATH_COLUMNS
from ksql_lake.quantities import count_text

COLUMNS = 12
"""Most columns of a sample."""

CHARACTERS = 40
"""Most characters of a cell."""

SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|credential|(^|_)token|api_?key|private_?key|(^|_)(cvv|cvc|pin)(_|$)",
    re.IGNORECASE,
)
"""What a column's name says when its values are nobody's business."""


def sample(lake: FeedLake, partition: str, *, rows: int) -> str:
    """Give the first rows of a day or version as Markdown; of the newest day with rows if it has none.

    Args:
        lake: The feed's lake.
        partition: `2025-01-15` or `v4`.
        rows: How many at most.
    """
    try:
        state = lake.state()
        key = partition if partition in state.partitions else state.newest_day
        if not key:
            return "There are no rows yet."
        names, found = _read(lake, key, rows)
    except (KsqlLakeError, duckdb.Error) as error:
        # What is committed may be on its way out: retention, compaction and doctor take files away.
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
    """The value as it may be seen: JSON-like, without bytes, and without what `name` says is secret."""
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
    """One line for a code span in a table: nothing in it can end the span, the cell or the line."""
    line = " ".join(text.split()).replace("`", "'")
    line = line if len(line) <= most else line[: most - 1] + "…"
    # After cutting: an escape is one character to the reader.
    return line.replace("|", "\\|") or " "

"""Write the SELECT of an export: explicit columns, a half-open window, everything quoted. Pure."""

# Never `SELECT *`: on tables with header columns the server sends the values in another order than its
# header. Where a feed's event time may be NULL, ROWTIME decides, in the query exactly as in the lake.

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import count

from ksql_lake.decode.encodings import KEYS, PLAIN, VALUES, WRAPPER, Form, Path
from ksql_lake.errors import ConfigError, SchemaError
from ksql_lake.feeds.feed_columns import DELETED, HIVE_COLUMNS, POSITION_COLUMNS
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import quote_identifier, quote_literal
from ksql_lake.lake.days import Days, day_start, in_unit

ROWTIME = "ROWTIME"
WINDOW_BOUNDS = ("WINDOWSTART", "WINDOWEND")
LAST_MOMENT = 253_402_300_799_000
"""The last second of the year 9999; later values are no time, and would not be read as one."""
TIME_COLUMNS = (ROWTIME, *WINDOW_BOUNDS)
"""Columns the server adds: BIGINT epoch milliseconds on the wire, timestamps in the lake."""


def wanted_columns(feed: Feed, available: Sequence[str], *, placed: bool = False) -> list[str]:
    """Return the source columns an export selects, in order.

    A stream's ROWTIME always comes first; its event-time column is added when `columns` leaves it out. The
    bounds of a windowed source distinguish its rows and are never left out.

    Args:
        feed: The feed.
        available: What the source has.
        placed: Whether Kafka's partition and offset may be named too.

    Raises:
        ConfigError: `columns`, `rename`, `event_time` or `identity` names a column the source does not have.
    """
    known = [*available, ROWTIME, *(POSITION_COLUMNS if placed else ())]
    for key, names in feed.named_columns.items():
        for name in names:
            if name not in known:
                raise _unknown_column(feed, key, name, known)
    chosen = list(feed.columns) if feed.columns is not None else list(available)
    bounds = [name for name in WINDOW_BOUNDS if name in available and name not in chosen]
    if isinstance(feed, StreamFeed):
        extra = [name for name in (feed.event_time, *feed.identity.columns) if name not in (*chosen, ROWTIME)]
        added = [*(name for name in bounds if name not in extra), *extra]
        return [ROWTIME, *(name for name in chosen if name != ROWTIME), *added]
    return [*bounds, *chosen]


def lake_names(feed: Feed, columns: Sequence[str]) -> list[str]:
    """Return the names the columns have in the lake.

    Raises:
        SchemaError: Two names differ only in case, or one is a partition column's; DuckDB and Spark would
            confuse them.
    """
    taken = dict.fromkeys(HIVE_COLUMNS[feed.kind], "a partition column of the lake")
    if feed.marks_deleted:
        taken[DELETED] = "the column that `deleted` adds"
    names = []
    for column in columns:
        name = feed.lake_name(column)
        if name.casefold() in taken:
            raise SchemaError(
                f"its name in the lake would be {name!r}, but that is {taken[name.casefold()]} "
                "(readers ignore case)",
                hint=f'Set another one in the feed file: "rename": {{"{column}": "{name}_"}}',
                feed=feed.name,
                column=column,
            )
        taken[name.casefold()] = f"also the name of column {column!r}"
        names.append(name)
    return names


def stream_statement(
    feed: StreamFeed,
    columns: Sequence[str],
    days: Days,
    *,
    event_type: str,
    forms: Sequence[Form] = (),
    open_end: bool = False,
) -> str:
    """Write the pull query that reads a stream's days.

    Args:
        feed: The feed.
        columns: Source columns in order.
        days: The window.
        event_type: ksqlDB type of the event-time column.
        forms: How each column travels; without forms all columns travel as they are.
        open_end: Whether rows after the last day are read too.

    Raises:
        ConfigError: The event-time column is neither BIGINT nor TIMESTAMP.
    """
    where = window_condition(feed, days, event_type=event_type, open_end=open_end)
    return f"SELECT {_listed(columns, forms)} FROM {quote_identifier(feed.source)} WHERE {where};"


def window_condition(feed: StreamFeed, days: Days, *, event_type: str, open_end: bool = False) -> str:
    """Write the condition that a row belongs to a window of days or, with an open end, is later.

    Raises:
        ConfigError: The event-time column is neither BIGINT nor TIMESTAMP.
    """
    start = day_start(days.first, feed.zone)
    end = day_start(datetime.fromordinal(days.last.toordinal() + 1).date(), feed.zone)
    end = LAST_MOMENT if open_end else end
    within_rowtime = _between(ROWTIME, str(start), str(end))
    if feed.event_time == ROWTIME:
        return within_rowtime
    column = quote_identifier(feed.event_time)
    if event_type == "TIMESTAMP":
        low, high = (quote_literal(_timestamp(edge)) for edge in (start, end))
    elif event_type == "BIGINT":
        edges = (in_unit(edge, feed.event_time_unit) for edge in (start, end))
        low, high = (str(min(edge, 2**63 - 1)) for edge in edges)
    else:
        raise ConfigError(
            f"event_time {feed.event_time!r} is {event_type}; it must be BIGINT (epoch ms) or TIMESTAMP",
            hint="Name another column in `event_time`, or use ROWTIME.",
            feed=feed.name,
        )
    inside = _between(column, low, high)
    return f"({inside}) OR ({column} IS NULL AND {within_rowtime})"


def push_statement(feed: Feed, columns: Sequence[str], *, where: str = "", forms: Sequence[Form] = ()) -> str:
    """Write the push query that reads a source from its first row on, and does not end."""
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {_listed(columns, forms)} FROM {quote_identifier(feed.source)}{condition} EMIT CHANGES;"


def table_statement(feed: Feed, columns: Sequence[str], forms: Sequence[Form] = ()) -> str:
    """Write the pull query that reads a whole table."""
    return f"SELECT {_listed(columns, forms)} FROM {quote_identifier(feed.source)};"


def _listed(columns: Sequence[str], forms: Sequence[Form]) -> str:
    pseudo = (*TIME_COLUMNS, *POSITION_COLUMNS)
    taken = {name.casefold() for name in columns}
    aliases = (name for number in count(1) if (name := f"EXACT_{number}").casefold() not in taken)
    listed = []
    for name, form in zip(columns, forms or [PLAIN] * len(columns), strict=True):
        column = name if name in pseudo else quote_identifier(name)
        listed.append(f"STRUCT({WRAPPER} := {column}) AS {column}" if form.wrapped else column)
        listed += [f"{part_expression(column, path)} AS {next(aliases)}" for path in form.parts]
    return ", ".join(listed)


def part_expression(value: str, path: Path, *, depth: int = 1) -> str:
    """Write the expression of a part of a value; a part inside an ARRAY or MAP comes as an ARRAY.

    Args:
        value: Expression of the value.
        path: Where the part is in it.
        depth: How many lambdas enclose it, itself included.
    """
    if not path:
        return value
    step, *rest = path
    if step.into == "field":
        return part_expression(f"{value}->{quote_identifier(step.name)}", tuple(rest), depth=depth)
    if step == KEYS:
        return f"MAP_KEYS({value})"
    items = f"MAP_VALUES({value})" if step == VALUES else value
    if not rest:
        return items
    inner = part_expression(f"X_{depth}", tuple(rest), depth=depth + 1)
    return f"TRANSFORM({items}, X_{depth} => {inner})"


def _between(column: str, low: str, high: str) -> str:
    return f"{column} >= {low} AND {column} < {high}"


def _timestamp(milliseconds: int) -> str:
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00")


def _unknown_column(feed: Feed, key: str, name: str, known: Sequence[str]) -> ConfigError:
    close = get_close_matches(name.casefold(), [other.casefold() for other in known], n=1)
    meant = next((other for other in known if close and other.casefold() == close[0]), None)
    return ConfigError(
        f"`{key}` names the column {name!r}, which {feed.source} does not have",
        hint=f"Did you mean {meant!r}?" if meant else f"It has: {', '.join(known)}",
        feed=feed.name,
    )

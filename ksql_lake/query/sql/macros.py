"""Table macros of a feed: a table's version at a time, and a stream's rows of a range of event times."""

# A macro holds the SELECT of its rows and no view's name: DuckDB looks a name up where the macro is called.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ksql_lake.errors import LakeError
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedState
from ksql_lake.lake.day_zone import with_its_zone
from ksql_lake.lake.days import UNITS
from ksql_lake.lake.files.sql_values import sql_name, sql_text
from ksql_lake.lake.layout import version_number
from ksql_lake.lake.rows.scan import PATH_COLUMNS, committed_rows, free_name, unified_columns
from ksql_lake.query.event_range import Clock
from ksql_lake.query.sql.views import Committed
from ksql_lake.schema import Primitive, Schema


@dataclass(frozen=True, slots=True)
class Macro:
    """The definition of a table macro: its name, its parameters, its SELECT, and its comment."""

    name: str
    parameters: str
    sql: str
    comment: str


def as_of_macros(committed: Committed) -> list[Macro]:
    """Return the table macro `NAME__as_of(ts)`: the newest version at a time; none for a stream.

    For a constant time the choice is a constant for DuckDB, so that it does not open files of other versions.
    """
    name, state = committed.feed.name, committed.state
    kept = state.partition_keys()
    if committed.feed.kind != "table" or not kept:
        return []
    numbers = [*map(version_number, kept), state.next_version]
    columns, held = unified_columns(state)
    names = [*columns.names, *PATH_COLUMNS["table"]]
    at = free_name("ts", [*names, *(own for each in held for own in each.values())])
    choices = []
    for key, (number, following) in reversed(list(zip(kept, pairwise(numbers), strict=True))):
        shown = sql_text(key)
        if following != number + 1:
            lost = sql_text(f"a version of {name} between {key} and v{following} is not in the lake")
            shown = f"error({lost})"
        moment = f"TIMESTAMPTZ {sql_text(committed.read_at(key).isoformat())}"
        choices.append(f"WHEN CAST({at} AS TIMESTAMPTZ) >= {moment} THEN {shown}")
    problem = sql_text(f"no kept version of {name} had been read by then; the oldest is {kept[0]}")
    chosen = f"CASE {' '.join(choices)} ELSE error({problem}) END"
    unseen = _unseen(names)
    rows = _filtered(committed_rows(state, committed.address), unseen, f"{unseen['version']} = {chosen}")
    return [Macro(f"{name}__as_of", at, rows, f"{name} as of its last reading before a time")]


def _unseen(names: Iterable[str]) -> dict[str, str]:
    """Return names for columns that no argument can mean: DuckDB binds arguments inside the macro."""
    return {name: f"ksql_lake_{at}" for at, name in enumerate(names)}


def _filtered(rows: str, unseen: Mapping[str, str], condition: str) -> str:
    """Return the rows that a condition on the unseen names keeps, under their own names."""
    listed = ", ".join(f"{inner} AS {sql_name(name)}" for name, inner in unseen.items())
    named = f"({rows}) AS t({', '.join(unseen.values())})"
    return f"SELECT {listed} FROM (SELECT * FROM {named} WHERE {condition})"


def between_macros(feed: Feed, state: FeedState, rows: str) -> list[Macro]:
    """Return the table macro `NAME__between(from_time, to_time)`: a stream's rows of a range; none for a table.

    DuckDB skips files by their path columns only, so the range is repeated for these, a day wider on both
    sides. NULL means no bound.

    Args:
        feed: The feed.
        state: Its committed state.
        rows: The SELECT of its view.
    """
    columns, feed = state.columns, with_its_zone(feed, state)
    if not isinstance(feed, StreamFeed) or columns is None:
        return []
    try:
        clock = Clock.of(feed, state)
    except LakeError:
        return []  # the event time has no single column
    taken = [*columns.names, *PATH_COLUMNS["stream"]]
    unseen = _unseen(taken)
    ends = [free_name(name, taken) for name in ("from_time", "to_time")]
    conditions = []
    for end, how, days, later in zip(ends, (">=", "<"), (">=", "<="), ("- 1", "+ 1"), strict=True):
        moment = f"CAST({end} AS TIMESTAMPTZ)"
        day = f"CAST(timezone({sql_text(feed.timezone)}, {moment}) AS DATE) {later}"
        # In the path columns' type; else DuckDB compares too late to skip files.
        parts = ", ".join(f"CAST({part}({day}) AS INTEGER)" for part in PATH_COLUMNS["stream"])
        on_path = f"({', '.join(unseen[part] for part in PATH_COLUMNS['stream'])}) {days} ({parts})"
        # The date of an infinite time has no parts.
        conditions.append(f"({end} IS NULL OR NOT isfinite({moment}) OR {on_path})")
        conditions.append(f"({end} IS NULL OR {_compared(clock, columns, unseen, how, moment)})")
    chosen = _filtered(rows, unseen, " AND ".join(conditions))
    return [Macro(f"{feed.name}__between", ", ".join(ends), chosen, f"{feed.name} of a range of event times")]


def _compared(clock: Clock, columns: Schema, unseen: Mapping[str, str], how: str, moment: str) -> str:
    """Return the comparison of a row's event time with a moment; ROWTIME replaces a NULL event time."""
    column, rowtime = unseen[clock.column], unseen["ROWTIME"]
    if next(one for one in columns if one.name == clock.column).type is Primitive.TIMESTAMP:
        return (
            f"coalesce({column}, {rowtime}) {how} {moment}"
            if clock.column != "ROWTIME"
            else f"{rowtime} {how} {moment}"
        )
    times, parts = UNITS[clock.unit]
    number = f"CAST({column} AS HUGEINT) * {times * 1000}"
    wanted = f"CAST(epoch_us({moment}) AS HUGEINT) * {parts}"
    return f"CASE WHEN {column} IS NULL THEN {rowtime} {how} {moment} ELSE {number} {how} {wanted} END"

"""Rewrite a SELECT over a stream to open only the days that its conditions on time can touch."""

# DuckDB skips files by path columns only. Conditions on the event time, its date or `make_date(year, month,
# day)` are repeated as conditions on the path. The query's own conditions stay, so no row is lost.

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType

import duckdb

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake.days import UNITS
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.query.event_range import Clock, EventRange
from ksql_lake.query.moments import NANOS
from ksql_lake.query.sql.history_moments import history_changes
from ksql_lake.query.sql.statement_trees import (
    DAY,
    Node,
    Values,
    is_constant,
    keys_of,
    plain,
    qualifier,
    selects,
    tables_of,
)
from ksql_lake.query.sql.views import Committed, listed_views

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}
_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_NOT_UNDERSTOOD = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, StopIteration)
"""Errors from a tree of another shape, e.g. of another DuckDB release."""
Bound = tuple[str, str, Node]
"""A comparison: left side (the event `time`, its `date`, or the day of the `path`), operator, right side."""


def pruned(
    sql: str,
    streams: Mapping[str, Committed],
    histories: Mapping[str, Committed] = MappingProxyType({}),
    *,
    connection: duckdb.DuckDBPyConnection,
    utc: bool = False,
) -> str:
    """Return the statement with its conditions on time repeated for the path; without any, the same text.

    Args:
        sql: A statement.
        streams: View -> stream that the statement may name.
        histories: View -> table whose history the statement may name.
        connection: The connection that will run the statement; a cursor of it parses the text, because a new
            database takes longer to open.
        utc: Whether times without an offset are certainly UTC; else any zone of the session is possible.
    """
    explain = _EXPLAIN.match(sql)
    head = explain[0] if explain else ""
    text = sql[len(head) :].encode()
    try:
        with duckdb.DuckDBPyConnection.cursor(connection) as parser:
            parser.execute("SET TimeZone = 'UTC'")
            (tree,) = parser.execute("SELECT json_serialize_sql(?)", [text.decode()]).fetchall()[0]
            document = json.loads(tree)
            if len(document.get("statements", ())) != 1 or '"PARAMETER"' in tree:
                return sql
            named = set(keys_of(document, "cte_map"))
            known, followed = (
                {name: committed for name, committed in views.items() if name not in named}
                for views in (streams, histories)
            )
            values = Values(parser, utc=utc)
            found = [
                *_changes(document, known, values, text),
                *history_changes(document, followed, values, text),
            ]
            changes = sorted(found, reverse=True)
            if changes and not _all_ours(connection, known | followed):
                return sql
    except (duckdb.Error, KsqlLakeError, *_NOT_UNDERSTOOD):
        return sql  # running it raises its error
    for begin, end, instead in changes:
        text = text[:begin] + instead.encode() + text[end:]
    return head + text.decode()


def _all_ours(connection: duckdb.DuckDBPyConnection, views: Mapping[str, Committed]) -> bool:
    """Return whether views are those of the lake: the caller may have tables or views of the same names.

    A comment shows whose a view is; a view that replaces another one has none.
    """
    names = list(views)
    # A relation keeps the rows that the caller has still to fetch; a cursor would not see temporary tables.
    found = duckdb.DuckDBPyConnection.sql(connection, _NAMED, params=[names, names]).fetchall()
    comments = [dict(listed_views(committed)).get(name) for name, committed in views.items()]
    return sorted(found, key=str) == sorted(zip(names, comments, strict=True), key=str)


_NAMED = """
SELECT lower(view_name), comment FROM duckdb_views() WHERE lower(view_name) IN (SELECT unnest($1::VARCHAR[]))
UNION ALL
SELECT lower(table_name), NULL FROM duckdb_tables() WHERE lower(table_name) IN (SELECT unnest($2::VARCHAR[]))
"""


def _changes(
    node: Node, streams: Mapping[str, Committed], values: Values, text: bytes
) -> Iterator[tuple[int, int, str]]:
    for select in selects(node):
        where, tables = select.get("where_clause"), list(tables_of(select.get("from_table")))
        if where is None:
            continue
        for table in tables:
            committed = streams.get(str(table["table_name"]).casefold())
            if committed is None or not plain(table):
                continue
            begin = int(table["query_location"])
            end = begin + int(table["query_location_length"])
            alias = str(table["alias"] or table["table_name"])
            if not text[begin:end].lstrip(b'"').lower().startswith(committed.feed.name.encode()):
                continue
            clock = Clock.of(committed.feed, committed.state)
            bounds = _bounds(where, clock.column, {alias.casefold(), *([""] if len(tables) == 1 else [])})
            days = _days(committed, clock, list(bounds), values)
            if days is not None:
                name = sql_name(committed.feed.name)
                yield begin, end, f"(SELECT * FROM {name} WHERE {days}) AS {sql_name(alias)}"


def _days(committed: Committed, clock: Clock, bounds: list[Bound], values: Values) -> str | None:
    """Return the condition on the path columns for the days of the bounds; None if it excludes no day."""
    state = committed.state
    keys = state.partition_keys()
    left = set(keys)
    for what, how, constant in bounds:
        if what == "path":
            if values.zoned(constant):
                continue
            day = values.compute(constant, "TIMESTAMP") // (1000 * DAY)
            left = {key for key in left if _compared(_number(key), how, day)}
            continue
        low, high = _range(clock, committed, what, how, constant, values)
        events = EventRange(clock, *(None if end is None else end * NANOS for end in (low, high)))
        left = {key for key in left if any(map(events.may_hold, state.files_of(key)))}
    if len(left) == len(keys) or not bounds:
        return None
    if not left:
        return "year = 0"
    first, last = (
        f"({', '.join(str(int(part)) for part in key.split('-'))})" for key in (min(left), max(left))
    )
    path = "(year, month, day)"
    return f"{path} >= {first} AND {path} <= {last}"


def _number(key: str) -> int:
    return (date.fromisoformat(key) - date(1970, 1, 1)).days


def _compared(day: int, how: str, other: int) -> bool:
    # A constant that is not midnight was rounded down to its day, so both sides include that day.
    return {"=": day == other, "<": day <= other, "<=": day <= other, ">": day >= other, ">=": day >= other}[
        how
    ]


def _range(
    clock: Clock, committed: Committed, what: str, how: str, constant: Node, values: Values
) -> tuple[int | None, int | None]:
    """Return the first epoch ms that a bound allows, and the first after them; both may be too wide."""
    columns = committed.state.columns
    timed = columns is None or next(one for one in columns if one.name == clock.column).type.text == "TIMESTAMP"
    if timed:
        at, slack = values.compute(constant, "TIMESTAMPTZ") // 1000, values.slack(constant)
    elif what == "date":
        raise ValueError("a number has no date")
    elif constant.get("literal", {}).get("kind") != "INTEGER":
        raise ValueError("numbers are compared in another type")
    else:
        times, parts = UNITS[clock.unit]
        at, slack = values.compute(constant, "HUGEINT") * times // parts, 0
    after = DAY if what == "date" else 1
    low = at - slack if how in {"=", ">", ">="} else None
    high = at + slack + after if how in {"=", "<", "<="} else None
    if how == "<" and what == "time" and timed and not slack:
        # In microseconds, because rows have whole milliseconds.
        high = -(-values.compute(constant, "TIMESTAMPTZ") // 1000)
    return low, high


def _bounds(where: Node, clock: str, qualifiers: set[str]) -> Iterator[Bound]:
    parts = where["children"] if where.get("type") == "CONJUNCTION_AND" else [where]
    for part in parts:
        if part["class"] == "CONJUNCTION" and part["type"] == "CONJUNCTION_AND":
            yield from _bounds(part, clock, qualifiers)
        elif part["class"] == "COMPARISON" and part["type"] in _COMPARISONS:
            how = _COMPARISONS[part["type"]]
            yield from _bound(part["left"], how, part["right"], clock, qualifiers)
            yield from _bound(part["right"], _FLIPPED[how], part["left"], clock, qualifiers)
        elif part["class"] == "BETWEEN" and part["type"] == "COMPARE_BETWEEN":
            yield from _bound(part["input"], ">=", part["lower"], clock, qualifiers)
            yield from _bound(part["input"], "<=", part["upper"], clock, qualifiers)


def _bound(side: Node, how: str, other: Node, clock: str, qualifiers: set[str]) -> Iterator[Bound]:
    if not is_constant(other):
        return
    what, inner = "time", side
    if (
        side["class"] == "CAST"
        and str(side["type_expr"]["type_name"]).upper() == "DATE"
        and not side["try_cast"]
    ):
        what, inner = "date", side["child"]
    if inner["class"] == "COLUMN_REF" and inner["column_names"][-1].casefold() == clock.casefold():
        if qualifier(inner) in qualifiers:
            yield what, how, other
    elif side["class"] == "FUNCTION" and side["function_name"] == "make_date":
        given = [argument.get("expression", argument) for argument in side["arguments"]]
        named = [str(one["column_names"][-1]).casefold() for one in given if one["class"] == "COLUMN_REF"]
        if named == ["year", "month", "day"] and all(qualifier(one) in qualifiers for one in given):
            yield "path", how, other

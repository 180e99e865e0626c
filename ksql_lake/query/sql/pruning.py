"""A SELECT over a stream made to open only the days that its own conditions on time can touch.

DuckDB leaves out files by comparing path columns with constants, and knows nothing of what else they hold. A
condition on the event time, on its date, or on `make_date(year, month, day)` is therefore said once more, of
the path columns and inside of the FROM, by the event times that the commits recorded. The query's own
conditions stay; rows that they let through are never left out. What it does not understand it leaves as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake.days import UNITS
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.query.event_range import Clock, EventRange
from ksql_lake.query.sql.views import Committed

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)
_OFFSET = re.compile(r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)\s*", re.IGNORECASE)
_TYPES = {
    "DATE",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TIMESTAMP WITH TIME ZONE",
    "INTERVAL",
    "INTEGER",
    "BIGINT",
    "DOUBLE",
}
"""What a literal may be cast to; a time that is compared as a text has another order."""
_CONSTANT = {"CONSTANT", "CAST", "TYPE"}
_FUNCTIONS = {
    "+",
    "-",
    "to_days",
    "to_hours",
    "to_minutes",
    "to_months",
    "to_years",
    "to_weeks",
    "trunc",
    "make_date",
}
"""Functions that say the same whenever they are asked."""
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}
_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_DAY = 86_400_000
_NOT_UNDERSTOOD = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError, StopIteration)
"""What a tree of another shape, e.g. another release's, leads to."""
Node = Any
Bound = tuple[str, str, Node]
"""What is compared (the event `time`, its `date`, or the day of the `path`), how, and with what."""


def pruned(sql: str, streams: Mapping[str, Committed], *, utc: bool = False) -> str:
    """Give the statement with its conditions on time told to the files; the same text where there are none.

    Args:
        sql: A statement.
        streams: The streams that may be named in it, by their views.
        utc: Whether times without an offset are sure to be UTC; else any zone of the session is allowed for.
    """
    explain = _EXPLAIN.match(sql)
    head = explain[0] if explain else ""
    text = sql[len(head) :].encode()
    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            (told,) = connection.execute("SELECT json_serialize_sql(?)", [text.decode()]).fetchall()[0]
            document = json.loads(told)
            if len(document.get("statements", ())) != 1 or '"PARAMETER"' in told:
                return sql
            named = set(_keys_of(document, "cte_map"))
            known = {name: committed for name, committed in streams.items() if name not in named}
            changes = sorted(_changes(document, known, _Values(connection, utc=utc), text), reverse=True)
    except (duckdb.Error, KsqlLakeError, *_NOT_UNDERSTOOD):
        return sql  # whoever runs it hears what is wrong with it
    for begin, end, instead in changes:
        text = text[:begin] + instead.encode() + text[end:]
    return head + text.decode()


@dataclass(frozen=True, slots=True)
class _Values:
    """What constants are: a blank connection that computes them."""

    connection: duckdb.DuckDBPyConnection
    utc: bool

    def compute(self, node: Node, kind: str) -> int:
        """Give a constant as a number: microseconds, or a whole number as it is."""
        (frame,) = self.connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()[0]
        asked = json.loads(frame)
        asked["statements"][0]["node"]["select_list"] = [node]
        (text,) = self.connection.execute(
            "SELECT json_deserialize_sql(?::JSON)", [json.dumps(asked)]
        ).fetchall()[0]
        value = f"CAST(({text}) AS {kind})"
        (found,) = self.connection.execute(
            f"SELECT {value if kind == 'HUGEINT' else f'epoch_us({value})'}"
        ).fetchall()[0]
        return int(found)

    def slack(self, node: Node) -> int:
        """Give the milliseconds by which another zone of the session could move a constant."""
        inner = node.get("child", node) if node["class"] == "CAST" else node
        told = str(inner.get("literal", {}).get("text", "")) if inner["class"] == "CONSTANT" else ""
        kind = str(node.get("type_expr", {}).get("type_name", "")).upper()
        fixed = (
            kind in {"", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"}
            and len(told) > 10
            and _OFFSET.search(told[10:])
        )
        return 0 if self.utc or (fixed and fixed.end() == len(told) - 10) else _DAY


def _changes(
    node: Node, streams: Mapping[str, Committed], values: _Values, text: bytes
) -> Iterator[tuple[int, int, str]]:
    for select in _selects(node):
        where, tables = select.get("where_clause"), list(_tables(select.get("from_table")))
        if where is None:
            continue
        for table in tables:
            committed = streams.get(str(table["table_name"]).casefold())
            if committed is None or not _plain(table):
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


def _plain(table: Node) -> bool:
    return not (
        table["schema_name"]
        or table["catalog_name"]
        or table["sample"]
        or table["column_name_alias"]
        or table.get("at_clause")
    )


def _days(committed: Committed, clock: Clock, bounds: list[Bound], values: _Values) -> str | None:
    """Say which days can hold rows of the bounds, of the path columns; None where that leaves out nothing."""
    state = committed.state
    keys = state.partition_keys()
    left = set(keys)
    for what, how, constant in bounds:
        if what == "path":
            day = values.compute(constant, "TIMESTAMP") // (1000 * _DAY)
            left = {key for key in left if _compared(_number(key), how, day)}
            continue
        low, high = _range(clock, committed, what, how, constant, values)
        events = EventRange(clock, low, high)
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
    # A constant that is no midnight was rounded down to its day: both sides include it.
    return {"=": day == other, "<": day <= other, "<=": day <= other, ">": day >= other, ">=": day >= other}[
        how
    ]


def _range(
    clock: Clock, committed: Committed, what: str, how: str, constant: Node, values: _Values
) -> tuple[int | None, int | None]:
    """Give the first epoch ms that a bound allows, and the first that is too late; either may be generous."""
    columns = committed.state.columns
    timed = columns is None or next(one for one in columns if one.name == clock.column).type.text == "TIMESTAMP"
    if timed:
        at, slack = values.compute(constant, "TIMESTAMPTZ") // 1000, values.slack(constant)
    elif what == "date":
        raise ValueError("a number has no date")
    elif constant.get("literal", {}).get("kind") != "INTEGER":
        raise ValueError("numbers of another type are compared in it")
    else:
        times, parts = UNITS[clock.unit]
        at, slack = values.compute(constant, "HUGEINT") * times // parts, 0
    after = _DAY if what == "date" else 1
    low = at - slack if how in {"=", ">", ">="} else None
    high = at + slack + after if how in {"=", "<", "<="} else None
    if how == "<" and what == "time" and timed and not slack:
        # To the microsecond: rows have whole milliseconds.
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
    if not _is_constant(other):
        return
    what, inner = "time", side
    if (
        side["class"] == "CAST"
        and str(side["type_expr"]["type_name"]).upper() == "DATE"
        and not side["try_cast"]
    ):
        what, inner = "date", side["child"]
    if inner["class"] == "COLUMN_REF" and inner["column_names"][-1].casefold() == clock.casefold():
        if _qualifier(inner) in qualifiers:
            yield what, how, other
    elif side["class"] == "FUNCTION" and side["function_name"] == "make_date":
        given = [argument.get("expression", argument) for argument in side["arguments"]]
        named = [str(one["column_names"][-1]).casefold() for one in given if one["class"] == "COLUMN_REF"]
        if named == ["year", "month", "day"] and all(_qualifier(one) in qualifiers for one in given):
            yield "path", how, other


def _qualifier(column: Node) -> str | None:
    names = column["column_names"]
    if len(names) > 2:
        return None
    return str(names[0]).casefold() if len(names) == 2 else ""


def _is_constant(node: Node) -> bool:
    """Whether an expression is made of literals and of functions that always say the same."""
    if isinstance(node, list):
        return all(map(_is_constant, node))
    if not isinstance(node, dict):
        return True
    kind = node.get("class")
    if kind == "FUNCTION" and node["function_name"] not in _FUNCTIONS:
        return False
    if kind == "CAST" and str(node["type_expr"]["type_name"]).upper() not in _TYPES:
        return False
    if kind is not None and kind not in _CONSTANT and kind != "FUNCTION":
        return False
    return all(map(_is_constant, node.values()))


def _selects(node: Node) -> Iterator[Node]:
    if isinstance(node, list):
        for each in node:
            yield from _selects(each)
    elif isinstance(node, dict):
        if node.get("type") == "SELECT_NODE":
            yield node
        for each in node.values():
            yield from _selects(each)


def _tables(source: Node) -> Iterator[Node]:
    """Give the tables of a FROM whose rows its WHERE decides on by themselves; none of any other FROM."""
    if source is None:
        return
    if source["type"] == "BASE_TABLE":
        yield source
    elif source["type"] == "JOIN":
        if source["ref_type"] not in {"REGULAR", "CROSS"} or source["join_type"] not in _JOINS:
            raise ValueError("a join that picks rows by their order")
        yield from _tables(source["left"])
        yield from _tables(source["right"])
    else:
        # Its columns are not known here, so no bare name of a column is either.
        yield {"type": "OTHER", "table_name": "", "alias": ""}


_JOINS = {"INNER", "LEFT", "RIGHT", "OUTER", "FULL"}


def _keys_of(node: Node, name: str) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _keys_of(each, name)
    elif isinstance(node, dict):
        for entry in node.get(name, {}).get("map", ()) if isinstance(node.get(name), dict) else ():
            yield str(entry["key"]).casefold()
        for each in node.values():
            yield from _keys_of(each, name)

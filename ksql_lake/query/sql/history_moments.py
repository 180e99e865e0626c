"""Rewrite a SELECT over a table's history at one time to read only the version of that time."""

# `valid_from <= T AND (valid_to IS NULL OR valid_to > T)` selects the rows of the last version read by T. A
# query that shows `valid_from` is left as it is.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.query.sql.statement_trees import Node, Values, is_constant, plain, qualifier, selects
from ksql_lake.query.sql.views import Committed, rows_as_of

_TIMES = frozenset({"valid_from", "valid_to", "from_version", "to_version"})
_WHOLE = frozenset({"STAR", "SUBQUERY", "POSITIONAL_REFERENCE", "PARAMETER"})
"""Terms that may show a column without naming it."""


def history_changes(
    node: Node, histories: Mapping[str, Committed], values: Values, text: bytes
) -> Iterator[tuple[int, int, str]]:
    """Yield the replacements in a statement's text: start, end, and the new text."""
    for select in selects(node):
        table, where = select.get("from_table"), select.get("where_clause")
        if where is None or table is None or table["type"] != "BASE_TABLE" or not plain(table):
            continue
        name = str(table["table_name"])
        committed, alias = histories.get(name.casefold()), str(table["alias"] or name)
        begin = int(table["query_location"])
        end = begin + int(table["query_location_length"])
        if committed is None or not text[begin:end].lstrip(b'"').lower().startswith(name.casefold().encode()):
            continue
        parts = where["children"] if where.get("type") == "CONJUNCTION_AND" else [where]
        sides = {"", alias.casefold()}
        since = [(at, part) for part in parts for at in _bounds(part, "valid_from", "<=", sides)]
        until = [(at, part) for part in parts for at in _ends(part, sides)]
        if len(since) != 1 or len(until) != 1 or any(values.slack(one[0][0]) for one in (since, until)):
            continue
        at, other = (values.compute(one[0][0], "TIMESTAMPTZ") for one in (since, until))
        rest = [part for part in parts if part not in (since[0][1], until[0][1])]
        if at != other or _shows({**select, "where_clause": rest}, {name.casefold(), alias.casefold()}):
            continue
        rows = rows_as_of(committed, at)
        if rows is not None:
            yield begin, end, f"({rows}) AS {sql_name(alias)}"


def _ends(part: Node, sides: set[str]) -> Iterator[Node]:
    """Yield the time of `valid_to IS NULL OR valid_to > T`."""
    if part["class"] != "CONJUNCTION" or part["type"] != "CONJUNCTION_OR" or len(part["children"]) != 2:
        return
    for one, other in (part["children"], part["children"][::-1]):
        if one["class"] == "OPERATOR" and one["type"] == "OPERATOR_IS_NULL":
            (child,) = one["children"]
            if _is_column(child, "valid_to", sides):
                yield from _bounds(other, "valid_to", ">", sides)


_COMPARISONS = {
    "<=": ("COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO"),
    ">": ("COMPARE_GREATERTHAN", "COMPARE_LESSTHAN"),
}


def _bounds(part: Node, column: str, how: str, sides: set[str]) -> Iterator[Node]:
    """Yield the constant that a condition compares a column with, on either side."""
    if part["class"] != "COMPARISON":
        return
    straight, turned = _COMPARISONS[how]
    pairs = {straight: (part["left"], part["right"]), turned: (part["right"], part["left"])}
    if part["type"] in pairs:
        one, other = pairs[part["type"]]
        if _is_column(one, column, sides) and is_constant(other):
            yield other


def _is_column(node: Node, name: str, sides: set[str]) -> bool:
    return bool(
        node["class"] == "COLUMN_REF"
        and node["column_names"][-1].casefold() == name
        and qualifier(node) in sides
    )


def _shows(node: Any, whole: set[str]) -> bool:
    """Return whether a tree shows, or may show as part of a whole row, when a state began or ended."""
    if isinstance(node, list):
        return any(_shows(each, whole) for each in node)
    if not isinstance(node, dict):
        return False
    if node.get("class") == "COLUMN_REF":
        names = {str(part).casefold() for part in node["column_names"]}
        return bool(names & _TIMES) or (len(names) == 1 and bool(names & whole))
    return node.get("class") in _WHOLE or any(_shows(each, whole) for each in node.values())

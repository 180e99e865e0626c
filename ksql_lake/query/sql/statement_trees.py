"""Walk DuckDB's JSON trees of statements. Their shape is not documented, so callers expect any error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import duckdb

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
"""Types that a literal may be cast to; a time that is compared as a text has another order."""
_MOMENTS = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
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
"""Functions that always return the same for the same arguments."""
_PLACE = re.compile(r'"query_location(_length)?": [0-9]+')
"""Where in the text a term is; equal terms have different ones."""
DAY = 86_400_000
Node = Any


@dataclass(frozen=True, slots=True)
class Values:
    """Computes constants in a blank connection, each once."""

    connection: duckdb.DuckDBPyConnection
    utc: bool
    _known: dict[str, int] = field(default_factory=dict)

    def compute(self, node: Node, kind: str) -> int:
        """Return a constant as a number: a time in microseconds, a whole number unchanged."""
        key = kind + _PLACE.sub("", json.dumps(node))
        if key not in self._known:
            self._known[key] = self._computed(node, kind)
        return self._known[key]

    def _computed(self, node: Node, kind: str) -> int:
        asked = json.loads(_frame())
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
        """Return the milliseconds by which the session's zone could move a constant.

        A month before or after a moment may be three days more or less where the zone has another day then.
        """
        inner = node.get("child", node) if node["class"] == "CAST" else node
        text = str(inner.get("literal", {}).get("text", "")) if inner["class"] == "CONSTANT" else ""
        kind = str(node.get("type_expr", {}).get("type_name", "")).upper()
        fixed = kind in {"", *_MOMENTS} and len(text) > 10 and _OFFSET.search(text[10:])
        if self.utc or (fixed and fixed.end() == len(text) - 10):
            return 0
        return 4 * DAY if _computes(node) else DAY

    def zoned(self, node: Node) -> bool:
        """Return whether the session's zone could move a constant that is compared with a date."""
        text = json.dumps(node).upper()
        return not self.utc and any(f'"{name}"' in text for name in _MOMENTS)


def _computes(node: Node) -> bool:
    """Return whether a constant is computed from others."""
    if isinstance(node, list):
        return any(map(_computes, node))
    return isinstance(node, dict) and (node.get("class") == "FUNCTION" or any(map(_computes, node.values())))


@cache
def _frame() -> str:
    """Return the tree of a SELECT of one constant, in the form of this DuckDB release."""
    with duckdb.connect() as connection:
        (frame,) = connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()[0]
    return str(frame)


def plain(table: Node) -> bool:
    """Return whether a table of a FROM is a bare name, with or without an alias."""
    return not (
        table["schema_name"]
        or table["catalog_name"]
        or table["sample"]
        or table["column_name_alias"]
        or table.get("at_clause")
    )


def qualifier(column: Node) -> str | None:
    """Return the qualifier of a column's name: empty for none, None for more than one part."""
    names = column["column_names"]
    if len(names) > 2:
        return None
    return str(names[0]).casefold() if len(names) == 2 else ""


def is_constant(node: Node) -> bool:
    """Return whether an expression contains only literals and functions that always return the same."""
    if isinstance(node, list):
        return all(map(is_constant, node))
    if not isinstance(node, dict):
        return True
    kind = node.get("class")
    if kind == "FUNCTION" and node["function_name"] not in _FUNCTIONS:
        return False
    if kind == "CAST" and str(node["type_expr"]["type_name"]).upper() not in _TYPES:
        return False
    if kind is not None and kind not in _CONSTANT and kind != "FUNCTION":
        return False
    return all(map(is_constant, node.values()))


def selects(node: Node) -> Iterator[Node]:
    """Yield the SELECTs of a tree, also inner ones."""
    if isinstance(node, list):
        for each in node:
            yield from selects(each)
    elif isinstance(node, dict):
        if node.get("type") == "SELECT_NODE":
            yield node
        for each in node.values():
            yield from selects(each)


def tables_of(source: Node) -> Iterator[Node]:
    """Yield the tables of a FROM whose rows its WHERE filters independently; nothing for any other FROM."""
    if source is None:
        return
    if source["type"] == "BASE_TABLE":
        yield source
    elif source["type"] == "JOIN":
        if source["ref_type"] not in {"REGULAR", "CROSS"} or source["join_type"] not in _JOINS:
            raise ValueError("a join that picks rows by their order")
        yield from tables_of(source["left"])
        yield from tables_of(source["right"])
    else:
        # Its columns are unknown here, so a bare column name could be one of them.
        yield {"type": "OTHER", "table_name": "", "alias": ""}


_JOINS = {"INNER", "LEFT", "RIGHT", "OUTER", "FULL"}


def keys_of(node: Node, name: str) -> Iterator[str]:
    """Yield the keys of all maps of a name, e.g. the names of all CTEs."""
    if isinstance(node, list):
        for each in node:
            yield from keys_of(each, name)
    elif isinstance(node, dict):
        for entry in node.get(name, {}).get("map", ()) if isinstance(node.get(name), dict) else ():
            yield str(entry["key"]).casefold()
        for each in node.values():
            yield from keys_of(each, name)

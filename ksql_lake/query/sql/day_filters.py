"""Find the days that a query selects by its conditions on `year`, `month` and `day`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from typing import Any

import duckdb

from ksql_lake.lake.rows.scan import PATH_COLUMNS

_DAYS = "asked_days"


def days_asked_for(sql: str, view: str, among: Sequence[date]) -> list[date]:
    """Return the days that meet a SELECT's condition on a stream's view.

    Args:
        sql: One statement.
        view: The view's name.
        among: The days to test.
    """
    if not among:
        return []
    with duckdb.connect() as connection:
        try:
            tree = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
            frame = connection.execute(
                "SELECT json_serialize_sql(?)", [f"SELECT year, month, day FROM {_DAYS} WHERE true"]
            ).fetchone()
            listed = ", ".join(f"({day.year}, {day.month}, {day.day})" for day in among)
            connection.execute(f"CREATE TABLE {_DAYS} AS FROM (VALUES {listed}) AS t(year, month, day)")
            found: set[tuple[int, int, int]] = set()
            for conditions in _conditions(json.loads(tree[0]) if tree else {}, view):
                asked = json.loads(frame[0]) if frame else {}
                asked["statements"][0]["node"]["where_clause"] = _conjunction(conditions)
                (text,) = connection.execute(
                    "SELECT json_deserialize_sql(?::JSON)", [json.dumps(asked)]
                ).fetchall()[0]
                found.update(connection.execute(text).fetchall())
        except duckdb.Error:
            return []  # not a SELECT, or a condition that needs more than days
    return [day for day in among if (day.year, day.month, day.day) in found]


def _conditions(node: Any, view: str) -> Iterator[list[Any]]:
    """Yield the conditions on path columns of each SELECT over the view that has some."""
    if isinstance(node, list):
        for each in node:
            yield from _conditions(each, view)
    elif isinstance(node, dict):
        if node.get("type") == "SELECT_NODE" and view in set(_tables(node.get("from_table"))):
            where = node.get("where_clause")
            parts = where["children"] if where is not None and _is_and(where) else [where]
            own = [_unqualified(part) for part in parts if part and _on_days(part)]
            if own:
                yield own
        for each in node.values():
            yield from _conditions(each, view)


def _tables(source: Any) -> Iterator[str]:
    if isinstance(source, dict):
        if source.get("type") == "BASE_TABLE":
            yield source["table_name"].casefold()
        elif source.get("type") == "JOIN":
            yield from _tables(source["left"])
            yield from _tables(source["right"])


def _is_and(where: Any) -> bool:
    return isinstance(where, dict) and where.get("type") == "CONJUNCTION_AND"


def _on_days(condition: Any) -> bool:
    names = list(_columns(condition))
    return bool(names) and set(names) <= set(PATH_COLUMNS["stream"]) and not _holds(condition, {"SUBQUERY"})


def _columns(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _columns(each)
    elif isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][-1].casefold()
        for each in node.values():
            yield from _columns(each)


def _holds(node: Any, classes: Collection[str]) -> bool:
    if isinstance(node, list):
        return any(_holds(each, classes) for each in node)
    return isinstance(node, dict) and (
        node.get("class") in classes or any(_holds(each, classes) for each in node.values())
    )


def _unqualified(node: Any) -> Any:
    if isinstance(node, list):
        return [_unqualified(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("class") == "COLUMN_REF":
        return {**node, "column_names": node["column_names"][-1:]}
    return {key: _unqualified(each) for key, each in node.items()}


def _conjunction(conditions: list[Any]) -> Any:
    if len(conditions) == 1:
        return conditions[0]
    return {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "children": conditions}

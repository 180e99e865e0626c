"""Append rows while the server runs: JSON lines through its own route, and INSERT ... VALUES."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

from ksql_lake.devserver.ksql_errors import RefusedError, bad_request, not_implemented
from ksql_lake.devserver.sql.dialect import parse_expressions
from ksql_lake.devserver.sql.expressions import translate
from ksql_lake.devserver.sql.inference import NameScope
from ksql_lake.devserver.sql.row_text import HALF_PAIRS
from ksql_lake.devserver.sql.source_columns import (
    WINDOW_BOUNDS,
    DeclaredColumn,
    Source,
    literal,
    quoted,
    stored_type,
)
from ksql_lake.devserver.sql.statements import Insert
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

TOMBSTONE = "@tombstone"
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def arrivals(
    source: Source, rows: str, *, moment: str, partition: str = "NULL", tombstone: str = "FALSE"
) -> str:
    """Return the query that `storage.append` takes.

    Args:
        source: Where the rows go.
        rows: DuckDB query with the source's stored columns, its window bounds, and what the others use.
        moment: DuckDB expression for ROWTIME.
        partition: DuckDB expression for ROWPARTITION; NULL lets the key decide.
        tombstone: DuckDB expression for whether the row deletes its key.
    """
    names = [
        *(WINDOW_BOUNDS if source.window_type else ()),
        *(quoted(item.stored_as) for item in source.columns),
    ]
    deletes = f"{tombstone} AS __TOMBSTONE, " if source.kind == "TABLE" else ""
    return (
        f"SELECT CAST({moment} AS BIGINT) AS ROWTIME, CAST({partition} AS INTEGER) AS ROWPARTITION, {deletes}"
        f"{', '.join(names)} FROM ({rows})"
    )


def row_time(source: Source, now: int, given: str = "NULL") -> str:
    """Return the expression for ROWTIME: the row's own, else its TIMESTAMP column, else `now` (epoch ms).

    Raises:
        RefusedError: The source's TIMESTAMP column does not exist, or its type is no time.
    """
    clock = str(now)
    if not source.timestamp:
        return f"coalesce({given}, {clock})"
    column = source.column(source.timestamp)
    if column is None:
        raise RefusedError(
            f"The TIMESTAMP column set in the WITH clause does not exist in the schema: '{source.timestamp}'"
        )
    stored = quoted(column.stored_as)
    of_type = {
        Primitive.BIGINT: stored,
        Primitive.TIMESTAMP: f"epoch_ms({stored})",
        Primitive.STRING: f"epoch_ms({stored}::TIMESTAMP)",
    }
    if not isinstance(column.type, Primitive) or column.type not in of_type:
        raise RefusedError(f"Timestamp column, {column.name}, should be BIGINT, TIMESTAMP or STRING.")
    return f"coalesce({given}, {of_type[column.type]}, {clock})"


def append_json_lines(name: str, body: bytes, catalog: Catalog) -> int:
    """Append rows to a source; returns how many.

    Raises:
        RefusedError: A line is no object, names an unknown column, or holds a value that does not fit; then
            none is added.
    """
    source = catalog.describe(name)
    lines = [_line(text, number, source) for number, text in enumerate(body.splitlines(), 1) if text.strip()]
    if not lines:
        return 0
    columns = [f"{from_json(item)} AS {quoted(item.stored_as)}" for item in source.columns]
    columns += [
        f"{_scalar(name, 'BIGINT')} AS {name}" for name in (WINDOW_BOUNDS if source.window_type else ())
    ]
    rows = arrivals(
        source,
        f"SELECT line, {', '.join(columns)} FROM intake",
        moment=row_time(source, catalog.now(), _scalar("ROWTIME", "BIGINT")),
        partition=_scalar("ROWPARTITION", "INTEGER"),
        tombstone=f"coalesce({_scalar(TOMBSTONE, 'BOOLEAN')}, FALSE)",
    )
    with catalog.lock:
        catalog.database.execute(
            "CREATE OR REPLACE TEMP TABLE intake AS SELECT unnest(?::VARCHAR[]) AS line", [lines]
        )
        try:
            return catalog.append(source, rows)
        except duckdb.Error as error:
            raise bad_request(f"A row does not fit {source.name}: {str(error).splitlines()[0]}") from None
        finally:
            catalog.database.execute("DROP TABLE intake")


def insert(statement: Insert, catalog: Catalog) -> None:
    """Run INSERT INTO ... VALUES.

    Raises:
        RefusedError: The source does not take it, or a value does not fit.
    """
    source = catalog.find(statement.name)
    if source.kind == "TABLE" and catalog.writers(source.name):
        # A real server writes the record into the topic, but the query's state does not include it.
        raise not_implemented(f"INSERT INTO {source.name}, a table that a query writes,")
    names = statement.columns or tuple(column.name for column in source.columns)
    values = [translate(node, NameScope(source)) for node in parse_expressions(statement.values)]
    if len(names) != len(values):
        raise RefusedError(
            f"Expected a value for each column. Expected Columns: {list(names)}. Got {len(values)} values.",
            statement=statement.text,
        )
    unknown = [name for name in names if source.column(name) is None and name != "ROWTIME"]
    if unknown:
        raise RefusedError(
            f"The following column names do not exist in {source.name}: {', '.join(unknown)}",
            statement=statement.text,
        )
    given = dict(zip(names, values, strict=True))
    columns = ", ".join(
        f"CAST({given.get(item.name, 'NULL')} AS {stored_type(item.type)}) AS {quoted(item.stored_as)}"
        for item in source.columns
    )
    rows = arrivals(
        source, f"SELECT {columns}", moment=row_time(source, catalog.now(), given.get("ROWTIME", "NULL"))
    )
    try:
        catalog.append(source, rows)
    except duckdb.Error as error:
        raise RefusedError(
            f"Failed to insert values into '{source.name}'. {str(error).splitlines()[0]}",
            statement=statement.text,
        ) from None


def _line(text: bytes, number: int, source: Source) -> str:
    """Return the row again, under the columns' exact names."""
    try:
        # Numbers with a point stay text, so that no digit of a DECIMAL is lost on the way.
        row = json.loads(text, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise bad_request(f"line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise bad_request(f"line {number}: not a JSON object")
    special = ("ROWTIME", "ROWPARTITION", TOMBSTONE, *(WINDOW_BOUNDS if source.window_type else ()))
    exact = [*(column.name for column in source.columns), *special]
    folded = {name.lower(): name for name in reversed(exact)}
    known: dict[str, Any] = {}
    for key, value in row.items():
        name = key if key in exact else folded.get(key.lower())
        if name is None:
            raise bad_request(f"line {number}: {source.name} has no column {key!r}")
        known[name] = value
    return _HALF_PAIR.sub(
        lambda match: chr(ord(match.group()) + HALF_PAIRS), json.dumps(known, ensure_ascii=False)
    )


def _path(name: str) -> str:
    return literal('$."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _scalar(name: str, stored: str) -> str:
    return f"CAST(json_extract_string(line, {_path(name)}) AS {stored})"


def from_json(column: DeclaredColumn) -> str:
    """Return the DuckDB expression that reads a column out of a JSON `line`."""
    if isinstance(column.type, Primitive | Decimal):
        return _typed(column.type, f"json_extract_string(line, {_path(column.name)})")
    structure = literal(json.dumps(_structure(column.type), ensure_ascii=False))
    return _typed(column.type, f"from_json(json_extract(line, {_path(column.name)}), {structure})")


def _structure(kind: KsqlType) -> Any:
    """Return DuckDB's description of the JSON, every leaf a text."""
    match kind:
        case Array(element):
            return [_structure(element)]
        case Struct(fields):
            return {name: _structure(inner) for name, inner in fields}
        case Map():
            return _texts(kind)
        case _:
            return "VARCHAR"


def _texts(kind: KsqlType) -> str:
    """Return the DuckDB type of the same shape, every leaf a text."""
    match kind:
        case Array(element):
            return f"{_texts(element)}[]"
        case Map(_, value):
            return f"MAP(VARCHAR, {_texts(value)})"
        case Struct(fields):
            return f"STRUCT({', '.join(f'{quoted(name)} {_texts(inner)}' for name, inner in fields)})"
        case _:
            return "VARCHAR"


def _typed(kind: KsqlType, text: str, depth: int = 0) -> str:
    name = f"t{depth}"
    match kind:
        case Primitive.BYTES:
            return f"from_base64({text})"
        case Primitive.DOUBLE:
            return f"(CAST({text} AS DOUBLE) + 0.0)"  # ksqlDB reads -0.0 in JSON as 0.0
        case Array(element):
            return f"list_transform({text}, lambda {name}: {_typed(element, name, depth + 1)})"
        case Struct(fields):
            packed = ", ".join(
                f"{quoted(field)} := {_typed(inner, f'struct_extract({text}, {literal(field)})', depth)}"
                for field, inner in fields
            )
            return f"CASE WHEN {text} IS NOT NULL THEN struct_pack({packed}) END"
        case Map(key, value):
            typed_key = _typed(key, f"{name}.key", depth + 1)
            typed_value = _typed(value, f"{name}.value", depth + 1)
            entry = f"struct_pack(k := {typed_key}, v := {typed_value})"
            return f"map_from_entries(list_transform(map_entries({text}), lambda {name}: {entry}))"
        case _:
            return f"CAST({text} AS {stored_type(kind)})"

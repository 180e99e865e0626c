"""Rows coming in while the server runs: JSON lines through the server's own door, and INSERT ... VALUES.

A JSON line is one object, keys are column names in any case. `ROWTIME` (epoch ms) may stand in it; otherwise the
source's TIMESTAMP column gives the time, otherwise the clock. `"@tombstone": true` deletes a table key. BYTES are
base64; DECIMALs beyond a double's digits must be strings.
"""

from __future__ import annotations

import json
import time
from typing import Any

import duckdb

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.columns import WINDOW_BOUNDS, Source, SourceColumn, literal, quoted, stored_type
from ksql_lake.devserver.dialect import parse_expressions
from ksql_lake.devserver.expressions import Scope, translate
from ksql_lake.devserver.refusals import RefusedError, bad_request
from ksql_lake.devserver.statements import Insert
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

TOMBSTONE = "@tombstone"


def row_time(source: Source, *, fallback: str) -> str:
    """The DuckDB expression for ROWTIME, over a query with the source's stored columns."""
    column = source.column(source.timestamp) if source.timestamp else None
    if column is None:
        if source.timestamp:
            raise RefusedError(
                f"The TIMESTAMP column set in the WITH clause does not exist: {source.timestamp}"
            )
        return fallback
    stored = quoted(column.stored_as)
    if column.type is Primitive.BIGINT:
        return stored
    if column.type is Primitive.TIMESTAMP:
        return f"epoch_ms({stored})"
    if column.type is Primitive.STRING:
        return f"epoch_ms({stored}::TIMESTAMP)"
    raise RefusedError(f"The TIMESTAMP column {source.timestamp} must be BIGINT, TIMESTAMP or STRING.")


def append_json_lines(name: str, body: bytes, catalog: Catalog) -> int:
    """Append rows to a source; returns how many.

    Raises:
        RefusedError: A line is no object, names an unknown column, or holds a value that does not fit; none is added.
    """
    source = catalog.describe(name)
    rows = [_row(line, number, source) for number, line in enumerate(body.splitlines(), 1) if line.strip()]
    if not rows:
        return 0
    return _append(source, rows, catalog)


def insert(statement: Insert, catalog: Catalog) -> None:
    """Carry out INSERT INTO ... VALUES.

    Raises:
        RefusedError: The source does not take it, or a value does not fit.
    """
    source = catalog.find(statement.name)
    if catalog.writers(source.name):
        raise RefusedError(f"Cannot insert values into derived {source.kind.lower()} {source.name}.",
                      statement=statement.text)  # fmt: skip
    names = statement.columns or tuple(column.name for column in source.columns)
    values = [translate(node, Scope(source)) for node in parse_expressions(statement.values)]
    if len(names) != len(values):
        raise RefusedError("Expected a value for each column. Expected Columns: "
                      f"{list(names)}. Got {len(values)} values.", statement=statement.text)  # fmt: skip
    given = dict(zip(names, values, strict=True))
    unknown = [name for name in names if source.column(name) is None and name != "ROWTIME"]
    if unknown:
        raise RefusedError(f"The following column names do not exist in {source.name}: {unknown}")
    columns = ", ".join(
        f"CAST({given.get(item.name, 'NULL')} AS {stored_type(item.type)}) AS {quoted(item.stored_as)}"
        for item in source.columns
    )
    arrivals = _arrivals(source, f"SELECT {columns}", given.get("ROWTIME"), "FALSE")
    try:
        catalog.append(source, arrivals)
    except duckdb.Error as error:
        raise RefusedError(f"Failed to insert values into '{source.name}'. {str(error).splitlines()[0]}",
                      statement=statement.text) from None  # fmt: skip


def _row(line: bytes, number: int, source: Source) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise bad_request(f"line {number}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise bad_request(f"line {number}: not a JSON object")
    special = {"ROWTIME", "ROWPARTITION", TOMBSTONE, *(WINDOW_BOUNDS if source.window_type else ())}
    exact = {column.name: column.name for column in source.columns} | {name: name for name in special}
    folded = {name.lower(): name for name in reversed(exact)}
    known: dict[str, Any] = {}
    for key, value in row.items():
        name = exact.get(key) or folded.get(key.lower())
        if name is None:
            raise bad_request(f"line {number}: {source.name} has no column {key!r}")
        known[name] = value
    return known


def _append(source: Source, rows: list[dict[str, Any]], catalog: Catalog) -> int:
    lines = [json.dumps(row) for row in rows]
    with catalog.lock:
        cursor = catalog.cursor()
        cursor.execute("CREATE OR REPLACE TABLE intake AS SELECT unnest(?::VARCHAR[]) AS line", [lines])
        columns = ", ".join(f"{from_json(item)} AS {quoted(item.stored_as)}" for item in source.columns)
        bounds = "".join(
            f", {_scalar(name, 'BIGINT')} AS {name}" for name in (WINDOW_BOUNDS if source.window_type else ())
        )
        given = f"{_scalar('ROWTIME', 'BIGINT')} AS given_time, {_scalar('ROWPARTITION', 'INTEGER')} AS given_partition"
        gone = f"coalesce({_scalar(TOMBSTONE, 'BOOLEAN')}, FALSE) AS gone"
        try:
            arrivals = _arrivals(
                source, f"SELECT {columns}{bounds}, {given}, {gone} FROM intake", "given_time", "gone",
                partition="given_partition",
            )  # fmt: skip
            return catalog.append(source, arrivals)
        except duckdb.Error as error:
            raise bad_request(f"A row does not fit {source.name}: {str(error).splitlines()[0]}") from None
        finally:
            cursor.execute("DROP TABLE intake")
            cursor.close()


def _arrivals(
    source: Source, rows: str, given_time: str | None, gone: str, *, partition: str = "NULL::INTEGER"
) -> str:
    clock = str(int(time.time() * 1000))
    moment = f"coalesce({given_time or 'NULL'}, {row_time(source, fallback=clock)}, {clock})"
    bounds = "".join(f"{name}, " for name in (WINDOW_BOUNDS if source.window_type else ()))
    tombstone = f"{gone} AS __TOMBSTONE, " if source.kind == "TABLE" else ""
    stored = ", ".join(quoted(item.stored_as) for item in source.columns)
    return (
        f"SELECT CAST({moment} AS BIGINT) AS ROWTIME, {partition} AS ROWPARTITION, {tombstone}{bounds}{stored} "
        f"FROM ({rows})"
    )


def _path(name: str) -> str:
    return literal('$."' + name.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _scalar(name: str, stored: str) -> str:
    return f"CAST(json_extract_string(line, {_path(name)}) AS {stored})"


def from_json(column: SourceColumn) -> str:
    """The DuckDB expression that reads a column out of a JSON `line`."""
    if isinstance(column.type, Primitive | Decimal):
        return _typed(column.type, f"json_extract_string(line, {_path(column.name)})")
    structure = literal(json.dumps(_structure(column.type), ensure_ascii=False))
    return _typed(column.type, f"from_json(json_extract(line, {_path(column.name)}), {structure})")


def _structure(kind: KsqlType) -> Any:
    """DuckDB's description of the JSON, every leaf a text."""
    match kind:
        case Array(element):
            return [_structure(element)]
        case Struct(fields):
            return {name: _structure(inner) for name, inner in fields}
        case Map(_, value):
            inner = _structure(value)
            if not isinstance(inner, str):
                raise RefusedError("The ksql-lake devserver takes MAPs of plain values only through this door.")
            return "MAP(VARCHAR, VARCHAR)"
        case _:
            return "VARCHAR"


def _typed(kind: KsqlType, text: str, depth: int = 0) -> str:
    name = f"t{depth}"
    match kind:
        case Primitive.BYTES:
            return f"from_base64({text})"
        case Array(element):
            return f"list_transform({text}, lambda {name}: {_typed(element, name, depth + 1)})"
        case Struct(fields):
            packed = ", ".join(
                f"{quoted(field)} := {_typed(inner, f'struct_extract({text}, {literal(field)})', depth)}"
                for field, inner in fields
            )
            return f"CASE WHEN {text} IS NOT NULL THEN struct_pack({packed}) END"
        case Map(key, value):
            entry = f"struct_pack(k := {_typed(key, f'{name}.key', depth + 1)}, v := {_typed(value, f'{name}.value', depth + 1)})"
            return f"map_from_entries(list_transform(map_entries({text}), lambda {name}: {entry}))"
        case _:
            return f"CAST({text} AS {stored_type(kind)})"

"""SQL terms that write DuckDB values as JSON and CSV without loss."""

# NaN, the infinities and DECIMAL are texts, BYTES base64, times ISO 8601 in UTC, as in `json_values`.

from __future__ import annotations

from typing import Any

from ksql_lake.lake.files.sql_values import sql_name, sql_text

_DOUBLE = """CASE WHEN {0} IS NULL THEN NULL WHEN isfinite({0}) THEN to_json({0})
WHEN isnan({0}) THEN '"NaN"'::JSON WHEN {0} > 0 THEN '"Infinity"'::JSON ELSE '"-Infinity"'::JSON END"""

_MOMENT = "regexp_replace(strftime({0}, '%Y-%m-%dT%H:%M:%S.%f'), '000$', '')"

_TIME = """rpad(CAST({0} AS VARCHAR) || CASE WHEN contains(CAST({0} AS VARCHAR), '.') THEN '' ELSE '.' END,
greatest(12, length(CAST({0} AS VARCHAR)))::INTEGER, '0')"""

_SCALARS = {
    "double": _DOUBLE,
    "float": _DOUBLE,
    "decimal": "CAST({0} AS VARCHAR)",
    "blob": "base64({0})",
    "timestamp with time zone": _MOMENT.format("({0} AT TIME ZONE 'UTC')") + " || 'Z'",
    "timestamp": _MOMENT,
    "time": _TIME,
}


def json_terms(names: list[str], types: list[Any]) -> str:
    """Return the select list that converts columns for JSON.

    Args:
        names: The columns.
        types: Their types, as DuckDB's relation names them.
    """
    return ", ".join(
        f"{_ready(sql_name(name), kind)} AS {sql_name(name)}" for name, kind in zip(names, types, strict=True)
    )


def csv_terms(names: list[str], types: list[Any]) -> str:
    """Return the select list of a CSV whose nested values are JSON and whose BYTES are base64.

    DuckDB writes all other columns in its own form, which CSV readers understand.
    """
    listed = []
    for name, kind in zip(names, types, strict=True):
        value = sql_name(name)
        if kind.id in _NESTED:
            ready = _ready(value, kind)
            value = f"CASE WHEN {value} IS NULL THEN NULL ELSE CAST(to_json({ready}) AS VARCHAR) END"
        elif kind.id == "blob":
            value = _ready(value, kind)
        listed.append(f"{value} AS {sql_name(name)}")
    return ", ".join(listed)


_NESTED = frozenset({"list", "array", "map", "struct"})


def _ready(value: str, kind: Any, depth: int = 0) -> str:
    inner = f"x{depth}"
    match kind.id:
        case "list" | "array":
            element = _ready(inner, kind.children[0][1], depth + 1)
            return value if element == inner else f"list_transform({value}, lambda {inner}: {element})"
        case "map":
            item = kind.children[1][1]
            term = _ready(f"{inner}.value", item, depth + 1)
            if term == f"{inner}.value":
                return value
            pair = f"{{'key': {inner}.key, 'value': {term}}}"
            return f"map_from_entries(list_transform(map_entries({value}), lambda {inner}: {pair}))"
        case "struct":
            fields = [
                (name, f"struct_extract({value}, {sql_text(name)})", field) for name, field in kind.children
            ]
            terms = [_ready(field, of, depth) for _, field, of in fields]
            if terms == [field for _, field, _ in fields]:
                return value
            parts = ", ".join(
                f"{sql_text(name)}: {term}" for (name, _, _), term in zip(fields, terms, strict=True)
            )
            return f"CASE WHEN {value} IS NULL THEN NULL ELSE {{{parts}}} END"
        case _:
            return _SCALARS.get(kind.id, "{0}").format(value)

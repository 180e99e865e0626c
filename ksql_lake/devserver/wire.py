"""The text of a row, built inside DuckDB: one VARCHAR expression per row, exact to the last character.

ksqlDB's values are Java's: doubles print as `1.0E10`, times without zero seconds, everything below a STRUCT
goes through another serialiser (times become integers, DECIMALs doubles). Rows never pass through Python.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ksql_lake.devserver.columns import literal
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

MACROS = (
    # Java's Double.toString: positional from 1e-3 up to 1e7, else one digit before the point and `E`; DuckDB's
    # own text has the same shortest digits. The smallest subnormal is the one value Java writes longer.
    """CREATE OR REPLACE MACRO java_exponent(s) AS concat(
         CASE WHEN contains(split_part(s, 'e', 1), '.') THEN split_part(s, 'e', 1)
              ELSE concat(split_part(s, 'e', 1), '.0') END,
         'E', split_part(s, 'e', 2)::INTEGER::VARCHAR)""",
    """CREATE OR REPLACE MACRO java_digits(digits, exponent) AS concat(
         digits[1], '.', CASE WHEN length(digits) > 1 THEN digits[2:] ELSE '0' END, 'E', exponent::VARCHAR)""",
    """CREATE OR REPLACE MACRO java_far(x, s) AS concat(CASE WHEN x < 0 THEN '-' ELSE '' END,
         CASE WHEN abs(x) = 5e-324::DOUBLE THEN '4.9E-324'
              WHEN contains(s, 'e') THEN java_exponent(s)
              WHEN abs(x) >= 1
                THEN java_digits(rtrim(replace(s, '.', ''), '0'), length(split_part(s, '.', 1)) - 1)
              ELSE java_digits(ltrim(s, '0.'), length(ltrim(s, '0.')) - length(s) + 1) END)""",
    """CREATE OR REPLACE MACRO java_double(x) AS CASE
         WHEN (abs(x) >= 1e-3 AND abs(x) < 1e7) OR x = 0 THEN x::VARCHAR
         WHEN x IS NULL THEN NULL
         WHEN isnan(x) THEN '"NaN"'
         WHEN isinf(x) THEN CASE WHEN x > 0 THEN '"Infinity"' ELSE '"-Infinity"' END
         ELSE java_far(x, abs(x)::VARCHAR) END""",
    """CREATE OR REPLACE MACRO java_time(x) AS concat('"',
         left(x::VARCHAR, CASE WHEN substr(x::VARCHAR, 7, 2) = '00' THEN 5 ELSE 8 END), '"')""",
    """CREATE OR REPLACE MACRO java_date(x) AS CASE
         WHEN year(x) BETWEEN 0 AND 9999 THEN concat('"', x::VARCHAR, '"')
         WHEN year(x) > 9999 THEN concat('"+', x::VARCHAR, '"')
         ELSE format('"-{:04d}-{:02d}-{:02d}"', -year(x), month(x), day(x)) END""",
    """CREATE OR REPLACE MACRO java_timestamp(x) AS strftime(x, '"%Y-%m-%dT%H:%M:%S.%g"')""",
)
"""Run once per database, in this order."""

_PLAIN = {
    Primitive.BOOLEAN: "({0})::VARCHAR",
    Primitive.INTEGER: "({0})::VARCHAR",
    Primitive.BIGINT: "({0})::VARCHAR",
    Primitive.DOUBLE: "java_double({0})",
    Primitive.STRING: "to_json({0})::VARCHAR",
    Primitive.BYTES: "'\"' || base64({0}) || '\"'",
    Primitive.TIME: "CASE WHEN {0} IS NOT NULL THEN java_time({0}) END",
    Primitive.DATE: "java_date({0})",
    Primitive.TIMESTAMP: "java_timestamp({0})",
}
_IN_STRUCT = {
    Primitive.TIME: "(epoch_us({0}) // 1000)::VARCHAR",
    Primitive.DATE: "date_diff('day', DATE '1970-01-01', {0})::VARCHAR",
    Primitive.TIMESTAMP: "epoch_ms({0})::VARCHAR",
}


def row_text(columns: Sequence[tuple[KsqlType, str]], *, before: str, after: str) -> str:
    """The expression for one whole row.

    Args:
        columns: Type and DuckDB expression of each value.
        before: Text in front of the first value.
        after: Text behind the last value.
    """
    parts = [literal(before)]
    for index, (kind, expression) in enumerate(columns):
        if index:
            parts.append("','")
        parts.append(_value(kind, expression, in_struct=False, depth=0))
    parts.append(literal(after))
    return f"concat({', '.join(parts)})"


def _value(kind: KsqlType, expression: str, *, in_struct: bool, depth: int) -> str:
    """The JSON text of one value; NULL becomes `null`."""
    return f"coalesce({_present(kind, expression, in_struct=in_struct, depth=depth)}, 'null')"


def _present(kind: KsqlType, expression: str, *, in_struct: bool, depth: int) -> str:
    """The JSON text of one value; NULL stays NULL."""
    match kind:
        case Primitive():
            template = _IN_STRUCT.get(kind, _PLAIN[kind]) if in_struct else _PLAIN[kind]
            return template.format(expression)
        case Decimal():
            return f"java_double(({expression})::DOUBLE)" if in_struct else f"({expression})::VARCHAR"
        case Array(element):
            name = f"e{depth}"
            text = _value(element, name, in_struct=in_struct, depth=depth + 1)
            joined = f"array_to_string(list_transform({expression}, lambda {name}: {text}), ',')"
            return f"'[' || {joined} || ']'"
        case Map(key, value):
            return _map(key, value, expression, in_struct=in_struct, depth=depth)
        case Struct(fields):
            parts = []
            for index, (name, inner) in enumerate(fields):
                label = ("," if index else "{") + json.dumps(name, ensure_ascii=False) + ":"
                field = f"struct_extract({expression}, {literal(name)})"
                parts += [literal(label), _value(inner, field, in_struct=True, depth=depth)]
            return f"CASE WHEN ({expression}) IS NOT NULL THEN concat({', '.join(parts)}, '}}') END"


def _map(key: KsqlType, value: KsqlType, expression: str, *, in_struct: bool, depth: int) -> str:
    name = f"e{depth}"
    value_text = _value(value, f"{name}.value", in_struct=in_struct, depth=depth + 1)
    if in_struct and key is not Primitive.STRING:
        # Connect's rule: only string keys make an object.
        key_text = _value(key, f"{name}.key", in_struct=True, depth=depth + 1)
        entry, opening, closing = f"concat('[', {key_text}, ',', {value_text}, ']')", "[", "]"
    else:
        key_text = _value(key, f"{name}.key", in_struct=in_struct, depth=depth + 1)
        if key is not Primitive.STRING:
            key_text = f"to_json(trim({key_text}, '\"'))::VARCHAR"
        entry, opening, closing = f"concat({key_text}, ':', {value_text})", "{", "}"
    joined = f"array_to_string(list_transform(map_entries({expression}), lambda {name}: {entry}), ',')"
    return f"'{opening}' || {joined} || '{closing}'"

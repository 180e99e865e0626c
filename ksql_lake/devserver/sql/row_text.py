"""Build the JSON text of a row inside DuckDB, exact to the last character."""

# ksqlDB's values are Java's: doubles print as `1.0E10`, and below a STRUCT times become integers and DECIMALs
# doubles.

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ksql_lake.devserver.sql.source_columns import literal
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
    # Java 17 does not always find the shortest digits; these two are known from a running server.
    """CREATE OR REPLACE MACRO java_double(x) AS CASE
         WHEN abs(x) = 2e23::DOUBLE THEN concat(left('-', (x < 0)::INT), '1.9999999999999998E23')
         WHEN abs(x) = 1e23::DOUBLE THEN concat(left('-', (x < 0)::INT), '9.999999999999999E22')
         WHEN (abs(x) >= 1e-3 AND abs(x) < 1e7) OR x = 0 THEN x::VARCHAR
         WHEN x IS NULL THEN NULL
         WHEN isnan(x) THEN '"NaN"'
         WHEN isinf(x) THEN CASE WHEN x > 0 THEN '"Infinity"' ELSE '"-Infinity"' END
         ELSE java_far(x, abs(x)::VARCHAR) END""",
    # A TIME of 24:00:00 has no text in Java, and the answer ends there.
    """CREATE OR REPLACE MACRO java_time(x) AS CASE WHEN x = TIME '24:00:00'
         THEN error('java.lang.RuntimeException: Failed to serialize buffer')
         ELSE concat('"', left(x::VARCHAR, CASE WHEN substr(x::VARCHAR, 7, 2) = '00' THEN 5 ELSE 8 END), '"')
         END""",
    """CREATE OR REPLACE MACRO java_date(x) AS CASE
         WHEN year(x) BETWEEN 1 AND 9999 THEN concat('"', x::VARCHAR, '"')
         WHEN year(x) > 9999 THEN concat('"+', x::VARCHAR, '"')
         WHEN year(x) = 0 THEN format('"0000-{:02d}-{:02d}"', month(x), day(x))
         ELSE format('"-{:04d}-{:02d}-{:02d}"', -year(x), month(x), day(x)) END""",
    # Before 1582-10-15 Java prints Julian dates, and years before 1 without their era. Days are counted from a
    # first of March 100,000 times four years earlier, so that no number is negative.
    """CREATE OR REPLACE MACRO julian_year(days) AS (4 * (days + 719470 + 146100000) + 3) // 1461""",
    """CREATE OR REPLACE MACRO julian_day_of_year(days) AS
         days + 719470 + 146100000 - 1461 * julian_year(days) // 4""",
    """CREATE OR REPLACE MACRO julian_month(days) AS (5 * julian_day_of_year(days) + 2) // 153""",
    """CREATE OR REPLACE MACRO julian_text(year, month, day) AS
         format('{:04d}-{:02d}-{:02d}', CASE WHEN year > 0 THEN year ELSE 1 - year END, month, day)""",
    """CREATE OR REPLACE MACRO julian_date(days) AS julian_text(
         julian_year(days) - 400000 + CASE WHEN julian_month(days) > 9 THEN 1 ELSE 0 END,
         CASE WHEN julian_month(days) > 9 THEN julian_month(days) - 9 ELSE julian_month(days) + 3 END,
         julian_day_of_year(days) - (153 * julian_month(days) + 2) // 5 + 1)""",
    """CREATE OR REPLACE MACRO java_timestamp(x) AS CASE
         WHEN x >= TIMESTAMP '1582-10-15' THEN strftime(x, '"%Y-%m-%dT%H:%M:%S.%g"')
         WHEN x IS NOT NULL THEN concat('"', julian_date(date_diff('day', DATE '1970-01-01', x::DATE)),
           strftime(x, 'T%H:%M:%S.%g"')) END""",
    # Characters beyond U+FFFF come as two escapes. Half of such a pair is kept as a private character.
    """CREATE OR REPLACE MACRO java_character(c) AS CASE
         WHEN unicode(c) < 65536 THEN c
         WHEN unicode(c) BETWEEN 1110016 AND 1112063 THEN format('\\u{:04X}', unicode(c) - 1110016 + 55296)
         ELSE format('\\u{:04X}\\u{:04X}', 55296 + (unicode(c) - 65536) // 1024, 56320 + unicode(c) % 1024)
         END""",
    """CREATE OR REPLACE MACRO java_text(x) AS CASE
         WHEN length(x) = strlen(x) OR NOT regexp_matches(x, '[\\x{10000}-\\x{10FFFF}]')
           THEN to_json(x)::VARCHAR
         ELSE array_to_string(
           list_transform(string_split(to_json(x)::VARCHAR, ''), lambda c: java_character(c)), '') END""",
)
HALF_PAIRS = 0x10F000 - 0xD800
"""Distance between half a surrogate pair and the private character that represents it."""
"""Run once per database, in this order."""

_BEYOND = re.compile("[\U00010000-\U0010ffff]")
_PLAIN = {
    Primitive.BOOLEAN: "({0})::VARCHAR",
    Primitive.INTEGER: "({0})::VARCHAR",
    Primitive.BIGINT: "({0})::VARCHAR",
    Primitive.DOUBLE: "java_double({0})",
    Primitive.STRING: "java_text({0})",
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
    """Return the expression for one whole row.

    Args:
        columns: Type and DuckDB expression of each value.
        before: Text in front of the first value.
        after: Text after the last value.
    """
    parts = [literal(before)]
    for index, (kind, expression) in enumerate(columns):
        if index:
            parts.append("','")
        parts.append(_value(kind, expression, in_struct=False, depth=0))
    parts.append(literal(after))
    return f"concat({', '.join(parts)})"


def _value(kind: KsqlType, expression: str, *, in_struct: bool, depth: int) -> str:
    """Return the JSON text of one value; NULL becomes `null`."""
    if expression == "NULL":  # it has no type, which some functions need
        return "'null'"
    return f"coalesce({_present(kind, expression, in_struct=in_struct, depth=depth)}, 'null')"


def _present(kind: KsqlType, expression: str, *, in_struct: bool, depth: int) -> str:
    """Return the JSON text of one value; NULL stays NULL."""
    match kind:
        case Primitive():
            template = _IN_STRUCT.get(kind, _PLAIN[kind]) if in_struct else _PLAIN[kind]
            return template.format(expression)
        case Decimal() if in_struct:
            return f"java_double(({expression})::DOUBLE)"
        case Decimal(precision, scale) if precision == scale:
            # DuckDB omits the zero before the point.
            return f"regexp_replace(({expression})::VARCHAR, '^(-?)\\.', '\\10.')"
        case Decimal():
            return f"({expression})::VARCHAR"
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
                label = ("," if index else "{") + json_text(name) + ":"
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


def json_text(text: str) -> str:
    """Return the text as a JSON string, characters beyond U+FFFF as two escapes each, others as they are."""
    written = json.dumps(text, ensure_ascii=False)
    return _BEYOND.sub(lambda match: json.dumps(match.group())[1:-1].upper().replace("\\U", "\\u"), written)

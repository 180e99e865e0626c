"""ksqlDB's functions as DuckDB expressions; only those with the same result in both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.sql.source_columns import literal

SCALAR = {
    "ABS": "abs({0})",
    "ARRAY_CONTAINS": "list_contains({0}, {1})",
    "ARRAY_LENGTH": "len({0})::INTEGER",
    "ARRAY_MAX": "list_max({0})",
    "ARRAY_MIN": "list_min({0})",
    "AS_VALUE": "({0})",
    "CARDINALITY": "len({0})::INTEGER",
    "CEIL": "ceil({0})",
    "COALESCE": "coalesce({*})",
    "CONCAT": "concat({*})",
    "FLOOR": "floor({0})",
    "FROM_DAYS": "(DATE '1970-01-01' + ({0})::INTEGER)",
    "FROM_UNIXTIME": "make_timestamp(({0}) * 1000)",
    "GREATEST": "greatest({*})",
    "IFNULL": "coalesce({0}, {1})",
    "INSTR": "instr({0}, {1})::INTEGER",
    "LCASE": "lower({0})",
    "LEAST": "least({*})",
    "LEN": "length({0})::INTEGER",
    "LPAD": "lpad({0}, {1}, {2})",
    "MAP_KEYS": "map_keys({0})",
    "MAP_VALUES": "map_values({0})",
    "NULLIF": "nullif({0}, {1})",
    "REPLACE": "replace({0}, {1}, {2})",
    "RPAD": "rpad({0}, {1}, {2})",
    "SIGN": "sign({0})::INTEGER",
    "SPLIT": "string_split({0}, {1})",
    "SQRT": "sqrt({0})",
    "TRIM": "trim({0})",
    "UCASE": "upper({0})",
    "UNIX_DATE": "date_diff('day', DATE '1970-01-01', {0})::INTEGER",
    "UNIX_TIMESTAMP": "epoch_ms({0})",
}
# Ordered wherever the order shows in the result: the sum of doubles depends on their order.
AGGREGATE = {
    "AVG": "avg({0} ORDER BY __SEQ)",
    "COLLECT_LIST": "list({0} ORDER BY __SEQ)",
    "COLLECT_SET": "list_sort(list(DISTINCT {0}))",
    "COUNT": "count({0})",
    "COUNT_DISTINCT": "count(DISTINCT {0})",
    "EARLIEST_BY_OFFSET": "arg_min({0}, __SEQ)",
    "LATEST_BY_OFFSET": "arg_max({0}, __SEQ)",
    "MAX": "max({0})",
    "MIN": "min({0})",
    "SUM": "sum({0} ORDER BY __SEQ)",
}
_VARIADIC_BY_COUNT = {
    ("SUBSTRING", 2): "substring({0}, {1})",
    ("SUBSTRING", 3): "substring({0}, {1}, {2})",
    ("ROUND", 1): "round({0})::BIGINT",
    ("ROUND", 2): "round({0}, {1})",
    ("UNIX_DATE", 0): "date_diff('day', DATE '1970-01-01', current_date)::INTEGER",
    ("UNIX_TIMESTAMP", 0): "epoch_ms(now()::TIMESTAMP)",
}
_FORMATS = {
    "FORMAT_DATE": "strftime({0}, {1})",
    "FORMAT_TIME": "strftime(DATE '1970-01-01' + {0}, {1})",
    "FORMAT_TIMESTAMP": "strftime({0}, {1})",
    "TIMESTAMPTOSTRING": "strftime(make_timestamp(({0}) * 1000), {1})",
    "PARSE_DATE": "strptime({0}, {1})::DATE",
    "PARSE_TIMESTAMP": "strptime({0}, {1})",
    "STRINGTOTIMESTAMP": "epoch_ms(strptime({0}, {1}))",
}
_JAVA_PATTERN = {
    "yyyy": "%Y", "uuuu": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%-m", "dd": "%d",
    "d": "%-d", "DDD": "%j", "HH": "%H", "H": "%-H", "hh": "%I", "mm": "%M", "ss": "%S", "SSS": "%g",
    "a": "%p", "EEEE": "%A", "EEE": "%a",
}  # fmt: skip
_PATTERN_PIECE = re.compile(r"'([^']*)'|(([A-Za-z])\3*)|([^A-Za-z'])")


def call(name: str, arguments: Sequence[str], *, aggregates: bool) -> str:
    """Return the DuckDB expression of one call.

    Args:
        name: The function, in any case.
        arguments: DuckDB expressions; a `COUNT(*)` has one, `*`.
        aggregates: Whether aggregate functions are allowed.

    Raises:
        RefusedError: The function is unknown here, or takes other arguments.
    """
    name = name.upper()
    if name in _FORMATS and len(arguments) in (2, 3):
        return _FORMATS[name].format(arguments[0], _strftime(name, arguments))
    template = _VARIADIC_BY_COUNT.get((name, len(arguments))) or SCALAR.get(name)
    if template is None and aggregates:
        template = AGGREGATE.get(name)
    if template is None and name in AGGREGATE:
        raise RefusedError(f"Aggregate function {name} needs a GROUP BY in a CREATE TABLE ... AS SELECT.")
    if template is None:
        raise RefusedError(f"Can't find any functions with the name '{name}'", unexpected=True)
    wanted = 1 + max((int(digit) for digit in re.findall(r"\{(\d)\}", template)), default=-1)
    if "{*}" in template:
        return template.replace("{*}", ", ".join(arguments))
    if len(arguments) != wanted:
        raise RefusedError(
            f"Function '{name}' takes {wanted} arguments here, not {len(arguments)}.", unexpected=True
        )
    return template.format(*arguments)


def _strftime(name: str, arguments: Sequence[str]) -> str:
    if len(arguments) == 3 and arguments[2].upper() not in ("'UTC'", "'Z'", "'GMT'"):
        raise RefusedError(f"The ksql-lake devserver formats times in UTC only: {name}(..., {arguments[2]})")
    pattern = arguments[1]
    if not (pattern.startswith("'") and pattern.endswith("'")):
        raise RefusedError(f"The ksql-lake devserver needs {name}'s pattern as a literal, not {pattern}")
    return literal(strftime_pattern(pattern[1:-1].replace("''", "'")))


def strftime_pattern(java: str) -> str:
    """Return a Java date-time pattern as DuckDB's strftime format.

    Raises:
        RefusedError: The pattern holds a letter this server does not know.
    """
    text = []
    for match in _PATTERN_PIECE.finditer(java):
        quoted_text, letters, other = match.group(1), match.group(2), match.group(4)
        if letters is None:
            text.append((other or quoted_text or "'").replace("%", "%%"))
        elif letters in _JAVA_PATTERN:
            text.append(_JAVA_PATTERN[letters])
        else:
            raise RefusedError(f"The ksql-lake devserver does not know '{letters}' in the pattern '{java}'")
    return "".join(text)

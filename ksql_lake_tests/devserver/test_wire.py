"""The text of values, as Java's serialisers write them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.devserver.sql.row_text import MACROS, row_text
from ksql_lake.devserver.sql.source_columns import ksql_type
from ksql_lake.schema import KsqlType, Primitive

_FILE = Path(__file__).parent.parent / "data" / "ksqldb-framing-cases.jsonl"


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the macros."""
    with duckdb.connect() as connection:
        for macro in MACROS:
            connection.execute(macro)
        yield connection


def rendered(database: duckdb.DuckDBPyConnection, expression: str, kind: KsqlType | None = None) -> str:
    """The wire text of one DuckDB expression."""
    kind = kind or ksql_type(database.sql(f"SELECT {expression} AS v").types[0])
    text = row_text([(kind, "v")], before="", after="")
    row = database.execute(f"SELECT {text} FROM (SELECT {expression} AS v)").fetchone()
    assert row is not None
    return str(row[0])


def java_double(value: float) -> str:
    """Double.toString: written from its specification, with Python's shortest digits."""
    if math.isnan(value) or math.isinf(value):
        return {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}[str(value)]
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    _, digits, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if value < 0 else ''}{digits[0]}.{fraction}E{len(digits) - 1 + int(exponent)}"


@given(st.lists(st.floats(allow_subnormal=False), min_size=1, max_size=200))
@settings(deadline=None)
def test_doubles_read_like_javas(database: duckdb.DuckDBPyConnection, values: list[float]) -> None:
    """Every normal double has Java's text: digits, point, exponent, and words for what is no number."""
    text = row_text([(Primitive.DOUBLE, "v")], before="", after="")

    rows = database.execute(f"SELECT {text} FROM (SELECT unnest(?::DOUBLE[]) AS v)", [values]).fetchall()

    assert [row[0] for row in rows] == [java_double(value) for value in values]


@pytest.mark.parametrize(
    ("value", "text"),
    [("1e10", "1.0E10"), ("1e-5", "1.0E-5"), ("4.9e-324", "4.9E-324"), ("1e7", "1.0E7"), ("0.001", "0.001"),
     ("'-0.0'", "-0.0"), ("123456789.125", "1.23456789125E8"), ("-1.5e-7", "-1.5E-7")],
)  # fmt: skip
def test_known_doubles(database: duckdb.DuckDBPyConnection, value: str, text: str) -> None:
    """Texts seen from a real JVM come out exactly."""
    assert rendered(database, f"{value}::DOUBLE") == text


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x10EFFF), max_size=50))
@settings(deadline=None)
def test_strings_survive_json(database: duckdb.DuckDBPyConnection, value: str) -> None:
    """Any text comes back the same, on one line, characters beyond U+FFFF as two escapes."""
    text = row_text([(Primitive.STRING, "v")], before="", after="")
    row = database.execute(f"SELECT {text} FROM (SELECT ?::VARCHAR AS v)", [value]).fetchone()

    assert row is not None
    assert json.loads(row[0]) == value
    assert "\n" not in row[0]
    assert not [character for character in value if 127 < ord(character) < 0x10000 and character not in row[0]]
    assert all(ord(character) < 0x10000 for character in row[0])


VALUES = {
    "2e23::DOUBLE": "1.9999999999999998E23",
    "-1e23::DOUBLE": "-9.999999999999999E22",
    "DATE '0001-01-01 (BC)'": '"0000-01-01"',
    "make_timestamp_ms(-62135596800000)": '"0001-01-03T00:00:00.000"',
    "make_timestamp_ms(-62135596800001)": '"0001-01-02T23:59:59.999"',
    "make_timestamp_ms(-62170156800000)": '"0002-11-30T00:00:00.000"',
    "make_timestamp_ms(-12219292800001)": '"1582-10-04T23:59:59.999"',
    "make_timestamp_ms(253402300800000)": '"10000-01-01T00:00:00.000"',
    "'a' || chr(128512) || 'b'": r'"a\uD83D\uDE00b"',
    "'a' || chr(1110077) || 'z'": r'"a\uD83Dz"',
    "TRUE": "true",
    "9223372036854775807": "9223372036854775807",
    "12345678901234567890.1234567890::DECIMAL(38, 10)": "12345678901234567890.1234567890",
    "10.00::DECIMAL(10, 2)": "10.00",
    "0.0000000001::DECIMAL(38, 10)": "0.0000000001",
    "-0.5::DECIMAL(4, 1)": "-0.5",
    "'\\x01\\xFF'::BLOB": '"Af8="',
    "TIME '10:00:00'": '"10:00"',
    "TIME '10:00:05.123'": '"10:00:05"',
    "TIME '00:00:00.999'": '"00:00"',
    "DATE '1970-01-01'": '"1970-01-01"',
    "DATE '10000-01-01'": '"+10000-01-01"',
    "DATE '0222-09-04 (BC)'": '"-0221-09-04"',
    "TIMESTAMP '2025-01-06 00:00:00.120'": '"2025-01-06T00:00:00.120"',
    "TIMESTAMP '10000-01-01 00:00:00'": '"10000-01-01T00:00:00.000"',
    "[1, NULL, 2]": "[1,null,2]",
    "[]::INTEGER[]": "[]",
    "[[1.5::DOUBLE], NULL]": "[[1.5],null]",
    "MAP {'b': 1, 'a': NULL}": '{"b":1,"a":null}',
    "MAP {1: 'x'}": '{"1":"x"}',
    "MAP {DATE '2025-01-01': 1}": '{"2025-01-01":1}',
    "{'A': NULL::INTEGER, 'B': {'c d\"': 1}}": '{"A":null,"B":{"c d\\"":1}}',
}


@pytest.mark.parametrize(("expression", "text"), VALUES.items())
def test_values_have_the_texts_of_the_real_serialiser(
    database: duckdb.DuckDBPyConnection, expression: str, text: str
) -> None:
    """Each type is written exactly as ksqlDB writes it at top level."""
    assert rendered(database, expression) == text


IN_STRUCT = {
    "TIME '10:00:00.5'": "36000500",
    "DATE '1970-01-03'": "2",
    "DATE '1969-12-31'": "-1",
    "TIMESTAMP '1970-01-01 00:00:01.5'": "1500",
    "TIMESTAMP '1969-12-31 23:59:59.5'": "-500",
    "10.00::DECIMAL(10, 2)": "10.0",
    "12345678901234567890.1234567890::DECIMAL(38, 10)": "1.2345678901234567E19",
    "'ab'::BLOB": '"YWI="',
    "MAP {1: DATE '1970-01-02'}": "[[1,1]]",
    "MAP {'k': DATE '1970-01-02'}": '{"k":1}',
    "[TIME '00:00:01']": "[1000]",
}


@pytest.mark.parametrize(("expression", "text"), IN_STRUCT.items())
def test_values_below_a_struct_go_through_the_other_serialiser(
    database: duckdb.DuckDBPyConnection, expression: str, text: str
) -> None:
    """Below a STRUCT times are integers, DECIMALs doubles, and maps with other keys arrays of pairs."""
    assert rendered(database, f"{{'F': {expression}}}") == f'{{"F":{text}}}'
    assert rendered(database, f"[{{'F': [{expression}]}}]") == f'[{{"F":[{text}]}}]'


@pytest.mark.parametrize(
    "kind", ["BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL(4, 2)", "VARCHAR", "BLOB", "TIME", "DATE",
             "TIMESTAMP", "INTEGER[]", "MAP(VARCHAR, TIME)", "STRUCT(a DATE)"],
)  # fmt: skip
def test_null_is_null_in_every_type(database: duckdb.DuckDBPyConnection, kind: str) -> None:
    """No type turns NULL into an empty text or a word of its own, at top level or inside."""
    assert rendered(database, f"NULL::{kind}") == "null"
    assert rendered(database, f"[NULL::{kind}]") == "[null]"
    assert rendered(database, f"{{'F': NULL::{kind}}}") == '{"F":null}'


def test_the_reference_row_of_renderings(database: duckdb.DuckDBPyConnection) -> None:
    """The row that was put together from the real server's rules comes out byte for byte."""
    cases = [json.loads(line) for line in _FILE.read_text("utf-8").splitlines()]
    body = next(case["body"] for case in cases if case["name"] == "value renderings")
    wanted = body.split('{"row":{"columns":[', 1)[1].removesuffix("]}}]")
    expressions = [
        "TRUE", "-1", "9223372036854775807", "1e10::DOUBLE", "'NaN'::DOUBLE",
        "12345678901234567890.1234567890::DECIMAL(38, 10)", "TIME '10:00:00'", "DATE '1970-01-01'",
        "TIMESTAMP '1970-01-01 00:00:00'", "'\\xFB\\xFF\\x01\\x02'::BLOB", "MAP {1: 'x'}",
        "{'D': 10.00::DECIMAL(10, 2), 'T': TIME '10:00', 'A': DATE '1970-01-01', 'TS': TIMESTAMP '1970-01-01'}",
    ]  # fmt: skip

    assert ",".join(rendered(database, expression) for expression in expressions) == wanted

"""Schemas, values and rows to try the decoder with, honest ones and hostile ones."""

from __future__ import annotations

import decimal
import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from ksql_lake.schema import Array, Column, Decimal, KsqlType, Map, Primitive, Schema, Struct
from ksql_lake_tests.decode.writing import frame, write, write_rows

GREGORIAN_START = -12_219_292_800_000
YEAR_10000 = 253_402_300_800_000

primitives = st.sampled_from(list(Primitive))
decimals = st.integers(1, 38).flatmap(
    lambda digits: st.builds(Decimal, st.just(digits), st.integers(0, digits))
)
flat_types: st.SearchStrategy[KsqlType] = st.one_of(primitives, decimals)
text_keys: st.SearchStrategy[KsqlType] = st.one_of(
    st.just(Primitive.STRING), primitives.filter(lambda kind: kind != Primitive.BYTES), decimals
)
names = st.one_of(
    st.sampled_from(
        ["ID", "id", "row", "columns", "a b", "a.b", "ITEMS[1]", "Größe", 'quo"te', "back\\slash", ""]
    ),
    st.text(max_size=6).filter(lambda name: "`" not in name and name.isprintable()),
)


def _fields(types: st.SearchStrategy[KsqlType]) -> st.SearchStrategy[KsqlType]:
    pairs = st.lists(st.tuples(names, types), min_size=1, max_size=3, unique_by=lambda pair: pair[0])
    return pairs.map(lambda fields: Struct(tuple(fields)))


types: st.SearchStrategy[KsqlType] = st.recursive(
    flat_types,
    lambda inner: st.one_of(st.builds(Array, inner), st.builds(Map, text_keys, inner), _fields(inner)),
    max_leaves=4,
)


def schemas(of: st.SearchStrategy[KsqlType]) -> st.SearchStrategy[Schema]:
    """Schemas of one to five columns."""
    columns = st.lists(st.tuples(names, of), min_size=1, max_size=5, unique_by=lambda pair: pair[0])
    return columns.map(lambda pairs: Schema(tuple(Column(name, kind) for name, kind in pairs)))


ODD_TEXTS = [
    "",
    "null",
    "]}},",
    '"',
    '""',
    ",",
    "\n",
    "\\",
    "\\n",
    "{}",
    "a,b",
    "\x00",
    "\x7f",
    "ü",
    "\u2028",
    "😀",
    "1",
]
_strings = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=8), st.text('ab,"\\\n\t]}', max_size=8))
_SCALARS: dict[Primitive, st.SearchStrategy[Any]] = {
    Primitive.BOOLEAN: st.booleans(),
    Primitive.INTEGER: st.integers(-(2**31), 2**31 - 1),
    Primitive.BIGINT: st.integers(-(2**63), 2**63 - 1),
    Primitive.DOUBLE: st.floats(),
    Primitive.STRING: _strings,
    Primitive.BYTES: st.binary(max_size=7),
    Primitive.TIME: st.integers(0, 86_399).map(lambda second: second * 1000),
    Primitive.DATE: st.one_of(st.integers(0, 20_000), st.integers(-(2**31), 2**31 - 1)),
    Primitive.TIMESTAMP: st.one_of(st.integers(0, 2**41), st.integers(GREGORIAN_START, YEAR_10000 + 10**13)),
}


@st.composite
def values(draw: st.DrawFn, kind: KsqlType, *, in_struct: bool = False, null: bool = True) -> Any:
    """A value of a type, as `writing` takes it, that the server can send without loss."""
    if null and draw(st.integers(0, 4)) == 0:
        return None
    match kind:
        case Primitive():
            return draw(_SCALARS[kind])
        case Decimal(precision, scale):
            # Inside a STRUCT more than 15 digits do not survive the server's double.
            digits = min(precision, 15) if in_struct else precision
            return decimal.Decimal(draw(st.integers(-(10**digits) + 1, 10**digits - 1))).scaleb(
                -scale, decimal.Context(prec=60)
            )
        case Array(element):
            return draw(st.lists(values(element, in_struct=in_struct), max_size=3))
        case Map(key, item):
            pair = st.tuples(values(key, in_struct=in_struct, null=False), values(item, in_struct=in_struct))
            return draw(st.lists(pair, max_size=3, unique_by=lambda entry: repr(entry[0])))
        case Struct(fields):
            return {name: draw(values(inner, in_struct=True)) for name, inner in fields}


@st.composite
def tables(draw: st.DrawFn, of: st.SearchStrategy[KsqlType], most: int = 4) -> tuple[Schema, list[list[Any]]]:
    """A schema and rows for it."""
    schema = draw(schemas(of))
    count = draw(st.integers(1, most))
    return schema, [[draw(values(column.type)) for column in schema] for _ in range(count)]


HOSTILE_TOKENS = [
    *(
        '"12"',
        "12",
        "012",
        "-012",
        "+1",
        "0x1F",
        "-0x1",
        "-0",
        "-",
        "1.",
        ".5",
        "-.5",
        "1.e5",
        "1.E5",
        "00",
        "01.5",
    ),
    *(
        "1.5",
        "1e5",
        "1E+5",
        "1.50",
        "1.500",
        "1.005",
        "10.000",
        "1E400",
        "-1E400",
        "1e-400",
        "4.9E-324",
        "1_0",
        "1d",
    ),
    *(
        "NaN",
        "nan",
        "inf",
        "Infinity",
        "-Infinity",
        '"nan"',
        '"NaN"',
        '"Infinity"',
        '"-Infinity"',
        '"+Infinity"',
    ),
    *(
        "true",
        "True",
        "TRUE",
        "1",
        "0",
        '"true"',
        "false",
        "fals",
        "t",
        "null",
        "NULL",
        "nul",
        "nulll",
        '"null"',
    ),
    *(
        '""',
        '"',
        '"""',
        '"a"b',
        'a"b"',
        '"a" ',
        ' "a"',
        "a",
        "",
        " ",
        "'a'",
        '"a""b"',
        '"a\tb"',
        '"\\u0041"',
        '"\\x"',
    ),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\\/"', '"\\"', '"\\\\"', "\\", '\\"a\\"', "2147483648", "-2147483649"),
    *(
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
        "9" * 40,
        "9" * 400,
        "0." + "3" * 60,
    ),
    *(
        '"2025-01-15T10:00:00.000"',
        '"2025-01-15 10:00:00.000"',
        '"2025-01-15T10:00:00.00Z"',
        '"2025-01-15T10:00:00"',
    ),
    *(
        '"2025-02-29T00:00:00.000"',
        '"2025-01-15T24:00:00.000"',
        '"1582-10-10T00:00:00.000"',
        '"1500-02-29T00:00:00.000"',
    ),
    *(
        '"0000-01-01T00:00:00.000"',
        '"10000-01-01T00:00:00.000"',
        '"2025-01-15T10:00:00,000"',
        '"0001-01-01T00:00:00.000"',
    ),
    *(
        '"2025-01-15T10:00:00.+01"',
        "2025-01-15T10:00:00.000",
        "1736935200000",
        '"2025-1-15"',
        '"2025-01-15"',
        "20103",
    ),
    *(
        '"2025-02-30"',
        '"0000-01-01"',
        '"+10000-01-01"',
        '"-0001-01-01"',
        '"-0000-01-01"',
        '"99999-01-01"',
        "2025-01-15",
    ),
    *(
        '"10:00"',
        '"10:00:00"',
        '"10:00:00.000"',
        '"10:00:00.1"',
        '"24:00"',
        '"10:60"',
        '"1:00"',
        '"10:00+01"',
        "36000000",
    ),
    *(
        '"AAAA"',
        '"AA=="',
        '"AA"',
        '"AB=="',
        '"A-_="',
        '"AAAA="',
        '"AA==AA=="',
        '" AAAA"',
        '"A=A="',
        "[]",
        "{}",
        "[1]",
    ),
    *(
        "[null]",
        '{"a":1}',
        '{"a":1,"a":2}',
        '[["a",1]]',
        "[[null,1]]",
        '{"1":1}',
        '{"01":1}',
        "1,2",
        "1]",
        "[1",
        "]}}",
    ),
]
_tokens = st.sampled_from(HOSTILE_TOKENS)
_numberish = st.one_of(
    st.text("0123456789+-.eExnaif", min_size=1, max_size=7),
    st.from_regex(r"-?(0|[1-9][0-9]{0,45})(\.[0-9]{1,45})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
_bytes = st.sampled_from(
    [bytes((code,)) for code in b'",[]{}:\n\r\t\\ 0-9.eEnt\x00\x01\x02\x1f'] + [b"\xff", b"\xed\xa0\x80"]
)


@st.composite
def hostile_blocks(draw: st.DrawFn, of: st.SearchStrategy[KsqlType]) -> tuple[Schema, bytes]:
    """A schema and a block of rows of which one or two have been tampered with."""
    schema, rows = draw(tables(of))
    lines = write_rows(schema, rows)
    for _ in range(draw(st.integers(1, 2))):
        number = draw(st.integers(0, len(lines) - 1))
        if draw(st.booleans()):
            tokens = [write(column.type, draw(values(column.type))) for column in schema]
            tokens[draw(st.integers(0, len(tokens) - 1))] = draw(st.one_of(_tokens, _numberish))
            lines[number] = frame(draw(st.sampled_from([",", ",", ",", ", "])).join(tokens))
        else:
            lines[number] = _tampered(draw, lines[number])
    assume(
        not any(line in {b"", b","} for line in b"\n".join(lines).split(b"\n"))
    )  # would be a block of no rows
    return schema, draw(st.sampled_from([b",\n", b",\n", b",\n", b"\n"])).join(lines)


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[Schema, bytes]:
    """A schema of one flat column between two others, and one row whose value is nearly of its form."""
    kind = draw(flat_types)
    schema = Schema((Column("A", Primitive.STRING), Column("V", kind), Column("B", Primitive.INTEGER)))
    if kind in _TEXT_FORMS:
        text = draw(values(kind, null=False).map(lambda value: write(kind, value).strip('"')))
        place = draw(st.integers(0, len(text)))
        token = f'"{text[:place]}{draw(st.sampled_from(_NEAR))}{text[place + draw(st.integers(0, 1)) :]}"'
    else:
        token = draw(_numberish)
    return schema, frame(f'"a",{token},1')


_TEXT_FORMS = {Primitive.TIME, Primitive.DATE, Primitive.TIMESTAMP, Primitive.BYTES}
_NEAR = [*"0123456789", *":-T.+ Z=/", "", "00", "+01", "Z"]


def _tampered(draw: st.DrawFn, line: bytes) -> bytes:
    start = draw(st.integers(0, len(line)))
    end = min(len(line), start + draw(st.sampled_from([0, 0, 1, 1, 2, 5])))
    return line[:start] + draw(st.one_of(st.just(b""), _bytes)) + line[end:]


def cuts(draw: st.DrawFn, lines: Sequence[bytes]) -> list[list[bytes]]:
    """The same lines as several blocks."""
    borders = sorted(draw(st.sets(st.integers(1, max(1, len(lines) - 1)), max_size=3)))
    edges = [0, *(border for border in borders if border < len(lines)), len(lines)]
    return [list(lines[begin:end]) for begin, end in itertools.pairwise(edges)]

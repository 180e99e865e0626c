"""Which nested rows the reader of places vouches for: those a server writes; the rest it leaves alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.decode import RowDecoder
from ksql_lake.schema import parse_schema
from ksql_lake_tests.decode.comparing import described
from ksql_lake_tests.decode.writing import frame, write_rows
from ksql_lake_tests.quick import examples

EVERYTHING = parse_schema(
    "`S` STRUCT<`A_LONG_NAME` STRING, `i` INTEGER, `IN` STRUCT<`D` DOUBLE, `N` DECIMAL(12, 2)>, `T` TIME, "
    "`DAY` DATE, `AT` TIMESTAMP, `Y` BYTES, `B` BOOLEAN, `M` MAP<STRING, DECIMAL(6, 3)>>, "
    "`L` ARRAY<STRUCT<`K` STRING, `V` ARRAY<BIGINT>>>, `M` MAP<STRING, ARRAY<STRING>>, `Z` ARRAY<ARRAY<DATE>>, "
    "`N` DECIMAL(12, 2), `A` ARRAY<DECIMAL(12, 2)>"
)
ROWS = [
    (
        '{"A_LONG_NAME":"a, b: {c} [d]","i":1,"IN":{"D":1.5E-7,"N":12.5},"T":3600000,"DAY":20103,'
        '"AT":1736935200000,"Y":"AA==","B":true,"M":{"x":0.125,"y":null}},'
        '[{"K":"k","V":[1,2,3]},{"K":null,"V":[]},null],{"k":["a","b"],"l":[],"":null},'
        '[["2025-01-15"],[],[null]],10.00,[1.00,null,-2.50]'
    ),
    "null,null,null,null,null,null",
    (
        '{"A_LONG_NAME":null,"i":null,"IN":null,"T":null,"DAY":null,"AT":null,"Y":null,"B":null,"M":null},'
        "[],{},[],-0.01,[]"
    ),
    (
        '{"A_LONG_NAME":"","i":-2147483648,"IN":{"D":"NaN","N":1.234567891E7},"T":0,"DAY":-1,"AT":-1,"Y":"",'
        '"B":false,"M":{}},[null],{":":["]"],"a\\":b":["\\"},"]},[null],9999999999.99,[0.00]'
    ),
    (
        '{"A_LONG_NAME":"größer 😀","i":0,"IN":{"D":"-Infinity","N":-0.0},"T":86399999,"DAY":0,"AT":0,'
        '"Y":"+/8=","B":null,"M":{"ключ":1.0}},[{"K":"]}},","V":null}],{"\\\\":["\\\\\\""]},[null,[]],null,null'
    ),
]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 50])
def test_nested_rows_as_servers_write_them_are_vouched_for(count: int) -> None:
    """Every nesting, nulls at every depth, escapes and Unicode are read by places, and read right."""
    decoder = RowDecoder(EVERYTHING)
    lines = [frame(row) for row in (ROWS * 10)[:count]]

    assert described(decoder._placed.read(b",\n".join(lines))) == described(
        decoder._exact.read(lines, first_row=0)
    )


leaves = st.fixed_dictionaries(
    {
        "NAME": st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=9),
        "AGE": st.none() | st.integers(-(2**31), 2**31 - 1),
        "AT": st.none() | st.integers(-(2**50), 2**50),
    }
)
PEOPLE = parse_schema(
    "`P` STRUCT<`NAME` STRING, `AGE` INTEGER, `AT` TIMESTAMP>, "
    "`Q` ARRAY<STRUCT<`NAME` STRING, `AGE` INTEGER, `AT` TIMESTAMP>>, "
    "`M` MAP<STRING, STRUCT<`NAME` STRING, `AGE` INTEGER, `AT` TIMESTAMP>>, `E` ARRAY<ARRAY<INTEGER>>"
)


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.none() | leaves,
            st.none() | st.lists(st.none() | leaves, max_size=4),
            st.none()
            | st.lists(
                st.tuples(st.text(max_size=3), st.none() | leaves), max_size=20, unique_by=lambda p: p[0]
            ),
            st.none() | st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=3), max_size=3),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_a_server_writes_is_vouched_for_or_has_an_unusual_escape(
    rows: list[tuple[object, ...]],
) -> None:
    """Generated rows are read by places, and read right; only escapes by code point are left to others."""
    decoder = RowDecoder(PEOPLE)
    lines = write_rows(PEOPLE, [list(row) for row in rows])
    data = b",\n".join(lines)
    exact = described(decoder._exact.read(lines, first_row=0))

    if b"\\u" in data:
        assert described(decoder.decode(data, count=len(lines), first_row=0)) == exact
    else:
        assert described(decoder._placed.read(data)) == exact


STRUCT = "`S` STRUCT<`a` INTEGER, `b` STRING>"
LEFT_ALONE = {
    "fields in another order": (STRUCT, '{"b":"x","a":1}'),
    "a field too few": (STRUCT, '{"a":1}'),
    "a field too many": (STRUCT, '{"a":1,"b":"x","c":1}'),
    "another name of the same length": (STRUCT, '{"a":1,"B":"x"}'),
    "another long name": ("`S` STRUCT<`a_long_name` INTEGER>", '{"a_long_nama":1}'),
    "a name cut short": ("`S` STRUCT<`a_long_name` INTEGER>", '{"a":1}'),
    "a space behind a name": (STRUCT, '{"a" :1,"b":"x"}'),
    "a space before a value": (STRUCT, '{"a": 1,"b":"x"}'),
    "no value": (STRUCT, '{"a":,"b":"x"}'),
    "a name alone": ("`S` STRUCT<`a` INTEGER>", '{"a"}'),
    "nothing": (STRUCT, "{}"),
    "a list for a STRUCT": (STRUCT, '[1,"x"]'),
    "a text for a STRUCT": (STRUCT, '"x"'),
    "a number in marks": (STRUCT, '{"a":"1","b":"x"}'),
    "a text without marks": (STRUCT, '{"a":1,"b":x}'),
    "a mark in a text": (STRUCT, '{"a":1,"b":"x"y"}'),
    "a mark in the next column": (f"{STRUCT}, `T` STRING", '{"a":1,"b":"x},"y"}'),
    "a date in text": ("`S` STRUCT<`d` DATE>", '{"d":"2025-01-15"}'),
    "a time after the day": ("`S` STRUCT<`t` TIME>", '{"t":86400000}'),
    "a number with an underscore": ("`S` STRUCT<`n` DECIMAL(9, 2)>", '{"n":1_0}'),
    "a bare point in a DECIMAL": ("`S` STRUCT<`n` DECIMAL(9, 2)>", '{"n":1.E1}'),
    "an object for an ARRAY": ("`L` ARRAY<INTEGER>", '{"a":1}'),
    "a list closed as an object": ("`L` ARRAY<INTEGER>", "[1}"),
    "a list that does not close": ("`L` ARRAY<INTEGER>", "[1"),
    "a list that closes twice": ("`L` ARRAY<INTEGER>", "[1]]"),
    "a comma at a list's end": ("`L` ARRAY<INTEGER>", "[1,]"),
    "a space in a list": ("`L` ARRAY<INTEGER>", "[ ]"),
    "two lists": ("`L` ARRAY<INTEGER>", "[1][2]"),
    "text after a list": ("`L` ARRAY<INTEGER>", "[1]x"),
    "a list for a MAP": ("`M` MAP<STRING, INTEGER>", "[1]"),
    "a key twice": ("`M` MAP<STRING, INTEGER>", '{"a":1,"b":2,"a":3}'),
    "a key twice among many": (
        "`M` MAP<STRING, INTEGER>",
        "{" + ",".join(f'"k{number % 30}":{number}' for number in range(31)) + "}",
    ),
    "a key without marks": ("`M` MAP<STRING, INTEGER>", "{a:1}"),
    "a key that is null": ("`M` MAP<STRING, INTEGER>", "{null:1}"),
    "an entry without a key": ("`M` MAP<STRING, INTEGER>", "{1}"),
    "an entry without a value": ("`M` MAP<STRING, INTEGER>", '{"a":}'),
    "a comma at a MAP's end": ("`M` MAP<STRING, INTEGER>", '{"a":1,}'),
    "a comma alone in a MAP": ("`M` MAP<STRING, INTEGER>", "{,}"),
    "a key that only ends in a mark": ("`M` MAP<STRING, INTEGER>", '{a":1}'),
    "keys that are numbers": ("`M` MAP<INTEGER, INTEGER>", '{"1":1}'),
    "a value too many": ("`L` ARRAY<INTEGER>, `I` INTEGER", "[1],2,3"),
    "a value too few": ("`L` ARRAY<INTEGER>, `I` INTEGER", "[1]"),
    "rows of one value more and one less": (
        "`L` ARRAY<INTEGER>, `I` INTEGER",
        '[1],2,3]}},\n{"row":{"columns":[[4]',
    ),
    "brackets beyond a byte's count": ("`L` ARRAY<INTEGER>", "[" * 300 + "]" * 300),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_nested_rows_in_another_form_are_left_alone(name: str) -> None:
    """A block that is not plainly what it seems is not vouched for, whether it turns out right or wrong."""
    schema, row = LEFT_ALONE[name]
    reader = RowDecoder(parse_schema(schema))._placed

    for lines in ([frame(row)], [frame(row), frame(row)]):
        with pytest.raises(ValueError, match=r"\S"):
            reader.read(b",\n".join(lines))


@pytest.mark.slow
def test_one_decoder_serves_several_threads() -> None:
    """Blocks of all kinds, decoded by one decoder in four threads, come out as they do in one."""
    decoder = RowDecoder(EVERYTHING)
    plain = [frame(row) for row in ROWS * 400]
    odd = [frame(row.replace("größer", "\\u0061")) for row in ROWS * 400]
    blocks = [b",\n".join(lines) for lines in (plain, odd, plain[:7])]
    expected = [described(decoder.decode(block, count=block.count(b"\n") + 1, first_row=0)) for block in blocks]

    def decode(number: int) -> pa.RecordBatch:
        block = blocks[number % 3]
        return decoder.decode(block, count=block.count(b"\n") + 1, first_row=0)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(decode, range(12)))

    assert [described(batch) for batch in found] == expected * 4

"""Which blocks the flat reader vouches for: those a server writes; the rest it leaves alone."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ksql_lake.decode import RowDecoder
from ksql_lake.schema import parse_schema
from ksql_lake_tests.decode.comparing import described, values
from ksql_lake_tests.decode.writing import frame

EVERY_TYPE = parse_schema(
    "`S` STRING, `I` INTEGER, `L` BIGINT, `D` DOUBLE, `N` DECIMAL(12, 2), `W` DECIMAL(38, 0), `B` BOOLEAN, "
    "`Y` BYTES, `T` TIME, `A` DATE, `U` TIMESTAMP"
)
ROWS = [
    '"a",1,9223372036854775807,1.0,10.00,'
    + "9" * 38
    + ',true,"AA==","10:00","2025-01-15","2025-01-15T10:00:00.000"',
    '"",-2147483648,0,"NaN",-0.01,-1,false,"","23:59:59","0001-01-01","9999-12-31T23:59:59.999"',
    '"null, \\"]}},\\n\\\\n",0,-1,1.0E-5,9999999999.99,0,null,"+/8=","00:00:01",null,"1582-10-04T00:00:00.000"',
    '"größer 😀\u2028",null,null,"-Infinity",null,null,true,null,null,null,null',
    "null,7,8,-0.0,0.00,9,false,null,null,null,null",
]


def flat(schema: str, *rows: str) -> pa.RecordBatch:
    """Read rows by the flat reader alone."""
    return RowDecoder(parse_schema(schema))._placed.read(b",\n".join(map(frame, rows)))


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_rows_as_servers_write_them_are_vouched_for(count: int) -> None:
    """Every flat type, nulls, escapes, Unicode and old dates are read the fast way, and read right."""
    decoder = RowDecoder(EVERY_TYPE)
    lines = [frame(row) for row in (ROWS * 10)[:count]]

    assert described(decoder._placed.read(b",\n".join(lines))) == described(
        decoder._exact.read(lines, first_row=0)
    )


ESCAPES = [
    (r"\\", "\\"),
    (r"\"", '"'),
    (r"\n\r\t\b\f", "\n\r\t\b\f"),
    (r"\/", "/"),
    (r"\\n\\\"", '\\n\\"'),
    (r"a\\\\b", r"a\\b"),
    (r"\",\"", '","'),
]


@pytest.mark.parametrize(("text", "value"), ESCAPES)
def test_escapes_are_undone_on_the_fast_way(text: str, value: str) -> None:
    """Each of JSON's short escapes becomes its character, next to others and in a null-holding column."""
    batch = flat("`S` STRING, `T` STRING", f'"{text}",null', f'null,"x{text}{text}"')

    assert batch.to_pydict() == {"S": [value, None], "T": [None, f"x{value}{value}"]}


def test_text_that_looks_like_structure_stays_text() -> None:
    """Frames, commas, marks and nulls inside of text end nothing."""
    texts = ['{"row":{"columns":[1]}}', "]}},", "a,b", ",", "null", "", '"', "]}}"]
    rows = ['"' + text.replace('"', '\\"') + '",1' for text in texts]

    assert values(flat("`S` STRING, `I` INTEGER", *rows).column(0)) == texts


LEFT_ALONE = {
    "a number in quotation marks": ("`A` INTEGER, `B` STRING", '"12",12'),
    "leading zeros": ("`A` INTEGER", "012"),
    "hexadecimal": ("`A` INTEGER", "0x1F"),
    "a space before": ("`A` INTEGER, `B` INTEGER", "1, 2"),
    "a space after": ("`A` INTEGER, `B` INTEGER", "1 ,2"),
    "a space in the middle of a boolean": ("`A` BOOLEAN", "tr ue"),
    "a capital": ("`A` BOOLEAN", "True"),
    "infinity without marks": ("`A` DOUBLE", "inf"),
    "a number in marks": ("`A` DOUBLE", '"1.5"'),
    "too large for a double": ("`A` DOUBLE", "1E400"),
    "a negative zero without fraction": ("`A` DOUBLE", "-0"),
    "a bare point before an exponent": ("`A` DOUBLE", "1.e5"),
    "a bare point at the end": ("`A` DOUBLE", "1."),
    "fewer decimals": ("`A` DECIMAL(4, 2)", "1.5"),
    "more decimals": ("`A` DECIMAL(4, 2)", "1.500"),
    "an exponent": ("`A` DECIMAL(4, 2)", "1E1"),
    "a number that overflows": ("`A` DECIMAL(38, 38)", "5." + "0" * 38),
    "forty digits": ("`A` DECIMAL(38, 0)", "9" * 40),
    "text without marks": ("`A` STRING", "abc"),
    "a mark in the middle": ("`A` STRING", '"a"b"'),
    "text after the mark": ("`A` STRING", '"a"b'),
    "an empty value": ("`A` STRING, `B` STRING", '"a",'),
    "an escape by code point": ("`A` STRING", '"\\u0041"'),
    "an unknown escape": ("`A` STRING", '"\\x"'),
    "a raw control character": ("`A` STRING", '"a\tb"'),
    "a raw stand-in beside an escape": ("`A` STRING", '"\x01\\n"'),
    "a space for the T": ("`A` TIMESTAMP", '"2025-01-15 10:00:00.000"'),
    "no milliseconds": ("`A` TIMESTAMP", '"2025-01-15T10:00:00"'),
    "the year 10000": ("`A` TIMESTAMP", '"10000-01-01T00:00:00.000"'),
    "a day that never was": ("`A` TIMESTAMP", '"1582-10-10T00:00:00.000"'),
    "tenths of a second": ("`A` TIME", '"10:00:00.1"'),
    "a signed year": ("`A` DATE", '"+10000-01-01"'),
    "another alphabet": ("`A` BYTES", '"A-_="'),
    "a value too few": ("`A` INTEGER, `B` INTEGER", "1"),
    "a value too many": ("`A` INTEGER, `B` INTEGER", "1,2,3"),
    "two rows on one line": ("`A` INTEGER, `B` INTEGER", '1,2]}},{"row":{"columns":[3,4'),
    "a key beside the values": ("`A` INTEGER", '1],"tombstone":[true'),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_csv_would_read_otherwise_is_left_alone(name: str) -> None:
    """A block that is not plainly what it seems is not vouched for, whether it turns out right or wrong."""
    schema, row = LEFT_ALONE[name]

    with pytest.raises(ValueError, match=r"\S"):
        flat(schema, row)


@pytest.mark.parametrize(
    "data",
    [
        b'{"row":{"columns":[1]},"sourceHost":"a:1"}',
        b'{ "row":{"columns":[1]}}',
        b'{"row":{"columns":["abc]}}',
        b'{"row":{"columns":["abc\\',
        b'{"row":{"columns":[1]}},\n{"row":{"columns":["abc]}}',
        b'{"row":{"columns":[1]}}\n{"row":{"columns":[2]}}',
        b'{"row":{"columns":[1]}},\n\n{"row":{"columns":[2]}}',
        b'{"row":{"columns":[1]}},\r\n{"row":{"columns":[2]}}',
        b'{"row":{"columns":["a\n]}},\n{"row":{"columns":["b"]}}',
        b'{"row":{"columns":[]}}',
        b'{"row":{"columns":[',
        b"\n",
        b"",
    ],
    ids=range(13),
)
def test_other_frames_are_left_alone(data: bytes) -> None:
    """Lines that are not plain frames around one row each are not vouched for."""
    reader = RowDecoder(parse_schema("`A` STRING"))._placed

    with pytest.raises(ValueError, match=r"\S"):
        reader.read(data)

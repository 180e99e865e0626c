"""What a user reads when a row does not fit."""

from __future__ import annotations

import pytest

from ksql_lake.decode import RowDecoder
from ksql_lake.errors import DecodeError, Recovery, SchemaError
from ksql_lake.schema import parse_schema
from ksql_lake_tests.decode.writing import frame

RECREATED = (
    "Was the source recreated while it was read? Export again; if the error remains, leave the column out: "
    "name the wanted ones in the feed's `columns`."
)
NOT_TEXT = (
    "Arrow and Parquet text is UTF-8. Clean the value where it is produced, set `on_bad_text` to replace in "
    "the feed file (such characters become U+FFFD, and are counted), or leave the column out with `columns`."
)
LOST_DIGITS = (
    "Inside a STRUCT the server sends DECIMAL as DOUBLE, which keeps 15 digits, and here it could not be asked "
    "for the value by itself. Select it as a column of its own (`S`->`F`) in a derived stream and export that, "
    "or leave the column out: name the wanted ones in the feed's `columns`."
)
MIDNIGHT = (
    "ksqlDB takes 86400000 for 24:00:00, but the day of a Parquet TIME ends before. Correct the value where it "
    "is produced or in a derived stream, or leave the column out: name the wanted ones in the feed's `columns`."
)
NANOSECONDS = (
    "Are these nanoseconds? A TIMESTAMP counts milliseconds, and Parquet readers support the years -289000 to "
    "+293000. Divide the value where it is produced or in a derived stream, or leave the column out: name the "
    "wanted ones in the feed's `columns`."
)
FOREIGN = "This is not what a ksqlDB server sends: is there a proxy between, or was the response altered?"


def error(schema: str, *rows: bytes, first_row: int = 0) -> str:
    """Decode rows that cannot be decoded; give the error as it is printed."""
    with pytest.raises(DecodeError) as caught:
        RowDecoder(parse_schema(schema)).decode(b",\n".join(rows), count=len(rows), first_row=first_row)
    assert caught.value.recovery is Recovery.STOP
    return str(caught.value)


VALUES = [
    ("`A` BOOLEAN", "1", "column A: 1 is not a BOOLEAN"),
    ("`A` INTEGER", '"12"', 'column A: "12" is not an INTEGER'),
    ("`A` INTEGER", "true", "column A: true is not an INTEGER"),
    ("`A` INTEGER", "1.0", "column A: 1.0 is not an INTEGER"),
    ("`A` INTEGER", "2147483648", "column A: 2147483648 is out of range for an INTEGER"),
    ("`A` BIGINT", "9223372036854775808", "column A: 9223372036854775808 is out of range for a BIGINT"),
    ("`A` DOUBLE", '"1.5"', 'column A: "1.5" is not a DOUBLE'),
    ("`A` DOUBLE", "-1E400", "column A: -1E400 is out of range for a DOUBLE"),
    ("`A` DECIMAL(4, 2)", '"1.00"', 'column A: "1.00" is not a DECIMAL(4, 2)'),
    ("`A` DECIMAL(4, 2)", "1.005", "column A: 1.005 has more than the 2 decimals of DECIMAL(4, 2)"),
    ("`A` DECIMAL(4, 2)", "100.00", "column A: 100.00 has more digits than DECIMAL(4, 2) holds"),
    ("`A` DECIMAL(4, 2)", "1E99", "column A: 1E99 does not fit DECIMAL(4, 2)"),
    ("`A` STRING", "12", "column A: 12 is not a STRING"),
    ("`A` STRING", "[]", "column A: an array of 0 is not a STRING"),
    ("`A` BYTES", '"A-_="', 'column A: "A-_=" is not BYTES (base64, standard alphabet, padded)'),
    ("`A` BYTES", "{}", "column A: an object is not BYTES (base64 text)"),
    ("`A` TIME", '"24:00"', 'column A: "24:00" is not a TIME (HH:mm[:ss[.fff]])'),
    ("`A` DATE", '"2025-02-30"', 'column A: "2025-02-30" is not a DATE (yyyy-MM-dd)'),
    ("`A` DATE", '"+9999999-01-01"', 'column A: "+9999999-01-01" is out of range for a DATE (yyyy-MM-dd)'),
    (
        "`A` TIMESTAMP",
        '"2025-01-15 10:00:00.000"',
        "column A: \"2025-01-15 10:00:00.000\" is not a TIMESTAMP (yyyy-MM-dd'T'HH:mm:ss.SSS)",
    ),
    ("`A` ARRAY<INTEGER>", "1", "column A: 1 is not an ARRAY"),
    ("`A` ARRAY<INTEGER>", '[1,2,"x"]', 'column A[3]: "x" is not an INTEGER'),
    ("`A` MAP<STRING, INTEGER>", "[]", "column A: an array of 0 is not a MAP"),
    ("`A` MAP<STRING, INTEGER>", '{"a":1,"b":"x"}', 'column A["b"]: "x" is not an INTEGER'),
    ("`A` MAP<INTEGER, INTEGER>", '{"1":1,"x":1}', 'column A[key 2]: "x" is not an INTEGER'),
    ("`A` STRUCT<`B` INTEGER>", "1", "column A: 1 is not a STRUCT"),
    ("`A` STRUCT<`B` INTEGER>", "{}", "column A: an object has no field B"),
    (
        "`A` STRUCT<`B` INTEGER>",
        '{"B":1,"C":1}',
        'column A: an object has a field "C" that is not in the schema',
    ),
    ("`A` STRUCT<`D` DATE>", '{"D":"2025-01-15"}', 'column A.D: "2025-01-15" is not a DATE (days since 1970)'),
    (
        "`A` STRUCT<`M` MAP<INTEGER, STRING>>",
        '{"M":[[1,"a"],[null,"b"]]}',
        "column A.M: an array of 2 is not a MAP: the key of entry 2 is null",
    ),
    (
        "`A` STRUCT<`M` MAP<INTEGER, STRING>>",
        '{"M":{"1":"a"}}',
        "column A.M: an object is not a MAP (an array of pairs, as its key is not a STRING)",
    ),
    (
        "`A` STRUCT<`M` MAP<DATE, INTEGER>>",
        '{"M":[[1,2],[2,"x"]]}',
        'column A.M[entry 2]: "x" is not an INTEGER',
    ),
    (
        "`ITEMS` ARRAY<STRUCT<`PRICE` DOUBLE>>",
        '[null,{"PRICE":"x"}]',
        'column ITEMS[2].PRICE: "x" is not a DOUBLE',
    ),
]


@pytest.mark.parametrize(("schema", "value", "message"), VALUES)
def test_a_value_that_does_not_fit_is_named(schema: str, value: str, message: str) -> None:
    """The error names the row, the column down to the field, the value, and what to do."""
    assert error(schema, frame("null"), frame(value), first_row=10) == f"row 12, {message}\n{RECREATED}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (frame('"\\ud800"'), 'column A: "\\ud800" holds bytes or half a surrogate pair that are not text'),
        (
            frame("")[:-3] + b'"a\xffb"]}}',
            'column A: "a\\udcffb" holds bytes or half a surrogate pair that are not text',
        ),
    ],
)
def test_text_that_arrow_cannot_hold_is_named(row: bytes, message: str) -> None:
    """Half a surrogate pair and bytes that are not UTF-8 are found in their column and shown in ASCII."""
    assert error("`A` STRING", row) == f"row 1, {message}\n{NOT_TEXT}"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DECIMAL(20, 0)", "1.0E20"),
        ("DECIMAL(38, 10)", "1.0E28"),
        ("DECIMAL(18, 2)", "1.2345678901234568E15"),
        ("DECIMAL(38, 10)", "1234567.0"),
        ("DECIMAL(20, 0)", "1.0E15"),
        ("DECIMAL(4, 2)", "100.0"),
        ("DECIMAL(4, 2)", "1.005"),
        ("DECIMAL(38, 38)", "0.5"),
    ],
)
def test_a_decimal_that_a_struct_may_have_changed_is_refused(kind: str, value: str) -> None:
    """Where a double may have been another DECIMAL the value is named, and the way around it."""
    row = frame(f'{{"D":{value}}}')

    assert error(f"`S` STRUCT<`D` {kind}>", row) == (
        f"row 1, column S.D: {value} may have been another {kind}\n{LOST_DIGITS}"
    )


def test_the_end_of_the_day_is_no_time() -> None:
    """24:00:00, which ksqlDB takes and Parquet cannot hold, is named with what to do."""
    assert error("`A` STRUCT<`T` TIME>", frame('{"T":86400000}')) == (
        f"row 1, column A.T: 86400000 is out of range for a TIME (milliseconds of the day)\n{MIDNIGHT}"
    )


@pytest.mark.parametrize(
    ("schema", "value", "where"),
    [
        ("`A` STRUCT<`T` TIMESTAMP>", '{"T":1735689600000000000}', "A.T: 1735689600000000000"),
        ("`A` STRUCT<`T` TIMESTAMP>", '{"T":-9200000000000001}', "A.T: -9200000000000001"),
        ("`A` TIMESTAMP", '"146140482-04-24T15:36:27.904"', 'A: "146140482-04-24T15:36:27.904"'),
        ("`A` TIMESTAMP", '"292278994-08-17T07:12:55.807"', 'A: "292278994-08-17T07:12:55.807"'),
    ],
)
def test_a_number_of_nanoseconds_is_no_timestamp(schema: str, value: str, where: str) -> None:
    """What readers of Parquet could not bear is refused when it is read, by row, column and value."""
    kind = "milliseconds since 1970" if "STRUCT" in schema else "yyyy-MM-dd'T'HH:mm:ss.SSS"
    assert error(schema, frame("null"), frame(value)) == (
        f"row 2, column {where} is out of range for a TIMESTAMP ({kind})\n{NANOSECONDS}"
    )


LINES = {
    "too few values": (frame("1"), f"expected 2 values, one for each column, found 1\n{RECREATED}"),
    "too many values": (frame("1,2,3"), f"expected 2 values, one for each column, found 3\n{RECREATED}"),
    "comma": (frame("1,"), f"not JSON at character 22, near 'lumns\":[1,]}}}}'\n{FOREIGN}"),
    "cut": (frame("1,2")[:-2], f"not JSON at character 24, near 'mns\":[1,2]'\n{FOREIGN}"),
    "NaN": (frame("1,NaN"), f"not JSON: NaN is not a JSON number\n{FOREIGN}"),
    "deep": (frame("1," + "[" * 100_000), f"nested too deeply to be read\n{FOREIGN}"),
    "array": (b"[1,2]", f"not a row object, but '[1,2]'\n{FOREIGN}"),
    "null": (b'{"row":null}', f"not a row object, but '{{\"row\":null}}'\n{FOREIGN}"),
    "error": (b'{"errorMessage":{}}', f"not a row object, but '{{\"errorMessage\":{{}}}}'\n{FOREIGN}"),
    "tombstone": (
        b'{"row":{"columns":[1,2],"tombstone":true}}',
        f'the row object also holds "row.tombstone"\n{FOREIGN}',
    ),
    "row and error": (
        frame("1,2")[:-1] + b',"errorMessage":{}}',
        f'the row object also holds "errorMessage"\n{FOREIGN}',
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_row_is_named(name: str) -> None:
    """What is not a row of this schema at all is described by its number and its text."""
    row, message = LINES[name]

    assert error("`A` INTEGER, `B` INTEGER", frame("1,2"), row) == f"row 2: {message}"


def test_the_first_bad_row_and_its_first_bad_column_are_reported() -> None:
    """Of several faults the earliest row's leftmost column is the one that is named."""
    rows = [frame("1,1"), frame('"b","c"'), frame('"a",1'), b"no row at all"]

    assert error("`A` INTEGER, `B` INTEGER", *rows).startswith('row 2, column A: "b" is not an INTEGER\n')


def test_long_values_are_shortened() -> None:
    """A value of a million characters does not fill the screen."""
    assert error("`A` INTEGER", frame(f'"{"x" * 1_000_000}"')).startswith(
        f'row 1, column A: "{"x" * 38}… (1000002 characters) is not an INTEGER\n'
    )


def test_a_block_of_another_number_of_rows_is_a_defect() -> None:
    """A block that does not hold as many rows as announced is refused before any of it is used."""
    with pytest.raises(DecodeError) as caught:
        RowDecoder(parse_schema("`A` INTEGER")).decode(frame("1"), count=2, first_row=4)

    assert str(caught.value) == (
        "row 5: a block of 2 rows holds 1\n"
        "This is a defect of ksql-lake: please report it with the server's version."
    )


@pytest.mark.parametrize("key", ["ARRAY<INTEGER>", "MAP<STRING, STRING>", "STRUCT<`A` INTEGER>"])
def test_map_keys_that_cannot_be_read_back_are_refused_beforehand(key: str) -> None:
    """A MAP whose keys the server writes as Java's text for an object is refused with its column's name."""
    with pytest.raises(SchemaError) as caught:
        RowDecoder(parse_schema(f"`ID` INTEGER, `M` ARRAY<MAP<{key}, INTEGER>>"))

    assert str(caught.value) == (
        f"column M: the server writes the keys of MAP<{key}, INTEGER> in a form that cannot be read back\n"
        "Leave the column out: name the wanted ones in the feed's `columns`."
    )


@pytest.mark.parametrize(
    ("schema", "values", "told"),
    [
        ("`K` STRING KEY, `V` STRING", r'"a\ud800","b"', r'row 1, column K: "a\ud800" holds bytes or half a'),
        (
            "`K` STRING KEY, `M` MAP<STRING, INTEGER>",
            r'"a",{"\ud800":1,"\udc00":2}',
            "row 1, column M: an object",
        ),
    ],
)
def test_no_text_is_replaced_by_which_rows_or_entries_are_told_apart(
    schema: str, values: str, told: str
) -> None:
    """Two keys would become one, and a row or an entry would be lost without notice."""
    decoder = RowDecoder(parse_schema(schema), replace=True, identifying=("K",))

    with pytest.raises(DecodeError, match="replaces no text by which rows or entries are told apart") as caught:
        decoder.decode(frame(values), count=1, first_row=0)

    assert str(caught.value).startswith(told)

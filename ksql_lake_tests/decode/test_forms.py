"""Columns that travel wrapped or in parts arrive as what they are in the source."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

import pytest

from ksql_lake.decode import AnswerDecoder, RowDecoder
from ksql_lake.decode.encodings import PLAIN, form_of
from ksql_lake.errors import DecodeError, ProtocolError
from ksql_lake.export.statement import part_expression
from ksql_lake.schema import parse_schema, parse_type
from ksql_lake_tests.decode.comparing import described
from ksql_lake_tests.decode.writing import frame
from ksql_lake_tests.recordings import recorded

VALUES = "8.0.7-values"
MONEY = "STRUCT<`M` DECIMAL(18, 2)>"


def read(schema: str, rows: list[bytes], *columns: tuple[str, str]) -> list[dict[str, Any]]:
    """Decode rows of columns given by name and type."""
    forms = [form_of(parse_type(kind)) for _, kind in columns]
    decoder = AnswerDecoder(parse_schema(schema), [name for name, _ in columns], forms)
    batch = decoder.decode(b",\n".join(rows), count=len(rows), first_row=0)
    batch.validate(full=True)
    return list(batch.to_pylist())


def expressions(kind: str) -> list[str]:
    """Write what is asked for beside a column `C` of a type."""
    return [part_expression("C", path) for path in form_of(parse_type(kind)).parts]


def test_decimals_in_a_struct_arrive_as_they_were_produced() -> None:
    """The exact value beside the STRUCT takes the place of the double in it, on a real server's bytes."""
    schema, rows = recorded(VALUES, "values: decimal_struct2")
    kind = "DECIMAL(38, 10)"
    found = read(schema, rows, ("N", "INTEGER"), ("M", kind), ("ST", f"STRUCT<`M` {kind}>"))

    assert [row["ST"]["M"] for row in found] == [row["M"] for row in found]
    assert found[3]["ST"]["M"] == Decimal("9999999999999999999999999999.9999999999")
    assert found[2]["ST"]["M"] == Decimal("12345678901234567890.1234567891")


def test_decimals_in_structs_in_an_array_arrive_as_they_were_produced() -> None:
    """TRANSFORM brings one value for each element; a NULL element stays apart from one that holds NULL."""
    schema, rows = recorded(VALUES, "values: decimal_struct_cure")
    found = read(schema, rows, ("N", "INTEGER"), ("AA", f"ARRAY<{MONEY}>"))

    wanted = [{"M": Decimal("1234567890123456.78")}, {"M": Decimal("0.07")}, None, {"M": None}]
    assert [row["AA"] for row in found] == [wanted] * 9


def test_a_decimal_that_came_as_a_double_only_is_refused() -> None:
    """The same values without the exact ones beside them are not taken for what the double says."""
    schema, rows = recorded(VALUES, "values: decimal_struct")
    with pytest.raises(
        DecodeError, match=r"row 1, column AA\[1\].M: 1.2345678901234568E15 may have been another"
    ):
        RowDecoder(parse_schema(schema)).decode(b",\n".join(rows), count=len(rows), first_row=0)


def test_wrapped_times_keep_their_milliseconds() -> None:
    """TIME by itself, in an ARRAY and in a MAP, on a real server's bytes."""
    schema, rows = recorded(VALUES, "values: time_struct_cure")
    kinds = {"N": "INTEGER", "T": "TIME", "A": "ARRAY<TIME>", "M": "MAP<STRING, TIME>"}
    found = read(schema, rows, *kinds.items())

    moments = [time(0), time(0, 0, 1), time(0, 0, 1, 500_000), time(23, 59, 59, 999_000)]
    assert [row["T"] for row in found] == moments
    assert [row["A"] for row in found] == [[moment] for moment in moments]
    assert [row["M"] for row in found] == [[("k", moment)] for moment in moments]


def test_time_keys_of_one_second_stay_apart() -> None:
    """Four keys of a table, three of which a server prints alike, arrive as four."""
    schema, rows = recorded(VALUES, "values: time_key_table_cure")
    found = read(schema, rows, ("K", "TIME"), ("V", "INTEGER"))

    assert [row["K"] for row in found] == [
        time(0),
        time(0, 0, 1),
        time(0, 0, 1, 500_000),
        time(0, 0, 1, 999_000),
    ]
    assert parse_schema(schema).columns[0].key


def test_midnight_at_the_end_of_a_day_is_refused_by_the_columns_own_name() -> None:
    """24:00:00, which breaks an answer unless it is wrapped, is refused by row, column and value."""
    schema, rows = recorded(VALUES, "values: time_negative_struct")
    with pytest.raises(DecodeError, match="row 1, column T: 86400000 is out of range for a TIME"):
        read(schema, rows, ("N", "INTEGER"), ("T", "TIME"))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("INTEGER", []),
        ("DECIMAL(18, 2)", []),
        ("ARRAY<DECIMAL(18, 2)>", []),
        ("STRUCT<`a b` DECIMAL(18, 2)>", ["C->`a b`"]),
        ("STRUCT<`S` STRUCT<`M` DECIMAL(18, 2), `N` DECIMAL(4, 2)>>", ["C->`S`->`M`", "C->`S`->`N`"]),
        ("STRUCT<`A` ARRAY<DECIMAL(18, 2)>>", ["C->`A`"]),
        (f"ARRAY<{MONEY}>", ["TRANSFORM(C, X_1 => X_1->`M`)"]),
        (f"ARRAY<ARRAY<{MONEY}>>", ["TRANSFORM(C, X_1 => TRANSFORM(X_1, X_2 => X_2->`M`))"]),
        (f"MAP<STRING, {MONEY}>", ["MAP_KEYS(C)", "TRANSFORM(MAP_VALUES(C), X_1 => X_1->`M`)"]),
        ("STRUCT<`P` MAP<STRING, DECIMAL(4, 2)>>", ["MAP_KEYS(C->`P`)", "MAP_VALUES(C->`P`)"]),
        (
            f"ARRAY<STRUCT<`P` MAP<STRING, {MONEY}>>>",
            [
                "TRANSFORM(C, X_1 => MAP_KEYS(X_1->`P`))",
                "TRANSFORM(C, X_1 => TRANSFORM(MAP_VALUES(X_1->`P`), X_2 => X_2->`M`))",
            ],
        ),
        (f"MAP<INTEGER, {MONEY}>", []),
    ],
)
def test_every_shape_has_its_expressions(kind: str, wanted: list[str]) -> None:
    """Fields, elements and entries at any depth are asked for; a MAP without STRING keys cannot be."""
    assert expressions(kind) == wanted


def test_entries_of_maps_go_by_their_keys() -> None:
    """The exact values of a MAP may come in another order than the MAP itself."""
    schema = f"`C` MAP<STRING, {MONEY}>, `KEYS` ARRAY<STRING>, `VALUES` ARRAY<DECIMAL(18, 2)>"
    rows = [
        frame('{"a":{"M":1.2345678901234568E15},"b":{"M":2.5},"c":null,"d":{"M":null}},["d","c","b","a"],'
              "[null,null,2.50,1234567890123456.78]"),
        frame("null,null,null"),
        frame("{},[],[]"),
        frame('{"z":{"M":7.0}},["z"],[7.00]'),
    ]  # fmt: skip
    found = read(schema, rows, ("C", f"MAP<STRING, {MONEY}>"))

    assert [row["C"] for row in found] == [
        [
            ("a", {"M": Decimal("1234567890123456.78")}),
            ("b", {"M": Decimal("2.50")}),
            ("c", None),
            ("d", {"M": None}),
        ],
        None,
        [],
        [("z", {"M": Decimal("7.00")})],
    ]


def test_a_missing_struct_is_not_a_struct_of_nothing() -> None:
    """NULL, a STRUCT of NULLs and one without its exact value beside stay three things."""
    rows = [frame("null,null"), frame('{"M":null},null'), frame('{"M":1.25},null'), frame('{"M":1.25},1.25')]
    found = read(f"`C` {MONEY}, `EXACT_1` DECIMAL(18, 2)", rows, ("C", MONEY))

    assert [row["C"] for row in found] == [None, {"M": None}, {"M": Decimal("1.25")}, {"M": Decimal("1.25")}]


def test_a_double_without_an_exact_value_is_taken_only_if_it_is_certain() -> None:
    """Such as a deleted key of a table: 15 digits come as they are, more are refused by row and column."""
    schema = f"`C` ARRAY<{MONEY}>, `EXACT_1` ARRAY<DECIMAL(18, 2)>"
    rows = [frame('[{"M":9999999999999.99}],null'), frame('[{"M":1.0},{"M":1.2345678901234568E15}],null')]
    columns = ("C", f"ARRAY<{MONEY}>")

    assert read(schema, rows[:1], columns) == [{"C": [{"M": Decimal("9999999999999.99")}]}]
    with pytest.raises(DecodeError, match=r"row 2, column C\[\].M: 1234567890123456.8 may have been another"):
        read(schema, rows, columns)


def test_an_exact_value_of_another_row_is_found_out() -> None:
    """What comes beside must round to the double whose place it takes."""
    with pytest.raises(DecodeError, match=r"row 2, column C\.M: 2\.50 came beside a value of 1\.5"):
        read(
            f"`C` {MONEY}, `EXACT_1` DECIMAL(18, 2)",
            [frame('{"M":2.5},2.50'), frame('{"M":1.5},2.50')],
            ("C", MONEY),
        )


def test_parts_of_a_slice_go_to_their_own_rows() -> None:
    """Blocks of many rows, NULLs among them, are put together like single rows."""
    kind = f"ARRAY<{MONEY}>"
    values = [None if n % 5 == 0 else [None if n % 3 == 0 else n] * (n % 4) for n in range(500)]
    rows = []
    for value in values:
        doubles = (
            "null" if value is None else ",".join("null" if n is None else f'{{"M":{n}.25}}' for n in value)
        )
        exact = "null" if value is None else ",".join("null" if n is None else f"{n}.25" for n in value)
        rows.append(frame("null,null" if value is None else f"[{doubles}],[{exact}]"))
    found = read(f"`C` {kind}, `E` ARRAY<DECIMAL(18, 2)>", rows, ("C", kind))

    wanted = [
        None if value is None else [None if n is None else {"M": Decimal(f"{n}.25")} for n in value]
        for value in values
    ]
    assert [row["C"] for row in found] == wanted


def test_an_answer_of_other_columns_is_refused() -> None:
    """A column that is missing, of another type, or not wrapped although asked for, is no answer."""
    time_form = form_of(parse_type("TIME"))
    for schema in (
        "`T` TIME",
        "`U` STRUCT<`V` TIME>",
        "`T` STRUCT<`V` DATE>",
        "`T` STRUCT<`V` TIME>, `X` INTEGER",
    ):
        with pytest.raises(ProtocolError):
            AnswerDecoder(parse_schema(schema), ["T"], [time_form])


def test_moments_beyond_what_readers_bear_are_refused() -> None:
    """A window bound in nanoseconds is named instead of landing in a file that no reader opens."""
    decoder = AnswerDecoder(parse_schema("`WINDOWEND` BIGINT"), ["WINDOWEND"], [PLAIN], moments=["WINDOWEND"])
    with pytest.raises(DecodeError, match="row 2, column WINDOWEND: 1735689600000000000 is out of range"):
        decoder.decode(frame("1") + b",\n" + frame("1735689600000000000"), count=2, first_row=0)


def test_the_form_of_a_reading_has_a_name() -> None:
    """What a later release may read more exactly can be kept with the rows."""
    kinds = {"TIME": "wrapped", MONEY: "parts beside", "INTEGER": "plain", "STRUCT<`T` TIME>": "plain"}
    assert {kind: form_of(parse_type(kind)).reading.value for kind in kinds} == kinds
    assert form_of(parse_type("TIME"), wrappable=False).reading.value == "whole seconds"


def test_wrapped_columns_beside_plain_ones_are_read_alike_by_all_readers() -> None:
    """Large blocks of plain and wrapped values, NULLs of both kinds among them, come out as small ones do."""
    schema = parse_schema(
        "`T` STRUCT<`V` TIME>, `N` DECIMAL(9, 2), `S` STRING, `AT` STRUCT<`V` TIMESTAMP>, `D` STRUCT<`V` DATE>"
    )
    decoder = RowDecoder(schema)
    values = ["null", '{"V":null}', '{"V":0}', '{"V":86399999}']
    rows = [
        frame(
            f'{values[n % 4]},{n}.25,"say \\"{n}\\", {{}}",{{"V":{-62135596800001 - n}}},{values[n // 4 % 3]}'
        )
        for n in range(4000)
    ]
    data = b",\n".join(rows)

    placed = decoder._placed.read(data)
    assert described(placed) == described(decoder._exact.read(rows, first_row=0))
    assert described(placed) == described(decoder._columns.read(rows))


@pytest.mark.parametrize(
    "value",
    [
        "1234",
        '"abc"',
        "true",
        '{"W":1}',
        '{"V" 1}',
        '{"V":1',
        '{"V":1}}',
        '{"V":"1"}',
        '{"V":}',
        "{}",
        '{"V":1,"V":2}',
    ],
)
def test_a_broken_wrapper_is_no_value(value: str) -> None:
    """Bytes that only look like a wrapped value are left to the reader that refuses them."""
    reader = RowDecoder(parse_schema("`A` INTEGER, `T` STRUCT<`V` TIME>"))._placed
    with pytest.raises(ValueError):  # noqa: PT011 - the reader gives no reasons
        reader.read(b",\n".join([frame('1,{"V":1}'), frame(f"1,{value}"), frame('1,{"V":1}')]))

"""The decoder's choice of readers and its handling of blocks of any size."""

from __future__ import annotations

import gc
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ksql_lake.decode import RowDecoder, decoder
from ksql_lake.errors import DecodeError
from ksql_lake.schema import parse_schema
from ksql_lake_tests.decode.comparing import described
from ksql_lake_tests.decode.writing import frame

CASES = Path(__file__).parent.parent / "data" / "ksqldb-framing-cases.jsonl"
NESTED = parse_schema(
    "`ID` BIGINT, `ITEMS` ARRAY<STRUCT<`SKU` STRING, `PRICE` DECIMAL(10, 2), `AT` TIMESTAMP>>, "
    "`TAGS` MAP<STRING, STRING>"
)
FLAT = parse_schema("`ID` BIGINT, `NAME` STRING, `PRICE` DECIMAL(10, 2)")


def flat_rows(count: int) -> list[bytes]:
    """Rows for FLAT."""
    return [frame(f'{number},"name {number}",{number}.25') for number in range(count)]


def nested_rows(count: int) -> list[bytes]:
    """Rows for NESTED."""
    item = '{"SKU":"s","PRICE":10.0,"AT":1736935200000}'
    return [frame(f'{number},[{item},{item}],{{"k":"v{number}"}}') for number in range(count)]


@pytest.mark.parametrize("separator", [b",\n", b"\n"])
def test_blocks_longer_than_a_piece_come_back_whole(separator: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is cut into pieces inside, and comes back as one batch with every row in order."""
    monkeypatch.setattr(decoder, "PLACED_PIECE", 1000)
    monkeypatch.setattr(decoder, "COLUMN_PIECE", 300)
    monkeypatch.setattr(decoder, "PLACED_LEAST", 0)
    for schema, rows in ((FLAT, flat_rows(500)), (NESTED, nested_rows(500))):
        batch = RowDecoder(schema).decode(separator.join(rows), count=500, first_row=0)

        assert batch.column("ID").to_pylist() == list(range(500))
        assert described(batch) == described(RowDecoder(schema)._exact.read(rows, first_row=0))


@pytest.mark.parametrize("bad", [0, 1, 250, 499])
def test_the_row_number_counts_over_pieces(bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bad row has its number in the whole response, whichever piece it is in."""
    monkeypatch.setattr(decoder, "PLACED_PIECE", 1000)
    monkeypatch.setattr(decoder, "COLUMN_PIECE", 300)
    monkeypatch.setattr(decoder, "PLACED_LEAST", 0)
    for schema, rows in ((FLAT, flat_rows(500)), (NESTED, nested_rows(500))):
        rows[bad] = rows[bad].replace(b"[", b'["', 1).replace(b",", b'",', 1)
        rows[499] = b"no row"

        with pytest.raises(DecodeError) as caught:
            RowDecoder(schema).decode(b",\n".join(rows), count=500, first_row=1000)

        assert caught.value.where["row"] == 1001 + bad


def test_the_reader_of_places_rests_after_doubts_and_comes_back() -> None:
    """Blocks it cannot vouch for make that reader pause for ever more blocks; the results stay the same."""
    decoder = RowDecoder(parse_schema("`S` STRING"))
    plain = b",\n".join([frame('"a"')] * 20_000)
    odd = b",\n".join([frame('"\\u0061"')] * 20_000)
    rests = []
    for data in (odd, odd, odd, odd, *[plain] * 10):
        assert decoder.decode(data, count=20_000, first_row=0).column(0).to_pylist() == ["a"] * 20_000
        rests.append(decoder._resting)

    assert rests[0] == 1
    assert max(rests) <= 64
    assert rests[-1] == 0
    assert decoder._doubts == 0


def test_rows_beside_other_keys_are_read() -> None:
    """`sourceHost`, keys that are null and spaces do not make a row foreign."""
    rows = [
        b'{"row":{"columns":[1,"a",1.00]},"sourceHost":"node1:8088"}',
        b'{"row":{"columns":[2,"b",2.00]},"errorMessage":null,"finalMessage":null}',
        b'{"row":{"columns":[3,"c",3.00],"tombstone":false}}',
        b' { "row" : { "columns" : [ 4 , "d" , 4.00 ] } } ',
    ]

    batch = RowDecoder(FLAT).decode(b",\n".join(rows), count=4, first_row=0)

    assert batch.column("ID").to_pylist() == [1, 2, 3, 4]


def test_the_recorded_rendering_of_every_type_is_read() -> None:
    """The row that was built from the server's own writers, with every type in it, gives its values."""
    cases = map(json.loads, CASES.read_text().splitlines())
    (case,) = [case for case in cases if case["name"] == "value renderings"]
    header, row = json.loads(case["body"])[0], case["body"].split(",\n")[1].removesuffix("]")
    decoder = RowDecoder(parse_schema(header["header"]["schema"]))

    values: dict[str, Any] = decoder.decode(row.encode(), count=1, first_row=0).to_pylist()[0]

    assert values["L"] == 9223372036854775807
    assert values["E"] == Decimal("12345678901234567890.1234567890")
    assert values["Y"] == b"\xfb\xff\x01\x02"


def test_a_name_that_only_the_exact_reader_knows_is_read() -> None:
    """Field names with quotation marks, backslashes and control characters decode like any other."""
    schema = parse_schema('`S` STRUCT<`a"b\\c\n` INTEGER>')

    batch = RowDecoder(schema).decode(frame('{"a\\"b\\\\c\\n":1}'), count=1, first_row=0)

    assert batch.column(0).to_pylist() == [{'a"b\\c\n': 1}]


def test_of_equal_keys_the_last_counts_and_pairs_are_all_kept() -> None:
    """A JSON object with a key twice keeps the last; a MAP that comes as pairs keeps every pair."""
    schema = parse_schema("`M` MAP<STRING, INTEGER>, `S` STRUCT<`P` MAP<INTEGER, INTEGER>>")
    rows = [frame('{"a":1,"b":2,"a":3},{"P":[[1,1],[1,2]]}')]

    for batch in (
        RowDecoder(schema).decode(rows[0], count=1, first_row=0),
        RowDecoder(schema)._exact.read(rows, first_row=0),
    ):
        assert batch.to_pylist() == [{"M": [("a", 3), ("b", 2)], "S": {"P": [(1, 1), (1, 2)]}}]


def test_the_deepest_type_the_schema_allows_is_read() -> None:
    """Types nested as deep as a schema may nest decode, and their error names the whole path."""
    depth = 60
    schema = parse_schema("`A` " + "ARRAY<" * depth + "INTEGER" + ">" * depth)
    decoder = RowDecoder(schema)

    batch = decoder.decode(frame("[" * depth + "1" + "]" * depth), count=1, first_row=0)
    with pytest.raises(DecodeError) as caught:
        decoder.decode(frame("[" * depth + '"x"' + "]" * depth), count=1, first_row=0)

    assert str(batch.column(0)[0].as_py()) == "[" * depth + "1" + "]" * depth
    assert caught.value.where["column"] == "A" + "[1]" * depth


def test_the_collector_runs_again_after_any_block() -> None:
    """Neither a good nor a bad block leaves Python's garbage collector switched off."""
    decoder = RowDecoder(NESTED)
    decoder.decode(b",\n".join(nested_rows(3)), count=3, first_row=0)
    assert gc.isenabled()

    with pytest.raises(DecodeError):
        decoder.decode(frame("1"), count=1, first_row=0)
    assert gc.isenabled()


def test_columns_of_nested_values_are_read_by_columns() -> None:
    """Ordinary nested rows, nulls at every level among them, need no reading row by row."""
    rows = [*nested_rows(3), frame("null,null,null"), frame("1,[],{}"), frame('1,[null],{"a":null}')]
    decoder = RowDecoder(NESTED)

    assert described(decoder._columns.read(rows)) == described(decoder._exact.read(rows, first_row=0))


def test_random_cuts_of_a_response_give_the_same_rows() -> None:
    """The same response in blocks of any size is the same table."""
    rows = flat_rows(3000)
    whole = RowDecoder(FLAT).decode(b",\n".join(rows), count=3000, first_row=0)
    source = random.Random(7)
    for _ in range(10):
        decoder, first, batches = RowDecoder(FLAT), 0, []
        while first < len(rows):
            block = rows[first : first + source.randrange(1, 1500)]
            batches.append(decoder.decode(b",\n".join(block), count=len(block), first_row=first))
            first += len(block)

        assert pa.concat_batches(batches).equals(whole)

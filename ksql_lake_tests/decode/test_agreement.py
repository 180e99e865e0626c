"""Every way of reading gives one outcome, however rows are tampered with and cut into blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.decode import RowDecoder
from ksql_lake.schema import Column, KsqlType, Schema, parse_type
from ksql_lake_tests.decode.comparing import described, outcome
from ksql_lake_tests.decode.strategies import (
    HOSTILE_TOKENS,
    cuts,
    flat_types,
    hostile_blocks,
    near_misses,
    types,
)
from ksql_lake_tests.decode.writing import frame
from ksql_lake_tests.quick import examples

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def lines_of(data: bytes) -> list[bytes]:
    """Return the rows of a block without the commas between them."""
    *lines, last = data.split(b"\n")
    return [*(line.removesuffix(b",") for line in lines), last]


def unless_it_steps_aside(read: Callable[[], pa.RecordBatch]) -> str | None:
    """Describe what one of the faster readers returns; None where it does not vouch for the block."""
    try:
        batch = read()
    except (ValueError, OverflowError, RecursionError):
        return None
    return described(batch)


def check(schema: Schema, data: bytes) -> str:
    """Read a block in every way there is; give the one outcome."""
    decoder = RowDecoder(schema)
    lines = lines_of(data)
    exact = outcome(lambda: decoder._exact.read(lines, first_row=0))
    assert outcome(lambda: decoder.decode(data, count=len(lines), first_row=0)) == exact
    assert unless_it_steps_aside(lambda: decoder._columns.read(lines)) in {None, exact}
    assert unless_it_steps_aside(lambda: decoder._placed.read(data)) in {None, exact}
    breaks = proven_breaks(lines)
    if breaks is not None:
        assert unless_it_steps_aside(lambda: decoder._placed.read(data, breaks)) in {None, exact}
        assert unless_it_steps_aside(lambda: decoder._placed.read(memoryview(data), breaks)) in {None, exact}
    return exact


def proven_breaks(lines: list[bytes]) -> npt.NDArray[np.int64] | None:
    """Find the newlines between rows if all are in the plain frame; so does the parser of responses."""
    framed = all(line.startswith(b'{"row":{"columns":[') and line.endswith(b"]}}") for line in lines)
    if not framed or any(code < ord(" ") for line in lines for code in line):
        return None
    return np.cumsum([len(line) + len(b",\n") for line in lines[:-1]], dtype=np.int64) - 1


def in_blocks(schema: Schema, blocks: list[list[bytes]]) -> str:
    """Decode a response block by block, the rows numbered on."""
    decoder = RowDecoder(schema)
    first = 0

    def read() -> pa.RecordBatch:
        nonlocal first
        batches = []
        for block in blocks:
            batches.append(decoder.decode(b",\n".join(block), count=len(block), first_row=first))
            first += len(block)
        return pa.concat_batches(batches)

    return outcome(read)


@pytest.mark.slow
@settings(max_examples=examples(900), deadline=None, suppress_health_check=SLOW)
@given(block=hostile_blocks(flat_types), data=st.data())
def test_flat_rows_read_alike(block: tuple[Schema, bytes], data: st.DataObject) -> None:
    """Rows without nesting, tampered with, give one outcome from all three readers and from any blocks."""
    schema, text = block

    assert in_blocks(schema, data.draw(st.composite(cuts)(lines_of(text)))) == check(schema, text)


@pytest.mark.slow
@settings(max_examples=examples(600), deadline=None, suppress_health_check=SLOW)
@given(block=hostile_blocks(types), data=st.data())
def test_nested_rows_read_alike(block: tuple[Schema, bytes], data: st.DataObject) -> None:
    """Rows with nesting, tampered with, give one outcome from both readers and from any blocks."""
    schema, text = block

    assert in_blocks(schema, data.draw(st.composite(cuts)(lines_of(text)))) == check(schema, text)


@pytest.mark.slow
@settings(max_examples=examples(1000), deadline=None)
@given(block=near_misses())
def test_near_misses_read_alike(block: tuple[Schema, bytes]) -> None:
    """A number or a time that is nearly in its form has one outcome from all three readers."""
    check(*block)


KINDS = [
    *("BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "STRING", "BYTES", "TIME", "DATE", "TIMESTAMP"),
    *("DECIMAL(4, 2)", "DECIMAL(38, 0)", "DECIMAL(38, 38)", "ARRAY<STRING>", "ARRAY<DECIMAL(4, 2)>"),
    *("MAP<STRING, INTEGER>", "MAP<INTEGER, DOUBLE>", "MAP<DOUBLE, STRING>", "STRUCT<`a` INTEGER>"),
    *("STRUCT<`a` DECIMAL(4, 2), `b` DATE>", "STRUCT<`a` MAP<INTEGER, TIME>>", "ARRAY<STRUCT<`a` TIMESTAMP>>"),
]


@pytest.mark.slow
@pytest.mark.parametrize("text", KINDS)
def test_every_hostile_token_reads_alike_in_every_type(text: str) -> None:
    """Each token of the corpus, alone, between values and swapped with another's place, has one outcome."""
    kind: KsqlType = parse_type(text)
    alone = Schema((Column("V", kind),))
    between = Schema((Column("A", parse_type("STRING")), Column("V", kind), Column("B", parse_type("INTEGER"))))
    for token in HOSTILE_TOKENS:
        check(alone, frame(token))
        check(alone, b",\n".join([frame("null"), frame(token), frame("null")]))
        check(between, frame(f'"a",{token},1'))
        check(between, frame(f'12,{token},"12"'))

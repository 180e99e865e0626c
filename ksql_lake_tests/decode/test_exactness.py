"""What the server writes comes back as exactly the value it stands for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.decode import RowDecoder
from ksql_lake.schema import Schema
from ksql_lake_tests.decode.comparing import described, in_milliseconds, with_leaves
from ksql_lake_tests.decode.strategies import flat_types, tables, types
from ksql_lake_tests.decode.writing import write_rows
from ksql_lake_tests.quick import examples


def expected(decoder: RowDecoder, rows: list[list[Any]]) -> str:
    """Describe the batch that Arrow itself makes of the values."""
    schema = decoder.arrow_schema
    arrays = [
        pa.array([row[n] for row in rows], with_leaves(field.type, in_milliseconds)).cast(field.type)
        for n, field in enumerate(schema)
    ]
    return described(pa.RecordBatch.from_arrays(arrays, schema=schema))


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables(types))
def test_every_value_of_every_type_comes_back(table: tuple[Schema, list[list[Any]]]) -> None:
    """Any value, nested to any depth, decodes to what Arrow makes of it, by the rows and by the columns."""
    schema, rows = table
    decoder = RowDecoder(schema)
    lines = write_rows(schema, rows)

    assert described(decoder._exact.read(lines, first_row=0)) == expected(decoder, rows)
    assert described(decoder.decode(b",\n".join(lines), count=len(lines), first_row=0)) == expected(
        decoder, rows
    )


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(table=tables(flat_types, most=6))
def test_every_flat_value_comes_back(table: tuple[Schema, list[list[Any]]]) -> None:
    """Any row without nesting decodes to what Arrow makes of it, whichever way it is read."""
    schema, rows = table
    decoder = RowDecoder(schema)
    lines = write_rows(schema, rows)

    assert described(decoder.decode(b",\n".join(lines), count=len(lines), first_row=0)) == expected(
        decoder, rows
    )


@settings(max_examples=60, deadline=None)
@given(table=tables(types), nulls=st.integers(1, 3))
def test_columns_without_values_keep_their_type(table: tuple[Schema, list[list[Any]]], nulls: int) -> None:
    """A column of nulls, and a block of no rows, have the types of the schema."""
    schema, _ = table
    decoder = RowDecoder(schema)
    rows = [[None] * len(schema)] * nulls
    data = b",\n".join(write_rows(schema, rows))

    assert described(decoder.decode(data, count=nulls, first_row=0)) == expected(decoder, rows)
    assert described(decoder.decode(b"", count=0, first_row=7)) == expected(decoder, [])

"""Columns of base64 texts against one value at a time."""

from __future__ import annotations

import base64

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.decode.literals import from_base64
from ksql_lake.decode.text_columns import binaries

TAMPERED = st.text("AQZgw+/=-_ \n é", max_size=9)
WRITTEN = st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())


@settings(deadline=None)
@given(values=st.lists(st.none() | WRITTEN, max_size=12), skipped=st.integers(0, 3))
def test_what_a_server_writes_is_read_exactly(values: list[str | None], skipped: int) -> None:
    """Every column of written values comes out as its bytes, also from the middle of an array."""
    array = pa.array([*["QQ=="] * skipped, *values], pa.string()).slice(skipped)

    decoded = binaries(array)
    decoded.validate(full=True)

    assert decoded.to_pylist() == [None if value is None else base64.b64decode(value) for value in values]


@settings(deadline=None)
@given(values=st.lists(st.none() | WRITTEN | TAMPERED, min_size=1, max_size=6))
def test_it_accepts_what_every_single_value_passes(values: list[str | None]) -> None:
    """A column is decoded where each of its values is canonical, and refused as a whole where one is not."""
    array = pa.array(values, pa.string())
    try:
        expected = [None if value is None else from_base64(value) for value in values]
    except ValueError:
        with pytest.raises(ValueError, match=r"\S"):
            binaries(array)
    else:
        assert binaries(array).to_pylist() == expected

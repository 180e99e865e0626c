"""Rows of every type for property tests, and what it means that two of them are the same."""

from __future__ import annotations

import math
import struct
from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from ksql_lake.schema import parse_schema

EVERYTHING = parse_schema(
    "`ROWTIME` TIMESTAMP, `B` BOOLEAN, `I` INTEGER, `D` DOUBLE, `E` DECIMAL(20, 4), `S` STRING, `Y` BYTES, "
    "`L` ARRAY<DOUBLE>, `M` MAP<STRING, DOUBLE>, `N` STRUCT<`m` MAP<STRING, ARRAY<STRING>>, `d` DOUBLE>, "
    "`part` STRING, `row` BIGINT"
)

doubles = st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, None])
texts = st.sampled_from(["", "a", "A", "null", "it's", 'q"q', None])
maps = st.dictionaries(st.sampled_from("abc"), doubles, max_size=3)
rows = st.fixed_dictionaries(
    {
        "ROWTIME": st.integers(0, 2),
        "B": st.sampled_from([True, False, None]),
        "I": st.sampled_from([0, 1, None]),
        "D": doubles,
        "E": st.sampled_from([None, Decimal("1.5000"), Decimal("-7000000000000000.0001")]),
        "S": texts,
        "Y": st.sampled_from([b"", b"\x00", None]),
        "L": st.none() | st.lists(doubles, max_size=2),
        "M": st.none() | maps.map(lambda value: list(value.items())),
        "N": st.none()
        | st.fixed_dictionaries(
            {
                "m": st.dictionaries(
                    st.sampled_from("ab"), st.none() | st.lists(texts, max_size=2), max_size=2
                ).map(lambda value: list(value.items())),
                "d": doubles,
            }
        ),
        "part": texts,
        "row": st.sampled_from([1, 2, None]),
    }
)


def canonical(value: Any) -> Any:
    """A value as the design wants it compared: NaN equals NaN, -0.0 differs from 0.0, MAPs have no order."""
    if isinstance(value, float):
        return ("nan",) if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, dict):
        return tuple(sorted((name, canonical(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return ("map", *sorted((key, repr(canonical(inner))) for key, inner in value))
        return ("list", *(canonical(inner) for inner in value))
    return value


def multiset(listed: list[dict[str, Any]]) -> Counter[str]:
    """Rows with their multiplicity."""
    return Counter(repr(canonical(row)) for row in listed)

"""Arrow values as JSON: nothing is lost, whatever the type, the nulls and the slice."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from ksql_lake.query.diff_documents import json_values
from ksql_lake.schema import arrow_type, parse_type

LONG = "-1234567890123456789012345678.0000000001"


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("BOOLEAN", True, True),
        ("BIGINT", 2**63 - 1, 2**63 - 1),
        ("DOUBLE", math.nan, "NaN"),
        ("DOUBLE", -math.inf, "-Infinity"),
        ("DOUBLE", 0.1, 0.1),
        ("DECIMAL(38, 10)", Decimal(LONG), LONG),
        ("DECIMAL(20, 12)", Decimal("0.000000000001"), "0.000000000001"),
        ("STRING", "ü\n", "ü\n"),
        ("BYTES", b"\x00\xff", "AP8="),
        ("TIME", time(23, 59, 59, 1000), "23:59:59.001"),
        ("DATE", date(1, 1, 1), "0001-01-01"),
        ("TIMESTAMP", datetime(2025, 1, 15, 10, tzinfo=UTC), "2025-01-15T10:00:00.000Z"),
        ("TIMESTAMP", 253402300800000, "10000-01-01T00:00:00.000Z"),
        ("ARRAY<DOUBLE>", [math.inf, None], ["Infinity", None]),
        ("ARRAY<DOUBLE>", [], []),
        ("MAP<STRING, BYTES>", [("a", b"\x00"), ("b", None)], {"a": "AA==", "b": None}),
        ("MAP<INTEGER, STRING>", [(1, "x")], {"1": "x"}),
        ("STRUCT<`a` ARRAY<DATE>>", {"a": [date(2025, 1, 1)]}, {"a": ["2025-01-01"]}),
        ("STRUCT<`a` BIGINT, `b` STRING>", {"a": None, "b": "x"}, {"a": None, "b": "x"}),
    ],
)
def test_each_type_is_told_exactly(kind: str, value: Any, told: Any) -> None:
    """Every type, beside NULLs and inside a slice, becomes what the documentation says."""
    array = pa.array([None, value, value, None], arrow_type(parse_type(kind)))

    assert json_values(array) == [None, told, told, None]
    assert json_values(array.slice(1, 2)) == [told, told]
    json.dumps(json_values(array), allow_nan=False)

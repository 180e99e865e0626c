"""Lakes with every type, evolved columns and several versions, the same for every engine."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import Row

FIRST = parse_schema(
    "`ROWTIME` TIMESTAMP, `B` BOOLEAN, `I` INTEGER, `L` BIGINT, `D` DOUBLE, `M` DECIMAL(20, 4), `S` STRING, "
    "`Y` BYTES, `DAY_ON` DATE, `AT` TIME, `WHEN` TIMESTAMP, `A` ARRAY<BIGINT>, `P` MAP<STRING, DECIMAL(9, 2)>, "
    "`N` STRUCT<`x` INTEGER, `inner` STRUCT<`s` STRING>>, `SS` ARRAY<STRUCT<`sku` STRING, `n` INTEGER>>"
)
"""Every type."""

SECOND = parse_schema(
    FIRST.text.replace("`I` INTEGER", "`I` BIGINT")
    .replace("DECIMAL(20, 4)", "DECIMAL(30, 4)")
    .replace("`x` INTEGER, ", "`x` BIGINT, `y` STRING, ")
    .replace("`s` STRING>", "`s` STRING, `t` DOUBLE>")
    .replace("`n` INTEGER", "`n` BIGINT, `note` STRING")
    .replace(", `Y` BYTES", "")
    + ", `ADDED` STRING"
)
"""The same later: wider numbers, a column more and one less, more fields inside STRUCTs."""

BIG = 2**53 + 1
"""The smallest whole number that a double cannot hold."""


def event(number: int, *, day: int) -> Row:
    """A row of the first schema; every fourth has nothing but its time."""
    at = datetime(2025, 1, 15, tzinfo=UTC) + timedelta(days=day, seconds=number, milliseconds=number)
    if number % 4 == 3:
        return {"ROWTIME": at} | {name: None for name in FIRST.names if name != "ROWTIME"}
    return {
        "ROWTIME": at,
        "B": number % 2 == 0,
        "I": number,
        "L": BIG + number,
        "D": number + 0.1,
        "M": Decimal(f"{BIG + number}.0001"),
        "S": f"n\u00b0 {number}, \u201cquoted\u201d",
        "Y": bytes([0, 255, number]),
        "DAY_ON": date(1969, 12, 31) + timedelta(days=number),
        "AT": time(23, 59, 59, number * 1000),
        "WHEN": datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC) + timedelta(milliseconds=number),
        "A": [BIG, None, number],
        "P": [("a", Decimal("1.10")), ("b", None)],
        "N": {"x": number, "inner": {"s": "deep"}},
        "SS": [{"sku": "k", "n": number}, None],
    }


def later_event(number: int, *, day: int) -> Row:
    """A row of the second schema."""
    row = event(number, day=day)
    row.pop("Y")
    row["ADDED"] = None
    if row["S"] is not None:
        row |= {
            "I": BIG + number,
            "M": Decimal("9" * 26 + ".0001"),
            "N": {"x": BIG, "y": "new", "inner": {"s": "deep", "t": 0.5}},
            "SS": [{"sku": "k", "n": BIG, "note": "new"}],
            "ADDED": "new",
        }
    return row

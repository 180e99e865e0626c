"""Lakes with every type, evolved columns and several versions, the same for every engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import Row, land_rows, stream_feed, table_feed

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


@dataclass(frozen=True)
class EveryType:
    """A lake with a stream `events` whose columns changed, and a table `users` with several versions."""

    root: Path

    @property
    def lake(self) -> Path:
        """The lake's folder."""
        return self.root / "data_lake"

    @property
    def feeds(self) -> Path:
        """The folder of the feed files."""
        return self.root / "feeds"

    @classmethod
    def make(cls, root: Path) -> EveryType:
        """Land days 0 and 1 with the first columns, days 1, 2 and 20 with the second, and five versions."""
        made = cls(root)
        lake, stream, table = Lake(made.lake), stream_feed(), table_feed(retention=3)
        for feed in (stream, table):
            FeedStore(made.feeds).add(feed)
        early = [event(number, day=day) for day in (0, 1) for number in range(8)]
        land_rows(lake, stream, early, schema=FIRST, days=30)
        late = [later_event(number, day=day) for day in (1, 2, 20) for number in range(8, 16)]
        land_rows(lake, stream, late, schema=SECOND, days=30)
        for version in range(1, 6):
            users = [{"ID": BIG + number, "NAME": f"v{version}"} for number in range(version)]
            land_rows(lake, table, users)
        lake.feed(table).apply_retention()
        return made


ROWS_BY_DAY = {(2025, 1, 15): 8, (2025, 1, 16): 16, (2025, 1, 17): 8, (2025, 2, 4): 8}
"""How many rows the stream holds."""


def plain(value: Any) -> Any:
    """Return a value in the one form in which the engines' answers are compared."""
    if isinstance(value, datetime):
        # Without a zone it is Spark's, which speaks the local time of the session: UTC.
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, bytearray | bytes):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def comparable(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return rows as sorted texts in which any difference shows."""
    return sorted(repr(sorted(plain(row).items())) for row in rows)


def where_of(lake: Lake) -> dict[str, Any]:
    """Where a test's lake and feeds are."""
    return {"root": lake.root, "feeds": Path(lake.root).parent / "feeds"}

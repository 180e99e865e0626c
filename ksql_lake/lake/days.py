"""Calendar days of a time zone, exact at clock changes. Pure."""

# A day runs from local midnight to local midnight, so it may have 23 or 25 hours.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ksql_lake.errors import ConfigError

UNITS: Mapping[str, tuple[int, int]] = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
"""Unit of an event time -> the factor and the divisor that turn its numbers into milliseconds."""


def in_unit(milliseconds: int, unit: str) -> int:
    """Return the smallest number of a unit that is not before an instant in epoch milliseconds."""
    times, parts = UNITS[unit]
    return -(-milliseconds * parts // times)


def day_start(day: date, zone: ZoneInfo) -> int:
    """Return the epoch milliseconds at which a day begins in a zone.

    Where the clock skips midnight, as it does in some zones, the day begins at the first instant after the gap.
    """
    local = datetime.combine(day, time.min, tzinfo=zone)
    return round(local.astimezone(UTC).timestamp() * 1000)


def day_of(instant: datetime, zone: ZoneInfo) -> date:
    """Return the calendar day of an instant in a zone."""
    return instant.astimezone(zone).date()


@dataclass(frozen=True, slots=True)
class Days:
    """A range of days.

    Attributes:
        first: The first day.
        last: The last day, included; not before the first.
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ConfigError(
                f"the range {self.first} to {self.last} ends before it begins",
                hint="Name the earlier day first.",
            )

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __iter__(self) -> Iterator[date]:
        return map(date.fromordinal, range(self.first.toordinal(), self.last.toordinal() + 1))

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    def halves(self) -> tuple[Days, Days]:
        """Return the days in two parts, the earlier one first; there must be at least two days."""
        middle = self.first + timedelta(days=len(self) // 2 - 1)
        return Days(self.first, middle), Days(middle + timedelta(days=1), self.last)

    def keys(self) -> list[str]:
        """Return the partition keys of the days, in order."""
        return [day.isoformat() for day in self]


def day_ranges(days: Iterable[date]) -> tuple[Days, ...]:
    """Join ascending days into ranges."""
    ranges: list[Days] = []
    for day in days:
        if ranges and day - ranges[-1].last == timedelta(days=1):
            ranges[-1] = Days(ranges[-1].first, day)
        else:
            ranges.append(Days(day, day))
    return tuple(ranges)

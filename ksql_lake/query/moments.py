"""Parse dates and times: text, `date`, `datetime`, pandas and numpy."""

# A month (`2025-03`) and a day are spans in the caller's zone; everything else is an instant, in UTC without an
# offset.

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ksql_lake.errors import ConfigError
from ksql_lake.lake.days import day_start

Given = Any
"""Accepted arguments: text, `date`, `datetime`, `pandas.Timestamp` and `Period`, `numpy.datetime64`."""

NANOS = 1_000_000
"""Nanoseconds of a millisecond."""
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
_WEEK = "W"
"""The letter of an ISO week, which Python reads as its Monday."""
_FRACTION = re.compile(r"(?<=[.,])[0-9]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DaySpan:
    """A day or a month: its first and its last day."""

    first: date
    last: date


def days_of(given: Given, argument: str) -> DaySpan:
    """Return the days of a date or a month; a `datetime` at midnight without a zone means its day.

    Raises:
        ConfigError: The argument is no day.
    """
    found = _days(given)
    if found is not None:
        return found
    text = _text(given)
    moment = None if isinstance(given, str) else _parsed(text)
    if moment is not None and moment[0].tzinfo is None and moment[0].time() == datetime.min.time():
        day = moment[0].date()
        return DaySpan(day, day)
    raise ConfigError(
        f"{argument} must be a day, not {repr(given) if isinstance(given, str) else given}",
        hint="Pass a datetime.date or a text such as '2025-01-31' or '2025-01'; rows are read by whole days. "
        "For instants use from_time and to_time.",
    )


def begin_of(given: Given, argument: str, zone: ZoneInfo) -> int:
    """Return the first nanosecond (epoch) of a day or a month, or an instant.

    Raises:
        ConfigError: The argument is no date or time.
    """
    found = _days(given)
    return _start(found.first, argument, zone) * NANOS if found else _nanoseconds(given, argument)


def end_of(given: Given, argument: str, zone: ZoneInfo) -> int:
    """Return the first nanosecond (epoch) after a day or a month, or an instant.

    Raises:
        ConfigError: The argument is no date or time.
    """
    found = _days(given)
    if found is None:
        return _nanoseconds(given, argument)
    return _start(_next(found.last, argument), argument, zone) * NANOS


def last_of(given: Given, argument: str, zone: ZoneInfo) -> int:
    """Return the last millisecond (epoch) of a day or a month, or the one that contains an instant.

    Raises:
        ConfigError: The argument is no date or time.
    """
    found = _days(given)
    if found is None:
        return _nanoseconds(given, argument) // NANOS
    return _start(_next(found.last, argument), argument, zone) - 1


def _start(day: date, argument: str, zone: ZoneInfo) -> int:
    try:
        return day_start(day, zone)
    except OverflowError:
        raise ConfigError(f"{argument} is before the first possible time", hint="Leave it out.") from None


def _next(day: date, argument: str) -> date:
    if day == date.max:
        raise ConfigError(f"{argument} is the last possible day", hint="Leave it out.")
    return day + timedelta(days=1)


def _text(given: Given) -> str:
    return given.isoformat() if isinstance(given, date) else str(given).strip()


def _days(given: Given) -> DaySpan | None:
    """Return the days of a date or month; None for anything else."""
    if isinstance(given, datetime):
        return None
    text = _text(given)
    try:
        if found := _MONTH.fullmatch(text):
            year, month = int(found[1]), int(found[2])
            return DaySpan(date(year, month, 1), date(year, month, monthrange(year, month)[1]))
        day = date.fromisoformat(text if _WEEK not in text else "")
    except ValueError:
        return None
    return DaySpan(day, day)


def _parsed(text: str) -> tuple[datetime, int] | None:
    """Return a text's instant in whole microseconds, and the remaining nanoseconds."""
    fraction = _FRACTION.search(text)
    beyond = int(fraction[0][6:9].ljust(3, "0")) if fraction and len(fraction[0]) > 6 else 0
    try:
        return datetime.fromisoformat(text if _WEEK not in text else ""), beyond
    except ValueError:
        return None


def _nanoseconds(given: Given, argument: str) -> int:
    found = None if given is None or isinstance(given, (bool, int, float)) else _parsed(_text(given))
    if found is None:
        raise ConfigError(
            f"{argument} must be a date or a time, not {given!r}",
            hint="Pass a text such as '2025-03', '2025-03-15' or '2025-03-15T12:00:00Z', a datetime, or "
            "a value of pandas or numpy; without an offset it is UTC.",
        )
    moment, beyond = found
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000 + beyond

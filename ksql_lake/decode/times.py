"""Parse TIME, DATE and TIMESTAMP texts, one value exactly or a whole column fast."""

# DATE and TIME are ISO 8601, proleptic Gregorian. TIMESTAMP uses Java's calendar: Gregorian from 1582-10-15,
# Julian before; Julian dates are read as the instant that they mean. The server drops the sign of years before
# 1. The days 1582-10-05 to 14 do not exist there and are refused, as is every form not listed below (time
# zones, 24:00, leap seconds).

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

DAY_MS = 86_400_000
LAST_MS = 9_200_000_000_000_000
"""The greatest epoch milliseconds, positive or negative, that readers support; they count microseconds."""
UTC_MS = pa.timestamp("ms", tz="UTC")

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{3}))?)?")
_DATE = re.compile(r"([0-9]{4}|-(?!0000)[0-9]{4}|[+-][1-9][0-9]{4,8})-([0-9]{2})-([0-9]{2})")
_TIMESTAMP = re.compile(r"((?!0000)[0-9]{4}|[1-9][0-9]{4,8})-([0-9]{2})-([0-9]{2})T([0-9:.]{12})")

_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_GREGORIAN_STARTS = (1582, 10, 15)
_JULIAN_ENDS = (1582, 10, 4)
_GREGORIAN_START_DAY = -141_427  # 1582-10-15 as an epoch day
_JULIAN_END_DAY = -141_438  # 1582-10-04 as an epoch day, read as Gregorian
_FIRST_DAY = -719_162  # 0001-01-01, read as Gregorian


def time_of(text: str) -> int | None:
    """Read `HH:mm[:ss[.fff]]` as milliseconds of the day."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, milli = (int(part or 0) for part in match.groups())
    return ((hour * 60 + minute) * 60 + second) * 1000 + milli


def date_of(text: str) -> int | None:
    """Read an ISO date, years with four digits or with a sign and more, as an epoch day."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    return _epoch_day(int(match[1]), int(match[2]), int(match[3]), julian=False)


def timestamp_of(text: str) -> int | None:
    """Read `yyyy-MM-dd'T'HH:mm:ss.SSS` in UTC as epoch milliseconds, Julian before 1582-10-15."""
    match = _TIMESTAMP.fullmatch(text)
    milli = time_of(match[4]) if match else None
    if match is None or milli is None:
        return None
    date = (int(match[1]), int(match[2]), int(match[3]))
    if _JULIAN_ENDS < date < _GREGORIAN_STARTS:
        return None
    day = _epoch_day(*date, julian=date <= _JULIAN_ENDS)
    return None if day is None else day * DAY_MS + milli


def _epoch_day(year: int, month: int, day: int, *, julian: bool) -> int | None:
    """Count days from 1970-01-01 for any year (day-number arithmetic, exact for Python's integers)."""
    leap = year % 4 == 0 and (julian or year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] + (leap and month == 2):
        return None
    before_march = month < 3
    years = year - before_march
    days = 365 * years + years // 4 + (153 * (month - 3 + 12 * before_march) + 2) // 5 + day
    return days - 719_471 if julian else days - years // 100 + years // 400 - 719_469


def times(texts: pa.StringArray) -> pa.Array:
    """Read a column of TIME texts as time64[us].

    Raises:
        ValueError: A value is not certainly a TIME.
    """
    if not set(pc.unique(pc.binary_length(texts)).to_pylist()) <= {5, 8, 12, None}:
        raise ValueError("a TIME of another length")
    # Arrow has no cast from text to time64, but one to a timestamp of 1970-01-01.
    stamps = pc.binary_join_element_wise(pa.scalar("1970-01-01T"), texts, pa.scalar("")).cast(
        pa.timestamp("ms")
    )
    return stamps.cast(pa.time64("us"))


def times_of_day(numbers: pa.Array) -> pa.Array:
    """Read a column of milliseconds of the day as time64[us].

    Raises:
        ValueError: A value is outside the day.
    """
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < DAY_MS:
        raise ValueError("a TIME outside the day")
    return numbers.cast(pa.time32("ms")).cast(pa.time64("us"))


def instants(numbers: pa.Array) -> pa.Array:
    """Read a column of epoch milliseconds as timestamp[ms, UTC].

    Raises:
        ValueError: A value is beyond the range that readers support.
    """
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is not None and not -LAST_MS <= bounds["min"] <= bounds["max"] <= LAST_MS:
        raise ValueError("a TIMESTAMP beyond the range of readers")
    return numbers.cast(UTC_MS)


def dates(texts: pa.StringArray) -> pa.Array:
    """Read a column of DATE texts as date32.

    Raises:
        ValueError: A value is not certainly a DATE of the years 0000 to 9999.
    """
    _fixed_width(texts, 10)
    return texts.cast(pa.date32())


def timestamps(texts: pa.StringArray) -> pa.Array:
    """Read a column of TIMESTAMP texts as timestamp[ms, UTC].

    Raises:
        ValueError: A value is not certainly a TIMESTAMP of the years 0001 to 9999.
    """
    characters = _fixed_width(texts, 23)
    if not ((characters[:, 10] == ord("T")).all() and (characters[:, 19] == ord(".")).all()):
        raise ValueError("a TIMESTAMP of another form")
    return from_java_calendar(texts.cast(pa.timestamp("ms")))


def from_java_calendar(stamps: pa.Array) -> pa.Array:
    """Correct timestamps that were read as proleptic Gregorian to the instants of Java's calendar.

    Raises:
        ValueError: A date before the year 1, or one of the ten days that this calendar skips.
    """
    earliest = pc.min(stamps).cast(pa.int64()).as_py()
    if earliest is None or earliest >= _GREGORIAN_START_DAY * DAY_MS:
        return stamps.cast(UTC_MS)
    missing = stamps.is_null().to_numpy(zero_copy_only=False)
    milli = stamps.cast(pa.int64()).fill_null(0).to_numpy()
    days = milli // DAY_MS
    julian = days < _GREGORIAN_START_DAY
    if (days[julian] > _JULIAN_END_DAY).any() or (days < _FIRST_DAY).any():
        raise ValueError("a TIMESTAMP that is not in Java's calendar")
    moved = pa.array(milli + np.where(julian, _julian_lag(days), 0) * DAY_MS, pa.int64(), mask=missing)
    return moved.cast(UTC_MS)


def _julian_lag(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return by how many days the Julian calendar lags behind the Gregorian one, per date."""
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    years = 1970 + (months - 2) // 12  # years begin in March: the leap day is their last
    return years // 100 - years // 400 - 2


def _fixed_width(texts: pa.StringArray, width: int) -> npt.NDArray[np.uint8]:
    """Return the bytes of all non-null texts, one row per text, all of the same width."""
    present = len(texts) - texts.null_count
    lengths = pc.min_max(pc.binary_length(texts)).as_py()
    if present and lengths != {"min": width, "max": width}:
        raise ValueError(f"a text that is not {width} bytes long")
    _, offsets, data = texts.buffers()
    if not present:
        return np.empty((0, width), np.uint8)
    begin = np.frombuffer(offsets, np.int32, 1, texts.offset * 4)[0]
    return np.frombuffer(data, np.uint8, present * width, begin).reshape(present, width)

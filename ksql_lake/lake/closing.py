"""Decide when a day of a stream is closed, and when Kafka deletes its rows. Pure."""

# Plan, certificates, checks, report and alarms all ask this module. A reading dated in the future was made by a
# clock that is ahead, and closes nothing.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from ksql_lake.lake.days import day_start

Clock = Literal["", "server", "proxy", "client", "disputed"]
"""Whose clock limits the time of a reading: the server's, that of a proxy in front of it, or only ours
(`client`). `disputed`: ours and the other differ so much that the reading closes no day. Empty: an older
release read the rows and compared no clocks."""

Fate = Literal["deliverable", "urgent", "fading", "lost"]

AHEAD = timedelta(hours=1)
"""How far in the future a reading may be dated and still be trusted: clocks of several machines differ."""

LONGEST_WARNING = timedelta(hours=24)
"""A day is urgent this long before Kafka begins to delete it, or a quarter of the retention if that is less."""


def day_end(day: date, zone: ZoneInfo) -> int:
    """Return the epoch milliseconds at which a day ends in a zone, which is when the next day begins."""
    return day_start(day + timedelta(days=1), zone)


def has_ended(day: date, zone: ZoneInfo, moment: datetime) -> bool:
    """Whether a day has ended at a moment."""
    return _milliseconds(moment) >= day_end(day, zone)


def read_to_end(looked: Mapping[str, str], day: date, zone: ZoneInfo, *, now: datetime) -> bool:
    """Whether a day is closed: read after it had ended, by a reading that is not dated in the future.

    Args:
        looked: Day -> when it was last read, ISO 8601 (`FeedState.looked`).
        day: The day.
        zone: Whose day.
        now: The present.
    """
    read_at = looked.get(day.isoformat())
    if read_at is None:
        return False
    # No zone is more than a day away from UTC, so dates two days apart can be compared without the zone's
    # rules.
    apart = (date.fromisoformat(read_at[:10]) - day).days
    ended = apart > 2 or has_ended(day, zone, datetime.fromisoformat(read_at))
    return ended and not in_the_future(read_at, now)


def in_the_future(moment: str, now: datetime) -> bool:
    """Whether a recorded moment (ISO 8601) is in the future."""
    limit, day = _limit(now)
    # Most differ in the year, so comparing the texts is enough.
    return moment[:10] >= day and datetime.fromisoformat(moment) > limit


@lru_cache(maxsize=16)  # every day of every feed is compared with the same present
def _limit(now: datetime) -> tuple[datetime, str]:
    limit = (now + AHEAD).astimezone(UTC)
    return limit, limit.date().isoformat()


def questioned_days(looked: Mapping[str, str], *, now: datetime) -> list[date]:
    """Return the days whose reading is dated in the future, oldest first."""
    return sorted(date.fromisoformat(day) for day, read_at in looked.items() if in_the_future(read_at, now))


def unclosed(day: str) -> str:
    """Return the time recorded for a reading with a disputed clock: before the day's end in every zone."""
    return f"{day}T00:00:00.000+00:00"


@dataclass(frozen=True, slots=True)
class Unread:
    """What Kafka does with the rows of a day that no export has read.

    Attributes:
        fate: `deliverable` (Kafka has all of them), `urgent` (Kafka will soon delete the first), `fading` (some
            may be deleted) or `lost` (all may be deleted).
        until: When Kafka begins to delete them (UTC).
    """

    fate: Fate
    until: datetime


def unread_rows(
    looked: Mapping[str, str], day: date, zone: ZoneInfo, *, keeps: timedelta, now: datetime
) -> Unread | None:
    """Return what happens to the rows of a day that no export has read; None if the day is closed.

    Such rows came after the day's last reading, or after its beginning, and Kafka keeps them as long as the
    topic's retention says.

    Args:
        looked: Day -> when it was last read, ISO 8601.
        day: The day.
        zone: Whose day.
        keeps: How long the topic keeps records.
        now: The present.
    """
    if read_to_end(looked, day, zone, now=now):
        return None
    start, end = _moment(day_start(day, zone)), _moment(day_end(day, zone))
    read_at = looked.get(day.isoformat())
    believed = read_at is not None and not in_the_future(read_at, now)
    until = keeps + max(start, datetime.fromisoformat(read_at) if read_at and believed else start)
    if now >= end + keeps:
        return Unread("lost", until)
    if now >= until:
        return Unread("fading", until)
    return Unread("urgent" if now >= until - min(keeps / 4, LONGEST_WARNING) else "deliverable", until)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)

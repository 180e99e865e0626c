"""When a day of a stream is closed, or about to be deleted by Kafka: the only rule, used everywhere. Pure."""

# A reading dated in the future was made by a clock that is ahead, and closes nothing.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from ksql_lake.lake.days import day_start

Clock = Literal["", "server", "proxy", "client", "disputed"]
"""Whose clock bounds the time of a reading: the server's own, that of a proxy before it, or only ours
(`client`); `disputed` where ours and the other differ so much that nothing may be called closed. Empty: read
by a release that did not ask."""

Fate = Literal["deliverable", "urgent", "fading", "lost"]

AHEAD = timedelta(hours=1)
"""How far in the future a reading may be dated before it is not believed: clocks of several machines differ."""

LONGEST_WARNING = timedelta(hours=24)
"""How long before Kafka begins to delete a day it is urgent, at most; else a quarter of the retention."""


def day_end(day: date, zone: ZoneInfo) -> int:
    """The epoch milliseconds at which a day is over in a zone: the beginning of the next one."""
    return day_start(day + timedelta(days=1), zone)


def has_ended(day: date, zone: ZoneInfo, moment: datetime) -> bool:
    """Whether a day is over at a moment."""
    return _milliseconds(moment) >= day_end(day, zone)


def read_to_end(looked: Mapping[str, str], day: date, zone: ZoneInfo, *, now: datetime) -> bool:
    """Whether a day is closed: read after it had ended, by a reading that can be believed.

    Args:
        looked: Day -> when it was last read, ISO 8601 (`FeedState.looked`).
        day: The day.
        zone: Whose day.
        now: The present.
    """
    read_at = looked.get(day.isoformat())
    if read_at is None:
        return False
    # No zone is further than a day away from UTC, so two dates apart need no look into the zone's rules.
    apart = (date.fromisoformat(read_at[:10]) - day).days
    ended = apart > 2 or has_ended(day, zone, datetime.fromisoformat(read_at))
    return ended and not in_the_future(read_at, now)


def in_the_future(moment: str, now: datetime) -> bool:
    """Whether a moment (ISO 8601) that was written down is still to come."""
    limit, day = _limit(now)
    # Most are years apart, which their texts tell.
    return moment[:10] >= day and datetime.fromisoformat(moment) > limit


@lru_cache(maxsize=16)  # every day of every feed is asked for the same present
def _limit(now: datetime) -> tuple[datetime, str]:
    limit = (now + AHEAD).astimezone(UTC)
    return limit, limit.date().isoformat()


def questioned_days(looked: Mapping[str, str], *, now: datetime) -> list[date]:
    """The days whose reading is dated in what is still to come, oldest first."""
    return sorted(date.fromisoformat(day) for day, read_at in looked.items() if in_the_future(read_at, now))


def unclosed(day: str) -> str:
    """The time that is noted for a reading whose own is not believed: before the day's end in every zone."""
    return f"{day}T00:00:00.000+00:00"


@dataclass(frozen=True, slots=True)
class Unread:
    """What Kafka does to the rows of a day that were not read.

    Attributes:
        fate: `deliverable` (all are there), `urgent` (the first will soon be deleted), `fading` (some may be
            gone) or `lost` (all may be).
        until: When Kafka begins to delete them (UTC).
    """

    fate: Fate
    until: datetime


def unread_rows(
    looked: Mapping[str, str], day: date, zone: ZoneInfo, *, keeps: timedelta, now: datetime
) -> Unread | None:
    """Judge the rows of a day that no export has read; None where the day is closed.

    They came after its last reading, or after its beginning, and stay for as long as the topic keeps records.

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

"""Which days of a stream the lake is sure of: pure.

A day is complete when it is closed (see `lake/closing.py`), open when it was read too early to be sure or has
not ended, and missing when it has ended and was never read. Whether it has rows does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from ksql_lake.feeds import StreamFeed
from ksql_lake.lake.closing import read_to_end
from ksql_lake.lake.days import day_of, day_ranges
from ksql_lake.report.feed_model import Coverage

GRACE = timedelta(days=1)
"""How long an ended day may stay open before it counts against a feed: until the next daily export."""


def coverage(feed: StreamFeed, looked: Mapping[str, str], *, now: datetime) -> Coverage:
    """Sort a feed's days, from `start_date` to today in its zone.

    Args:
        feed: The feed.
        looked: Day -> when it was last read, ISO 8601.
        now: The present.
    """
    today = day_of(now, feed.zone)
    opened: list[date] = []
    missing: list[date] = []
    complete = 0
    day = feed.start_date
    while day < today:
        if day.isoformat() not in looked:
            missing.append(day)
        elif read_to_end(looked, day, feed.zone, now=now):
            complete += 1
        else:
            opened.append(day)
        day += timedelta(days=1)
    if feed.start_date <= today:
        opened.append(today)
    return Coverage(
        first=feed.start_date,
        last=today,
        timezone=feed.timezone,
        complete=complete,
        open=len(opened),
        missing=len(missing),
        open_days=day_ranges(opened),
        missing_days=day_ranges(missing),
    )


def overdue_days(found: Coverage, feed: StreamFeed, *, now: datetime) -> list[date]:
    """Give the open days that ended longer than `GRACE` ago."""
    limit = day_of(now - GRACE, feed.zone)
    return [day for days in found.open_days for day in days if day < limit]

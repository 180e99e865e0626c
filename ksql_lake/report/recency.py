"""How recent a feed's rows are by their own times, and which of them are outside its days. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.lake import FeedState
from ksql_lake.lake.days import day_of, day_ranges
from ksql_lake.report.feed_model import ExportPoint, OutsideDays, Recency


def recency(newest: datetime | None, exports: Sequence[ExportPoint], *, now: datetime) -> Recency:
    """Return the age of a feed's newest event, and since when no export has brought a new row.

    Args:
        newest: Time of the newest event; None for tables and without rows.
        exports: The newest exports, oldest first.
        now: The present.
    """
    age = None if newest is None else max(0.0, (now - newest).total_seconds() / 3600)
    since = 0
    for point in reversed(exports):
        if point.new:
            return Recency(age, point.at, since)
        since += 1
    return Recency(age, None, since)


def outside_days(feed: Feed, state: FeedState, *, now: datetime) -> OutsideDays | None:
    """Return the days with rows before the feed's `start_date` or after today; None where there are none."""
    if not isinstance(feed, StreamFeed):
        return None
    today = day_of(now, feed.zone)
    held = {date.fromisoformat(key): part.records for key, part in state.partitions.items()}
    strange = sorted(day for day in held if not feed.start_date <= day <= today)
    if not strange:
        return None
    return OutsideDays(day_ranges(strange), sum(held[day] for day in strange))

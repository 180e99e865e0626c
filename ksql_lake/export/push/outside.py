"""Rows that a query returns and no export wants: before the feed's first day, in the future, before 1970."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import ReadFacts
from ksql_lake.lake.days import day_of, day_start
from ksql_lake.lake.rows.event_days import event_times

_log = logging.getLogger(__name__)

BEFORE, FUTURE, NEGATIVE = "before start_date", "in the future", "with a negative ROWTIME"


class Outside:
    """Counts the rows of a stream that fall outside its days.

    Args:
        feed: The feed.
        now: The present; the day after it is the future.

    Attributes:
        counts: Kind -> rows seen; only kinds of which there are some.
    """

    def __init__(self, feed: StreamFeed, *, now: datetime | None = None) -> None:
        self.counts: dict[str, int] = {}
        self._first = day_start(feed.start_date, feed.zone)
        self._end = day_start(day_of(now or datetime.now(UTC), feed.zone) + timedelta(days=1), feed.zone)

    def see(self, events: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> None:
        """Count rows by their event times and ROWTIMEs, each row once."""
        negative = times < 0
        for kind, rows in (
            (NEGATIVE, negative),
            (BEFORE, (events < self._first) & ~negative),
            (FUTURE, (events >= self._end) & ~negative),
        ):
            if count := int(np.count_nonzero(rows)):
                self.counts[kind] = self.counts.get(kind, 0) + count


class Beyond:
    """Drops rows after the last day from what a pull query brings, and counts those of the future.

    Args:
        feed: The feed.
        last: The last day that is read.

    Attributes:
        counts: Kind -> rows seen; only kinds of which there are some.
    """

    def __init__(self, feed: StreamFeed, last: date) -> None:
        self.counts: dict[str, int] = {}
        self._feed = feed
        self._end = day_start(last + timedelta(days=1), feed.zone)

    def leave_out(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of the days that are read."""
        feed = self._feed
        events = event_times(batch, feed.lake_name(feed.event_time), feed.event_time_unit)
        beyond = events >= self._end
        if not beyond.any():
            return batch
        # Rows of a day that has begun meanwhile are not of the future: the next export reads them.
        today = day_of(datetime.now(UTC), feed.zone)
        future = events >= max(self._end, day_start(today + timedelta(days=1), feed.zone))
        if count := int(np.count_nonzero(future)):
            self.counts[FUTURE] = self.counts.get(FUTURE, 0) + count
        return batch.filter(pa.array(~beyond))


def noted_outside(feed: Feed, read: ReadFacts | None) -> Mapping[str, int]:
    """Return the rows outside the feed's days that a commit notes, and log them."""
    found = read.outside if read else {}
    if found:
        text = ", ".join(f"{count:,} {why}" for why, count in found.items())
        _log.warning("%s: rows that belong to no day of the feed did not land: %s", feed.name, text)
    return found

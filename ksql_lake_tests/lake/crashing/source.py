"""The source of a crash run: rows that only grow, the same for the same seed.

Time is a tick. At every tick some rows are born: most of them on the newest day, some late, some identical
twins of rows that were born before. A row's `ID` alone identifies it; all its other values follow from that.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.schema import arrow_schema
from ksql_lake_tests.lake.landing import EVENTS, FIRST, USERS

DAYS = 4
PER_TICK = 6
NEVER = -1
"""The tick at which no row is born yet: an export of it only records that the day was read."""
_LATE = 0.15
_TWIN = 0.15
_SNAPSHOT_ROWS = 40
_SCHEMA = arrow_schema(EVENTS)

Counts = npt.NDArray[np.int64]


class Source:
    """All rows of a run, by the tick at which they are born.

    Args:
        seed: Of everything random.
        ticks: How many ticks there are.
    """

    def __init__(self, seed: int, *, ticks: int) -> None:
        random = np.random.default_rng(seed)
        count = ticks * PER_TICK
        self.born = np.arange(count) // PER_TICK
        newest = self.born * DAYS // ticks
        earlier = (random.random(count) * (newest + 1)).astype(np.int64)
        day = np.where(random.random(count) < _LATE, earlier, newest)
        identity = np.arange(count)
        for row in np.flatnonzero(random.random(count) < _TWIN):
            identity[row] = identity[int(random.random() * row)]
        self.identity = identity
        self.day = day[identity]
        self.last = ticks - 1

    def counts(self, tick: int, first: int = 0, last: int = DAYS - 1) -> Counts:
        """How often each `ID` is there at a tick, over the days `first` to `last`."""
        there = (self.born <= tick) & (self.day >= first) & (self.day <= last)
        counts: Counts = np.bincount(self.identity[there], minlength=len(self.identity))
        return counts

    def rows(self, tick: int, first: int, last: int) -> pa.Table:
        """The rows that are there at a tick, over the days `first` to `last`, twins included."""
        counts = self.counts(tick, first, last)
        return events(np.repeat(np.arange(len(counts)), counts), self.day)

    def born_between(self, first: int, end: int) -> pa.Table:
        """The rows that were born as the `first` one up to, not including, the one numbered `end`."""
        return events(self.identity[first:end], self.day)


def events(identities: npt.NDArray[np.int64], day: npt.NDArray[np.int64]) -> pa.Table:
    """Rows by their `ID`: a second per `ID` after the midnight of its day, and now and then no note."""
    midnight = int(datetime.combine(FIRST, datetime.min.time(), UTC).timestamp())
    seconds = midnight + day[identities] * 86_400 + identities
    notes = [None if number % 7 == 0 else f"note {number % 11}" for number in identities.tolist()]
    columns = [pa.array(seconds * 1000).cast(_SCHEMA.field(0).type), pa.array(identities), pa.array(notes)]
    return pa.table(columns, schema=_SCHEMA)


def snapshot(tick: int) -> pa.Table:
    """The whole table as it is at a tick: every row says the tick, so that a mixture would show."""
    rows = snapshot_rows(tick)
    columns = [pa.array(range(rows), pa.int64()), pa.array([f"tick {tick}"] * rows)]
    return pa.table(columns, schema=arrow_schema(USERS))


def snapshot_rows(tick: int) -> int:
    """How many rows the table has at a tick; never two ticks in a row the same number."""
    return _SNAPSHOT_ROWS + tick % 5


def window(first: int, last: int) -> tuple[date, date]:
    """The days `first` to `last` as dates."""
    return FIRST + timedelta(days=first), FIRST + timedelta(days=last)

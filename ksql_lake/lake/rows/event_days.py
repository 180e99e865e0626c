"""Map the rows of batches to days by their event times, vectorised. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.errors import LakeError
from ksql_lake.lake.days import UNITS, day_start

Milliseconds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DaySlice:
    """The rows of a batch that belong to one day, with their smallest and largest event time in epoch ms."""

    day: str
    rows: slice
    min_event: int
    max_event: int


class DaySplitter:
    """Splits batches by day over a window.

    Args:
        first: First day.
        last: Last day, included.
        zone: The zone of the days.
    """

    def __init__(self, first: date, last: date, zone: ZoneInfo) -> None:
        count = (last - first).days + 1
        days = [first + timedelta(days=offset) for offset in range(count + 1)]
        self.days = [day.isoformat() for day in days[:-1]]
        self.bounds: Milliseconds = np.array([day_start(day, zone) for day in days], dtype=np.int64)

    def split(self, batch: pa.RecordBatch, events: Milliseconds) -> tuple[pa.RecordBatch, list[DaySlice]]:
        """Sort a batch's rows by day, in their order within a day; return the batch and a slice per day.

        Raises:
            LakeError: A row is outside the window.
        """
        if batch.num_rows == 0:
            return batch, []
        low, high = int(events.min()), int(events.max())
        if low < self.bounds[0] or high >= self.bounds[-1]:
            raise self._outside(low if low < self.bounds[0] else high)
        first, last = (int(np.searchsorted(self.bounds, edge, side="right")) - 1 for edge in (low, high))
        if first == last:
            return batch, [DaySlice(self.days[first], slice(0, batch.num_rows), low, high)]
        index = np.searchsorted(self.bounds, events, side="right") - 1
        if (index[1:] < index[:-1]).any():
            order = np.argsort(index, kind="stable")
            batch, events, index = batch.take(pa.array(order)), events[order], index[order]
        starts = np.flatnonzero(np.diff(index, prepend=-1))
        lows, highs = np.minimum.reduceat(events, starts), np.maximum.reduceat(events, starts)
        ends = [*starts[1:].tolist(), len(index)]
        found = zip(index[starts].tolist(), starts.tolist(), ends, lows.tolist(), highs.tolist(), strict=True)
        return batch, [
            DaySlice(self.days[day], slice(start, end), low, high) for day, start, end, low, high in found
        ]

    def _outside(self, event: int) -> LakeError:
        return LakeError(
            f"the server sent a row with event time {event} (epoch ms), outside the requested days",
            hint="Nothing was kept. Is the feed's `event_time` column in epoch milliseconds?",
            window=f"{self.days[0]} to {self.days[-1]}",
        )


def event_times(batch: pa.RecordBatch, event_time: str, unit: str = "ms") -> Milliseconds:
    """Return each row's event time in epoch ms: the named column, or ROWTIME where that is NULL.

    Both columns are timestamps or epoch-millisecond integers; the named one may be integers of another unit.
    """
    column = batch.column(event_time)
    events = column.cast(pa.int64())
    if unit != "ms" and not pa.types.is_timestamp(column.type):
        times, parts = UNITS[unit]
        # A time beyond all days must not overflow into one of them.
        most = np.iinfo(np.int64).max // times
        scaled = np.clip(np.asarray(events.fill_null(0)), -most, most) * times // parts
        events = pc.if_else(pc.is_valid(events), pa.array(scaled), pa.scalar(None, pa.int64()))
    if events.null_count:
        events = pc.coalesce(events, batch.column("ROWTIME").cast(pa.int64()))
    values: Milliseconds = events.to_numpy(zero_copy_only=False)
    return values

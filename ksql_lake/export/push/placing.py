"""Select the rows of a stream's push query that land: in the window, beyond the marks, each offset once.

Pure.
"""

# Within a partition rows come in the order of their offsets, but a moved task may send rows again. The row at
# a mark is recognised by its ROWTIME; another time there means that the topic was recreated, and its offsets
# mean other rows.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.errors import ProtocolError, TopicRecreatedError
from ksql_lake.export.push.outside import Outside
from ksql_lake.lake.commit.marks import KnownDays, Mark, Marks
from ksql_lake.lake.rows.event_days import DaySplitter, event_times

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Placing:
    """Follows one push query of a stream.

    Args:
        window: The days requested.
        known: What the lake holds of these days.
        event_time: The column that decides a row's day.
        unit: Its unit, if it is an integer.
        placed: Whether rows come with their partition and offset; if not, only the window decides.
        outside: Counts the rows that no window of the feed holds.

    Attributes:
        seen: Per Kafka partition the furthest row that came.
    """

    def __init__(
        self,
        window: DaySplitter,
        known: KnownDays,
        *,
        event_time: str,
        unit: str = "ms",
        placed: bool,
        outside: Outside | None = None,
    ) -> None:
        self.seen: Marks = {}
        self.outside = outside
        self._bounds = window.bounds
        self._known = known
        self._event_time = event_time
        self._unit = unit
        self._placed = placed
        self._groups, self._floors = _floors(window.days, known)

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch that land.

        Raises:
            TopicRecreatedError: The topic is not the one to which the marks belong.
            ProtocolError: A row has no position.
        """
        events = event_times(batch, self._event_time, self._unit)
        wanted: Flags = (events >= self._bounds[0]) & (events < self._bounds[-1])
        if self._placed:
            partitions, offsets = _numbers(batch, "ROWPARTITION"), _numbers(batch, "ROWOFFSET")
            times = _numbers(batch, "ROWTIME")
            forward = self._forward(partitions, offsets, times)
            if self.outside is not None:
                self.outside.see(events[forward], times[forward])
            wanted &= forward
            wanted &= self._beyond(events, partitions, offsets)
        elif self.outside is not None:
            self.outside.see(events, _numbers(batch, "ROWTIME"))
        return batch if wanted.all() else batch.filter(pa.array(wanted))

    def check_ends(self, ends: Mapping[int, int], *, all_rows: bool) -> None:
        """Compare the marks with the ends of the topic.

        Args:
            ends: Kafka partition -> the end the server reported.
            all_rows: Whether every row of the topic came, whatever its day.

        Raises:
            TopicRecreatedError: A partition ends before its mark.
        """
        for partition, mark in self._known.newest.items():
            end = ends.get(partition)
            last = self.seen.get(partition)
            # The end is exclusive: it is beyond the row at the mark for as long as the topic is the same.
            if end is not None and end <= mark.offset:
                raise _recreated(
                    f"partition {partition} ends at {end}, but was read up to {mark.offset} before"
                )
            if all_rows and last is not None and last.offset < mark.offset:
                raise _recreated(
                    f"the last offset of partition {partition} is {last.offset}, but it was read up to "
                    f"{mark.offset} before"
                )

    def _recognise(self, partition: int, offsets: Numbers, times: Numbers) -> None:
        mark = self._known.newest.get(partition)
        for time in times[offsets == mark.offset] if mark is not None else ():
            if mark is not None and time != mark.time:
                raise _recreated(
                    f"offset {mark.offset} of partition {partition} has the time {time}, not {mark.time}"
                )

    def _forward(self, partitions: Numbers, offsets: Numbers, times: Numbers) -> Flags:
        """Return which rows are beyond all earlier rows of their partition."""
        forward = np.empty(len(partitions), dtype=np.bool_)
        for partition in np.unique(partitions):
            inside = partitions == partition
            mine = offsets[inside]
            self._recognise(int(partition), mine, times[inside])
            before = self.seen.get(int(partition), Mark(-1, 0))
            highest = np.maximum.accumulate(np.concatenate(([before.offset], mine)))
            forward[inside] = mine > highest[:-1]
            if highest[-1] > before.offset:
                furthest = int(np.argmax(mine))
                self.seen[int(partition)] = Mark(int(mine[furthest]), int(times[inside][furthest]))
        return forward

    def _beyond(self, events: Numbers, partitions: Numbers, offsets: Numbers) -> Flags:
        """Return which rows are beyond the marks of their day; rows outside the window may be either."""
        if self._floors.shape[1] == 0:
            return np.ones(len(offsets), dtype=np.bool_)
        last = len(self._groups) - 1
        day = np.clip(np.searchsorted(self._bounds, events, side="right") - 1, 0, last)
        # Partitions beyond the widest mark have a column of their own, which admits every row.
        column = np.minimum(partitions, self._floors.shape[1] - 1)
        beyond: Flags = offsets > self._floors[self._groups[day], column]
        return beyond


def _floors(days: list[str], known: KnownDays) -> tuple[Numbers, Numbers]:
    """Return each day's row in a table of marks, and the table: one column per Kafka partition, -1 for none."""
    names = list(known.marks)
    groups = np.array([names.index(known.names[day]) if day in known.names else len(names) for day in days])
    widest = max((number for marks in known.marks.values() for number in marks), default=-1)
    floors = np.full((len(names) + 1, widest + 2 if widest >= 0 else 0), -1, dtype=np.int64)
    for row, name in enumerate(names):
        for number, mark in known.marks[name].items():
            floors[row, number] = mark.offset
    return groups, floors


def _numbers(batch: pa.RecordBatch, name: str) -> Numbers:
    column: Any = batch.column(name)
    if column.null_count:
        raise ProtocolError(
            f"the server sent a row without {name}",
            hint="A push query over a stream sends the place of every row; does a proxy rewrite queries?",
        )
    return np.asarray(column.cast(pa.int64()))


def _recreated(what: str) -> TopicRecreatedError:
    return TopicRecreatedError(
        f"the topic is not the one that was read before: {what}",
        hint="It was deleted and recreated, or cut back. To go on with it, export once with --new-topic: rows "
        "are then compared with the lake by value, and offsets are kept from there on.",
    )

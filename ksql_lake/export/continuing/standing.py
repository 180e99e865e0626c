"""The state of reading a derived stream: what is known of the source and what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from ksql_lake.errors import ServerUnavailableError
from ksql_lake.export.continuing.overlap import Hashes, row_hashes
from ksql_lake.export.continuing.preconditions import FallBackError, Look, look_at
from ksql_lake.export.continuing.prefix import Flags, Numbers, SourceRows, bounded
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.push.caught_up import Verdict
from ksql_lake.feeds.feed_columns import ROWTIME
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.offsets import LogOffsets
from ksql_lake.lake.commit.continued import Continuation, Continued, Gap, SinkMark
from ksql_lake.lake.days import Days, day_of, day_start
from ksql_lake.lake.rows.event_days import event_times

_log = logging.getLogger(__name__)

_MOST_GAPS = 50
"""Gaps that a commit names."""
_SHOWN = 5
_EARLIEST, _LATEST = -62_135_510_400_000, 253_402_214_400_000
"""0001-01-02 and 9999-12-31, epoch ms: in every time zone they are days that the calendar has."""


@dataclass(slots=True)
class Standing:
    """What one reading knows.

    Attributes:
        client: The server.
        feed: The feed.
        asked: The days requested.
        window: Days of which rows land.
        look: What the server reported before.
        held: The marks of the commit before; None for none.
        source: The rows of the source.
        base: What the lake's state notes about readings.
        believed: Whether what the marks know counts as known to the lake, even if it does not come again.
        unplaced: Rows without an offset of the source.
        awaited: The first day of the future of which rows came.
        end: Where the window ends, epoch ms.
    """

    client: KsqlClient
    feed: StreamFeed
    asked: Days
    window: Days
    look: Look
    held: Continued | None
    source: SourceRows
    base: Any = None
    believed: bool = True
    unplaced: int = 0
    awaited: str = ""
    _consumed: Mapping[int, LogOffsets] = field(default_factory=dict)
    end: int = 0
    _first: date = date.max

    def __post_init__(self) -> None:
        self._consumed = self.look.ends
        self.end = day_start(self.window.last + timedelta(days=1), self.feed.zone)
        # A reading from the first row brings them again, and awaits them again if their day is in the future.
        self.awaited = self.held.awaited if self.held and self.source.going_on else ""
        self._first = self.asked.first

    def places(self, batch: pa.RecordBatch) -> tuple[Numbers, Numbers, Numbers]:
        """Partition, offset and time of each row, under its columns' names in the source; -1 for NULL."""
        names = (*self.feed.identity.columns, ROWTIME)
        partitions, offsets, times = (
            np.asarray(batch.column(name).cast(pa.int64()).fill_null(-1)) for name in names
        )
        return np.where(offsets < 0, -1, partitions), offsets, times

    def take(self, places: tuple[Numbers, Numbers, Numbers]) -> Flags:
        """Return which rows were not known; those without a place count as new each time.

        Raises:
            TopicRecreatedError: The source was recreated.
            ProtocolError: An offset is impossible.
            FallBackError: A row may or may not be new.
        """
        partitions, offsets, times = places
        nowhere: Flags = partitions < 0
        fresh: Flags = self.source.take(partitions, offsets, times) | nowhere
        if (gap := self.source.doubtful) is not None:
            raise FallBackError(f"a row came although it was given up: {gap.text} of the source")
        return fresh

    def land(self, events: Numbers) -> None:
        """Note the event times of rows that land: notes about a reading apply to their days too."""
        if events.size:
            first = _day_at(int(events.min()), self.feed.zone)
            self._first = min(self._first, max(first, self.window.first))

    def wait_for(self, events: Numbers) -> None:
        """Note rows of future days: they do not land, and are read again when their day has begun."""
        future = events[events >= self.end]
        if future.size:
            first = _day_at(int(future.min()), self.feed.zone).isoformat()
            self.awaited = min(self.awaited or first, first)

    def events(self, batch: pa.RecordBatch) -> Numbers:
        """Return each row's event time."""
        return event_times(batch, self.feed.event_time, self.feed.event_time_unit)

    def look_again(self) -> None:
        """Ask how far the stream's query has read its source by now.

        Raises:
            KsqlError: The server cannot be asked.
        """
        self._consumed = look_at(self.client, self.feed.source).ends

    @property
    def consumed(self) -> bool:
        """Whether the stream's query had read past all missing rows when it was asked last."""
        return all(
            number in self._consumed and self._consumed[number].consumed >= behind
            for number, _, behind in self.source.missing()
        )

    def give_up(self) -> None:
        """Note the missing rows, which will not come, as gaps."""
        found = self.source.accept(seen_at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        _log.warning("%s: %s", self.feed.name, _gaps_text(found))

    def stuck(self, seconds: float) -> ServerUnavailableError:
        """Make the error of a stream whose query does not reach the end of its source."""
        return ServerUnavailableError(
            f"the query {self.look.query} that writes {self.feed.source} made no progress for {seconds:g} s, "
            f"before the end of its source: {self.source.numbers}",
            hint="Nothing was kept; the export can be run again. Look at that query on the server.",
        )

    def verdict(self) -> Verdict:
        """Return in words that every row of the source is known."""
        text = (
            "every offset of the source was read to where Kafka's log ended when the export began: "
            f"{self.source.numbers}"
        )
        return Verdict("offsets", f"{text}; {self.doubt}" if self.doubt else text)

    @property
    def doubt(self) -> str:
        """What keeps that from proving the days that are read; empty where nothing does."""
        zone = self.feed.zone
        recent = [
            gap for gap in self.source.gaps if day_of(datetime.fromisoformat(gap.seen_at), zone) >= self._first
        ]
        doubts = [_gaps_text(recent)] if recent else []
        if self.unplaced:
            doubts.append(
                f"{self.unplaced:,} rows have no offset of the source: a client runs INSERT INTO ... VALUES "
                f"into {self.feed.source}"
            )
        return "; ".join(doubts)

    def continuation(self, sink: list[SinkMark], groups: list[str], *, fresh: bool) -> Continuation:
        """Put together what the commit keeps."""
        marks = Continued(
            query=self.look.query,
            sink=sink,
            groups=groups,
            source=self.source.marks,
            gaps=bounded(self.source.gaps, _MOST_GAPS),
            since=self.window.first.isoformat(),
            clock=clock_of(self.feed),
            awaited=self.awaited,
        )
        return Continuation(marks.sealed(), self.base, fresh)


def standing(
    client: KsqlClient, plan: ExportPlan, look: Look, held: Continued | None, *, going_on: bool, base: Any
) -> Standing:
    """Begin a reading.

    Args:
        client: The server.
        plan: What the export reads.
        look: What the server said.
        held: The marks of the commit before.
        going_on: Whether the reading begins at them.
        base: What the lake's state notes about readings.

    Raises:
        TopicRecreatedError: The source ends before these marks.
    """
    feed, asked = plan.feed, plan.days
    if not isinstance(feed, StreamFeed) or asked is None:
        raise TypeError("only days of a stream are read on")
    marks, gaps = (held.source, held.gaps) if held else ({}, [])
    if going_on:
        source = SourceRows(marks, look.ends, gaps=gaps)
    else:
        source = SourceRows({}, look.ends, before=marks, gaps=gaps)
    window = plan.window or asked
    believed = held is not None and not _unlanded(held, feed, window)
    return Standing(client, feed, asked, window, look, held, source, base, believed)


def clock_of(feed: StreamFeed) -> str:
    """Return in words what decides on which day a row lands."""
    return f"{feed.event_clock}, {feed.timezone}"


def _unlanded(held: Continued, feed: StreamFeed, window: Days) -> bool:
    """Whether rows that these marks know may never have landed, or are no longer in the lake."""
    earlier = held.since > window.first.isoformat()
    return not held.sound or earlier or bool(held.awaited) or held.clock != clock_of(feed)


def hashes_of(places: tuple[Numbers, Numbers, Numbers]) -> Hashes:
    """Return the hash by which each row is recognised."""
    return row_hashes(*places)


def _day_at(milliseconds: int, zone: ZoneInfo) -> date:
    """Return the day of an event time; one beyond the calendar counts as its first or its last day."""
    return day_of(datetime.fromtimestamp(min(max(milliseconds, _EARLIEST), _LATEST) / 1000, UTC), zone)


def _gaps_text(gaps: list[Gap]) -> str:
    shown = ", ".join(gap.text for gap in gaps[:_SHOWN])
    more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
    return (
        f"{shown}{more} of the source never came although the stream's query has read past them (records that "
        "ksqlDB cannot read, compaction, transactions)"
    )

"""A range of event times: the files that can hold its rows, and the condition on each row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.errors import LakeError
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedState, FileEntry
from ksql_lake.lake.days import UNITS, day_of
from ksql_lake.lake.files.sql_values import sql_name, sql_text
from ksql_lake.query.moments import NANOS
from ksql_lake.schema import arrow_schema

if TYPE_CHECKING:
    import polars as pl

_ROWTIME = "ROWTIME"
_INT64 = 2**63
_UNIT_NANOS = {unit: times * NANOS // parts for unit, (times, parts) in UNITS.items()}
"""Unit of an event time -> its nanoseconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """The column that decides a row's day, by its name in the lake, and the unit of its numbers."""

    column: str
    unit: str

    @classmethod
    def of(cls, feed: Feed, state: FeedState) -> Clock:
        """Return the clock of a stream: that of the first export, else that of the feed.

        Raises:
            LakeError: The column does not exist, or has had two types.
        """
        column, unit = _ROWTIME, "ms"
        if isinstance(feed, StreamFeed):
            column, unit = feed.lake_name(feed.event_time), feed.event_time_unit
        if state.meaning is not None and state.meaning.event_time:
            column, unit = state.meaning.event_time, state.meaning.event_unit or "ms"
        elif state.event_clock not in ("", feed.event_clock):
            raise LakeError(
                f"its rows were read by the event time {state.event_clock}, the feed says {feed.event_clock}",
                hint="Read whole days with start and end.",
                feed=feed.name,
            )
        known = state.columns.names if state.columns else [column]
        retyped = [name for name in known if re.fullmatch(f"{re.escape(column)}_V[0-9]+", name)]
        if column not in known or (retyped and column != _ROWTIME):
            why = f"is {column} and {retyped[0]}" if retyped else f"{column} is not among its columns"
            raise LakeError(
                f"no range of event times can be read: the event time {why}",
                hint="Read whole days with start and end.",
                feed=feed.name,
            )
        return cls(column, unit)


@dataclass(frozen=True, slots=True)
class EventRange:
    """A range of event times in epoch nanoseconds, without its end; None means no bound.

    Attributes:
        clock: The column of the event times.
        low: The first event time.
        high: The end, not included.
    """

    clock: Clock
    low: int | None
    high: int | None

    @property
    def columns(self) -> list[str]:
        """The columns of the condition."""
        return list(dict.fromkeys([self.clock.column, _ROWTIME]))

    def may_hold(self, file: FileEntry) -> bool:
        """Return whether a file may hold rows of the range, by the event times that its commit recorded."""
        low, high = self.low, self.high
        # Commits record whole milliseconds, rounded down: a row may be later than its file's maximum.
        too_early = low is not None and file.max_event is not None and file.max_event < low // NANOS
        too_late = high is not None and file.min_event is not None and file.min_event * NANOS >= high
        return not (too_early or too_late)

    def days(self, zone: ZoneInfo) -> tuple[date | None, date | None]:
        """Return the first and the last day in a zone that can hold rows of the range."""
        low = None if self.low is None else day_of(_moment(self.low // NANOS), zone)
        high = None if self.high is None else day_of(_moment((self.high - 1) // NANOS), zone)
        return low, high

    def arrow(self, schema: pa.Schema) -> pc.Expression:
        """Return the condition for pyarrow."""
        terms = [
            pc.field(name) >= _scalar(schema.field(name).type, value)
            if at_least
            else pc.field(name) < _scalar(schema.field(name).type, value)
            for name, at_least, value in self._terms(schema, self.clock.column, self.clock.unit)
        ]
        found = _every(terms)
        if self.clock.column == _ROWTIME:
            return found
        other = EventRange(Clock(_ROWTIME, "ms"), self.low, self.high).arrow(schema)
        return found | (pc.field(self.clock.column).is_null() & other)

    def sql(self, state: FeedState) -> str:
        """Return the condition for DuckDB."""
        schema = pa.schema(arrow_schema(state.columns)) if state.columns else pa.schema([])
        terms = [
            f"{sql_name(name)} {'>=' if at_least else '<'} {_literal(schema.field(name).type, value)}"
            for name, at_least, value in self._terms(schema, self.clock.column, self.clock.unit)
        ]
        found = " AND ".join(terms) or "true"
        if self.clock.column == _ROWTIME:
            return found
        other = EventRange(Clock(_ROWTIME, "ms"), self.low, self.high).sql(state)
        return f"(({found}) OR ({sql_name(self.clock.column)} IS NULL AND {other}))"

    def polars(self, schema: pa.Schema) -> pl.Expr:
        """Return the condition for polars."""
        import polars as pl  # noqa: PLC0415 - an extra

        found = pl.lit(value=True)
        for name, at_least, value in self._terms(schema, self.clock.column, self.clock.unit):
            bound = pl.lit(value)
            if pa.types.is_timestamp(schema.field(name).type):
                bound = bound.cast(pl.Datetime("ms", "UTC"))
            found = found & (pl.col(name) >= bound if at_least else pl.col(name) < bound)
        if self.clock.column == _ROWTIME:
            return found
        other = EventRange(Clock(_ROWTIME, "ms"), self.low, self.high).polars(schema)
        return found | (pl.col(self.clock.column).is_null() & other)

    def _terms(self, schema: pa.Schema, name: str, unit: str) -> Iterator[tuple[str, bool, int]]:
        """Yield each condition: the column, whether it is a lower bound, and the bound in the column's unit."""
        numbers = not pa.types.is_timestamp(schema.field(name).type)
        for at_least, bound in ((True, self.low), (False, self.high)):
            if bound is None:
                continue
            # The smallest number that is not before the bound; timestamps have whole milliseconds.
            value = -(-bound // _UNIT_NANOS[unit if numbers else "ms"])
            if -_INT64 <= value < _INT64:
                yield name, at_least, value
            elif at_least == (value > 0):
                # No number of the column's type reaches the bound: the range is empty.
                yield name, False, -_INT64


def _every(terms: list[pc.Expression]) -> pc.Expression:
    if not terms:
        return pc.field(_ROWTIME).is_valid() | pc.field(_ROWTIME).is_null()
    found = terms[0]
    for term in terms[1:]:
        found = found & term
    return found


def _scalar(kind: pa.DataType, value: int) -> pa.Scalar:
    if pa.types.is_timestamp(kind):
        return pa.scalar(value, pa.timestamp("ms", "UTC")).cast(kind)
    return pa.scalar(value, pa.int64())


def _literal(kind: pa.DataType, value: int) -> str:
    if not pa.types.is_timestamp(kind):
        return f"CAST({value} AS BIGINT)"
    return f"TIMESTAMPTZ {sql_text(_moment(value).isoformat())}"


def _moment(milliseconds: int) -> datetime:
    """Return an instant; one outside Python's years becomes the first or last possible instant."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if milliseconds > 0 else datetime.min.replace(tzinfo=UTC)

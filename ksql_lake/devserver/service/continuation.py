"""Scalable push queries: read a derived source's own log from given offsets, with a token after each batch."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import random
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from ksql_lake.devserver.faults import TOKEN_FAULTS, Fault
from ksql_lake.devserver.framing import Framing, compact
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError
from ksql_lake.devserver.property_rules import CATCH_UPS, INSTALLED, LATEST_DELAY, PUSH_V2, TOKENS
from ksql_lake.devserver.service.negotiation import QueryRequest
from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.sql.row_text import row_text
from ksql_lake.devserver.sql.source_columns import quoted
from ksql_lake.devserver.store.running_queries import RowBatch, RunningQueries, RunningQuery, in_chunks
from ksql_lake.devserver.store.sources import Catalog

TOKEN = "request.ksql.query.push.continuation.token"  # noqa: S105 - the name of a request's key
RECORDS = 500
"""Most records of the log in one batch."""
LEGACY_ROWS = (500, 2000)
"""Rows of a backlog, at least and at most, after which the older writer is cut off; chosen at random."""
_NOTHING = pa.array([], pa.string())
_PLACES = re.compile(r"\bROW(PARTITION|OFFSET)\b")


def encode(start: list[int], end: list[int]) -> str:
    """Return the token of a batch: the offsets before it and after it, by partition."""
    return base64.b64encode(compact({"s": {"o": start}, "e": {"o": end}, "v": 0}).encode()).decode()


def decode(token: object, statement: str) -> tuple[int, ...]:
    """Return the offsets at which a token continues, by partition.

    Raises:
        RefusedError: It is no token; the error names the statement.
    """
    try:
        offsets = json.loads(base64.b64decode(str(token), validate=True))["e"]["o"]
        return tuple(int(offset) for offset in offsets)
    except (binascii.Error, ValueError, TypeError, KeyError):
        why = "Couldn't decode push offset range token"
        raise RefusedError(why, statement=statement, shown="chunked") from None


def queue_full() -> RefusedError:
    """Return the end of an answer whose client is slower than its rows."""
    return _failure("Hit limit of request queue")


@dataclass(frozen=True, slots=True)
class _Log:
    """A log at one moment.

    Attributes:
        until: The arrival number of its next record.
        starts: The first offset that each partition has.
        ends: The next offset of each partition.
    """

    until: int
    starts: list[int]
    ends: list[int]


@dataclass(frozen=True, slots=True)
class _Read:
    """Some records: the rows that a client gets of them, and the offsets after them."""

    rows: pa.StringArray
    to: list[int]
    last: bool = False


@dataclass(frozen=True, slots=True)
class LogReading:
    """What scalable push queries need of their server.

    Attributes:
        settings: The settings of the server.
        interval: Seconds without a row after which a token is sent.
    """

    queries: RunningQueries
    catalog: Catalog
    settings: Mapping[str, str]
    interval: float

    def asked(self, plan: QueryPlan, asked: QueryRequest) -> tuple[int, ...] | None:
        """Return where a query begins in its source's own log, () for its end; None for any other query.

        If one condition fails it is an ordinary push, without notice. Properties count only as JSON's true.

        Raises:
            RefusedError: The request's token is none, or the select list has a `*` and other columns.
        """
        outputs = [plan.where, *(item.expression for item in plan.projections)]
        scalable = (
            plan.kind == "push"
            and self.settings[INSTALLED] == "true"
            and asked.properties.get(PUSH_V2, self.settings[PUSH_V2] == "true") is True
            and isinstance(asked.properties.get(TOKENS, False), bool)
            and not asked.earliest
            and len(self.catalog.writers(plan.source.name)) == 1
            and not any(_PLACES.search(text) for text in outputs)
        )
        if not scalable:
            return None
        if not plan.star and any(item.starred for item in plan.projections):
            why = "Scalable push queries cannot combine * with other columns."
            raise RefusedError(why, statement=asked.text, shown="chunked")
        token = asked.request_properties.get(TOKEN)
        return () if token is None else decode(token, asked.text)

    def begin(
        self, query: RunningQuery, framing: Framing, asked: tuple[int, ...], faults: tuple[Fault, ...]
    ) -> ScalablePush:
        """Return the rows of one query, from the offsets that `asked` found; `faults` strike it."""
        return ScalablePush(query, self, framing, asked, faults)


@dataclass(eq=False)
class ScalablePush:
    """The rows of one scalable push query.

    Attributes:
        server: Its server.
        asked: The offsets of the client's token, -1 for a partition's end; () begins at the log's end.
        faults: The faults that strike it.
    """

    query: RunningQuery
    server: LogReading
    framing: Framing
    asked: tuple[int, ...]
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        self._tokens = self.query.properties.get(TOKENS, self.server.settings[TOKENS] == "true")
        self._pending: dict[str, Fault] = {
            fault.kind: fault for fault in self.faults if fault.kind in TOKEN_FAULTS
        }
        self._position: list[int] = []
        self._sent = self._skip = 0
        self._recent: list[pa.StringArray] = []
        self._partitions = self.query.plan.source.partitions
        legacy = bool(self.framing.keepalive) and bool(self.asked)
        self._allowance = random.randint(*LEGACY_ROWS) if legacy else None  # noqa: S311 - no secret

    async def batches(self, *, framed: bool) -> AsyncGenerator[RowBatch, None]:
        """Yield batches of rows, each with its token, until the query has ended.

        Args:
            framed: Whether rows are put into HTTP chunks.

        Raises:
            RefusedError: Too many queries catch up, the older writer has too many rows to send, or the token
                has another number of partitions.
        """
        self._admit()
        self._position = _begin(self.asked, await self.server.queries.in_thread(self._look))
        await self.query.pause(int(self.server.settings[LATEST_DELAY]) / 1000)
        while not self.query.over:
            self.query.arrived.clear()
            log = await self.server.queries.in_thread(self._look)
            quiet, moved = True, False
            async with aclosing(self._sweep(log, framed=framed)) as reads:
                async for read in reads:
                    quiet = False
                    for batch in self._batches(read):
                        yield batch
                    moved = self._moved(read, log)
                    if moved:
                        break
            if moved:
                continue
            self.query.catching_up = False
            if not self._fits():
                await self.query.pause(self.server.interval)
                given = f"other:{self._partitions},  offsets:{len(self.asked)}"
                raise _failure(f"java.lang.IllegalStateException: Should be equal {given}")
            if quiet and not await self._arrived() and not self._beyond(log):
                for batch in self._batches(_Read(_NOTHING, self._reached(log))):
                    yield batch

    def _admit(self) -> None:
        """Take one of the catch-up places of a source."""
        if not self.asked:
            return
        source = self.query.plan.source
        there = sum(item.catching_up and item.plan.source is source for item in self.server.queries.all())
        most = int(self.server.settings[CATCH_UPS])
        if there >= most or "catch_ups_full" in self._pending:
            raise _failure(f"Too many catchups registered, {CATCH_UPS}:{most}")
        self.query.catching_up = True

    def _batches(self, read: _Read) -> Iterator[RowBatch]:
        """Yield the batch of some records, and what a fault adds to it."""
        rows = read.rows
        self._sent += len(rows)
        if self._allowance is not None and self.query.catching_up and self._sent > self._allowance:
            yield RowBatch(rows.slice(0, len(rows) - (self._sent - self._allowance)))
            raise queue_full()
        short = self._struck("short_batch", read)
        if short is not None:
            rows = rows.slice(0, max(0, len(rows) - short.rows))
        yield RowBatch(rows, self._token(self._position, read.to))
        self._position = read.to
        if "repeated_batch" in self._pending:
            self._recent.append(rows)
        repeated = self._struck("repeated_batch", read)
        if repeated is not None:
            whole = pa.concat_arrays(self._recent)
            self._recent = []
            yield RowBatch(whole.slice(max(0, len(whole) - repeated.rows)), self._token(read.to, read.to))

    def _moved(self, read: _Read, log: _Log) -> bool:
        """Whether the next batch does not begin where this one ended."""
        overlapping, skipped = self._struck("overlapping_batch", read), self._struck("skipped_batch", read)
        if overlapping is not None:
            pairs = zip(self._position, log.starts, strict=True)
            self._position = [max(start, at - overlapping.rows) for at, start in pairs]
        if skipped is not None:
            self._skip = skipped.rows
        return overlapping is not None or skipped is not None

    def _struck(self, kind: str, read: _Read) -> Fault | None:
        """Return the switch of this kind if it is due; it strikes each query once."""
        fault = self._pending.get(kind)
        if fault is None or not (read.last if fault.after_rows is None else self._sent >= fault.after_rows):
            return None
        return self._pending.pop(kind)

    def _token(self, start: list[int], end: list[int]) -> str:
        return encode(start, end) if self._tokens and self._fits() else ""

    def _fits(self) -> bool:
        """Whether the client's token has as many partitions as the log."""
        return not self.asked or len(self.asked) == self._partitions

    def _look(self) -> _Log:
        source = self.query.plan.source
        with self.server.catalog.lock:
            numbers = range(self._partitions)
            return _Log(
                source.rows,
                [source.starts.get(number, 0) for number in numbers],
                [source.ends.get(number, 0) for number in numbers],
            )

    def _beyond(self, log: _Log) -> bool:
        """Whether every partition ends before its position; the server never reports that."""
        return all(at > end for at, end in zip(self._position, log.ends, strict=True))

    def _first(self, log: _Log) -> list[int]:
        """Return each partition's position, or its end if the log no longer has the position."""
        return [
            end if at < start else at
            for at, start, end in zip(self._position, log.starts, log.ends, strict=True)
        ]

    def _reached(self, log: _Log) -> list[int]:
        return [max(pair) for pair in zip(self._first(log), log.ends, strict=True)]

    async def _arrived(self) -> bool:
        """Wait for rows, or for the time at which a token is due."""
        try:
            async with asyncio.timeout(self.server.interval):
                await self.query.arrived.wait()
        except TimeoutError:
            return False
        return True

    async def _sweep(self, log: _Log, *, framed: bool) -> AsyncGenerator[_Read, None]:
        """Yield what the log has after the position, in batches."""
        at = self._first(log)
        if not any(first < end for first, end in zip(at, log.ends, strict=True)):
            return
        if self._skip:
            pairs = zip(at, log.ends, strict=True)
            at = self._position = [min(first + self._skip, max(first, end)) for first, end in pairs]
            self._skip = 0
        held: _Read | None = None
        sql = log_sql(self.query.plan, self.framing, at, log.until, framed=framed)
        async with aclosing(self.server.queries.records(self.query, sql)) as parts:
            async for part in parts:
                for first in range(0, part.num_rows, RECORDS):
                    if held is not None:
                        yield held
                    held = _read(part.slice(first, RECORDS), at)
                    at = held.to
        if not self.query.over:  # a query stopped in its middle has not reached the end
            rows = held.rows if held is not None else _NOTHING
            yield _Read(rows, self._reached(log), last=True)


def _begin(asked: tuple[int, ...], log: _Log) -> list[int]:
    """Return the offset at which each partition is read first."""
    given = dict(enumerate(asked))
    return [given.get(number, -1) if given.get(number, -1) >= 0 else end for number, end in enumerate(log.ends)]


def _failure(message: str) -> RefusedError:
    return RefusedError(message, code=SERVER_ERROR, statement=None)


def _read(part: pa.RecordBatch, at: list[int]) -> _Read:
    """Return the rows of some records, one partition after the other, as a consumer gets them."""
    places, offsets = part.column(1).to_numpy(), part.column(2).to_numpy()
    to = list(at)
    for number in np.unique(places).tolist():
        to[number] = int(offsets[places == number].max()) + 1
    ordered = part.column(0).take(pa.array(np.argsort(places, kind="stable")))
    return _Read(cast("pa.StringArray", ordered.drop_null()), to)


def log_sql(plan: QueryPlan, framing: Framing, at: list[int], until: int, *, framed: bool) -> str:
    """Return the query for records of a log in order: text (NULL where a client gets none), partition, offset.

    Args:
        plan: The plan of the query.
        framing: The text around a row's values.
        at: The first offset of each partition.
        until: The arrival number at which to stop.
        framed: Whether rows are put into HTTP chunks.
    """
    source = plan.source
    values = [(item.type, item.expression) for item in plan.projections]
    gap = "" if framed else framing.gap
    text = row_text(values, before=framing.before_row, after=framing.after_row + gap)
    keyless = " AND ".join(f"{quoted(item.stored_as)} IS NULL" for item in source.keys) or "FALSE"
    shown = f"({plan.where}) AND NOT ({keyless})"
    if source.kind == "TABLE":
        shown += " AND NOT __TOMBSTONE"
    here = " OR ".join(f"(ROWPARTITION = {number} AND ROWOFFSET >= {first})" for number, first in enumerate(at))
    records = (
        f"SELECT CASE WHEN {shown} THEN {text} END AS r, ROWPARTITION AS p, ROWOFFSET AS o "
        f"FROM {quoted(source.storage)} WHERE __SEQ < {until} AND ({here})"
    )
    # A scan keeps the order of arrival, so no sort delays the first row.
    text = f"CASE WHEN r IS NOT NULL THEN {in_chunks(framing)} END" if framed else "r"
    return f"SELECT {text} AS r, p, o FROM ({records})"

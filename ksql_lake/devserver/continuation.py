"""Scalable push queries: a derived source's own log, read from given offsets on, a token behind each batch.

A token holds offsets of the sink's topic, not of its source's. What goes wrong around it on running servers is
either done here as they do it, or a switch.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.columns import quoted
from ksql_lake.devserver.faults import Fault
from ksql_lake.devserver.framing import Framing, compact
from ksql_lake.devserver.negotiation import QueryRequest
from ksql_lake.devserver.plan import QueryPlan
from ksql_lake.devserver.properties import CATCH_UPS, INSTALLED, LATEST_DELAY, PUSH_V2, TOKENS
from ksql_lake.devserver.refusals import SERVER_ERROR, RefusedError
from ksql_lake.devserver.running import RowBatch, RunningQueries, RunningQuery, in_chunks
from ksql_lake.devserver.wire import row_text

TOKEN = "request.ksql.query.push.continuation.token"  # noqa: S105 - the name of a request's key
RECORDS = 500
"""How many records of the log one batch has at most."""
LEGACY_ROWS = (500, 2000)
"""Between these, the older writer is cut off when it has a backlog to send."""
_PLACES = re.compile(r"\bROW(PARTITION|OFFSET)\b")


def encode(start: list[int], end: list[int]) -> str:
    """The token of a batch: the offsets before it and behind it, by partition."""
    return base64.b64encode(compact({"s": {"o": start}, "e": {"o": end}, "v": 0}).encode()).decode()


def decode(token: object, statement: str) -> tuple[int, ...]:
    """The offsets at which a token says to go on, by partition.

    Raises:
        RefusedError: It is no token; the error names the statement.
    """
    try:
        offsets = json.loads(base64.b64decode(str(token), validate=True))["e"]["o"]
        return tuple(int(offset) for offset in offsets)
    except (binascii.Error, ValueError, TypeError, KeyError):
        refusal = RefusedError("Couldn't decode push offset range token", statement=statement)
        refusal.shown = "chunked"
        raise refusal from None


def scalable(
    plan: QueryPlan, asked: QueryRequest, catalog: Catalog, settings: Mapping[str, str], *, known: bool
) -> bool:
    """Whether a query reads its source's own log; where one condition fails it is an ordinary push, silently.

    Args:
        plan: The query.
        asked: The request, whose properties count only as JSON's true.
        catalog: Who writes the source.
        settings: The server's.
        known: This release has continuation tokens.
    """
    outputs = [plan.where, *(item.expression for item in plan.projections)]
    return (
        known
        and plan.kind == "push"
        and settings[INSTALLED] == "true"
        and asked.properties.get(PUSH_V2, settings[PUSH_V2] == "true") is True
        and (TOKENS not in asked.properties or isinstance(asked.properties[TOKENS], bool))
        and not asked.earliest
        and len(catalog.writers(plan.source.name)) == 1
        and not any(_PLACES.search(text) for text in outputs)
    )


@dataclass(frozen=True, slots=True)
class _Log:
    """A log as it is at one moment.

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
    """Some records: the rows that a client gets of them, and the offsets behind them."""

    rows: pa.StringArray
    to: list[int]
    last: bool = False


@dataclass(eq=False)
class Continuation:
    """The rows of one scalable push query.

    Attributes:
        settings: The server's.
        asked: The offsets of the client's token, -1 for a partition's end; () begins at the log's end.
        tokens: Tokens are sent.
        interval: Seconds after which a token is sent although there is no row.
        faults: What goes wrong.
    """

    query: RunningQuery
    queries: RunningQueries
    catalog: Catalog
    framing: Framing
    settings: Mapping[str, str]
    asked: tuple[int, ...]
    tokens: bool
    interval: float
    faults: tuple[Fault, ...] = ()
    position: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.query.catching_up = bool(self.asked)

    async def batches(self, *, framed: bool) -> AsyncGenerator[RowBatch, None]:
        """Batches of rows, each with its token, until the query is over.

        Args:
            framed: Rows are put into HTTP chunks.

        Raises:
            RefusedError: Too many catch up already, or the token has another number of partitions.
        """
        self._admit()
        begun = await self.queries.in_thread(self._look)
        self.position = _begin(self.asked, begun)
        await self.query.pause(int(self.settings[LATEST_DELAY]) / 1000)
        while not self.query.over:
            self.query.arrived.clear()
            log = await self.queries.in_thread(self._look)
            quiet = True
            async with aclosing(self._sweep(log, framed=framed)) as reads:
                async for read in reads:
                    quiet = False
                    yield self._batch(read)
            self.query.catching_up = False
            if not self._fits(log.ends):
                await self.query.pause(self.interval)
                raise _failure(
                    f"java.lang.IllegalStateException: Should be equal other:{len(log.ends)},  "
                    f"offsets:{len(self.asked)}"
                )
            if quiet and not await self._arrived() and not self._beyond(log):
                yield self._batch(_Read(pa.array([], pa.string()), self._reached(log)))

    def _admit(self) -> None:
        """Take one of the places that a source has for catch-ups."""
        if not self.query.catching_up:
            return
        source = self.query.plan.source
        there = [item for item in self.queries.all() if item.catching_up and item.plan.source is source]
        most = int(self.settings[CATCH_UPS])
        if len(there) > most:
            self.query.catching_up = False
            raise _failure(f"Too many catchups registered, {CATCH_UPS}:{most}")

    def _fits(self, partitions: list[int]) -> bool:
        """Whether the client's token has as many partitions."""
        return not self.asked or len(self.asked) == len(partitions)

    def _look(self) -> _Log:
        source = self.query.plan.source
        with self.catalog.lock:
            numbers = range(source.partitions)
            return _Log(
                source.rows,
                [source.starts.get(number, 0) for number in numbers],
                [source.ends.get(number, 0) for number in numbers],
            )

    def _beyond(self, log: _Log) -> bool:
        """Whether every partition ends before the place where it is to be read: nothing is ever said of it."""
        return all(at > end for at, end in zip(self.position, log.ends, strict=True))

    def _first(self, log: _Log) -> list[int]:
        """Where each partition is read on: what the log has no longer is left out, and with it all the rest."""
        return [
            end if at < start else at
            for at, start, end in zip(self.position, log.starts, log.ends, strict=True)
        ]

    def _reached(self, log: _Log) -> list[int]:
        return [max(pair) for pair in zip(self._first(log), log.ends, strict=True)]

    async def _arrived(self) -> bool:
        """Wait for rows, or for the time at which a token is due."""
        try:
            async with asyncio.timeout(self.interval):
                await self.query.arrived.wait()
        except TimeoutError:
            return False
        return True

    async def _sweep(self, log: _Log, *, framed: bool) -> AsyncGenerator[_Read, None]:
        """What the log has behind the position, in batches."""
        at = self._first(log)
        if not any(first < end for first, end in zip(at, log.ends, strict=True)):
            return
        held: _Read | None = None
        sql = log_sql(self.query.plan, self.framing, at, log.until, framed=framed)
        async with aclosing(self.queries.records(self.query, sql)) as parts:
            async for part in parts:
                for first in range(0, part.num_rows, RECORDS):
                    if held is not None:
                        yield held
                    held = _read(part.slice(first, RECORDS), at)
                    at = held.to
        if not self.query.over:  # stopped in the middle, the end was not reached
            rows = held.rows if held is not None else pa.array([], pa.string())
            yield _Read(rows, self._reached(log), last=True)

    def _batch(self, read: _Read) -> RowBatch:
        token = encode(self.position, read.to) if self.tokens and self._fits(read.to) else ""
        self.position = read.to
        return RowBatch(read.rows, token)


def _begin(asked: tuple[int, ...], log: _Log) -> list[int]:
    """The offset at which each partition is read first."""
    given = dict(enumerate(asked))
    return [given.get(number, -1) if given.get(number, -1) >= 0 else end for number, end in enumerate(log.ends)]


def _failure(message: str) -> RefusedError:
    return RefusedError(message, code=SERVER_ERROR, statement=None)


def _read(part: pa.RecordBatch, at: list[int]) -> _Read:
    """The rows of some records, one partition's behind the other's, as a consumer gets them."""
    places, offsets = part.column(1).to_numpy(), part.column(2).to_numpy()
    to = list(at)
    for number in np.unique(places).tolist():
        to[number] = int(offsets[places == number].max()) + 1
    ordered = part.column(0).take(pa.array(np.argsort(places, kind="stable")))
    return _Read(ordered.drop_null(), to)


def log_sql(plan: QueryPlan, framing: Framing, at: list[int], until: int, *, framed: bool) -> str:
    """The query for records of a log in order: text (NULL where a client gets none), partition, offset.

    Args:
        plan: What is asked.
        framing: What stands around a row's values.
        at: The first offset of each partition.
        until: The arrival number at which to stop.
        framed: Rows are put into HTTP chunks.
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
        f"SELECT __SEQ, CASE WHEN {shown} THEN {text} END AS r, ROWPARTITION AS p, ROWOFFSET AS o "
        f"FROM {quoted(source.storage)} WHERE __SEQ < {until} AND ({here})"
    )
    told = f"CASE WHEN r IS NOT NULL THEN {in_chunks(framing)} END" if framed else "r"
    return f"SELECT {told} AS r, p, o FROM ({records}) ORDER BY __SEQ"

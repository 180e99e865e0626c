"""Write one query's answer: head, rows, end, and the faults that are switched on for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import duckdb
from starlette.types import Receive, Scope, Send

from ksql_lake.devserver.cluster.node import Node, Route
from ksql_lake.devserver.faults import STOPPING, Fault
from ksql_lake.devserver.framing import Framing, Parts
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError
from ksql_lake.devserver.property_rules import outlives
from ksql_lake.devserver.service.body import AnswerBody
from ksql_lake.devserver.service.continuation import ScalablePush, queue_full
from ksql_lake.devserver.service.endings import KEEPALIVE_SECONDS, strike
from ksql_lake.devserver.service.replies import client_left
from ksql_lake.devserver.service.table_rows import table_rows
from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.store.running_queries import RowBatch, RunningQueries, RunningQuery, rows_sql
from ksql_lake.devserver.store.transactions import committed, endless, reads_committed, stable

SLOW_STEP_SECONDS = 0.05


class _FaultStruckError(Exception):
    """The answer ends here because of a fault."""


@dataclass(eq=False)
class QueryAnswer:
    """An ASGI application that writes the answer of one running query.

    Attributes:
        earliest: Whether a push query starts with the rows that exist.
        final_message: Whether stream pulls announce their end (since 0.25).
        row_chunks: Whether rows leave in the HTTP chunks of the framing, or else in large ones.
        labelled: Whether the answer states its content type.
        refusal: Why the query fails before its first row; None if it does not.
        empty: Whether the answer ends as if there were no rows.
        forward_loss: Rows of each other node that get lost on their way.
        continuation: What reads the source's own log instead; None for all but scalable push queries.
    """

    query: RunningQuery
    queries: RunningQueries
    node: Node
    route: Route
    framing: Framing
    earliest: bool
    final_message: bool
    row_chunks: bool
    labelled: bool = True
    faults: tuple[Fault, ...] = ()
    refusal: str | None = None
    empty: bool = False
    forward_loss: int = 0
    continuation: ScalablePush | None = None

    def __post_init__(self) -> None:
        self._left = self.query.plan.limit
        stoppers = [fault for fault in self.faults if fault.kind in STOPPING]
        if not self.framing.closable:  # no client can close a query of the older writer
            stoppers = [fault for fault in stoppers if fault.kind != "stranger_close"]
        self._stopper = stoppers[0] if stoppers else None
        self._impatience = next((fault.pause_ms / 1000 for fault in self.faults if self._hurries(fault)), None)
        self._slow = next((fault for fault in self.faults if fault.kind == "slow"), None)
        self._replay = next((fault for fault in self.faults if self._repeats(fault)), None)
        self._duplicate = next((fault for fault in self.faults if fault.kind == "duplicate"), None)
        self._overshoots = any(fault.kind == "overshoot" for fault in self.faults)
        self._endless = any(fault.kind == "endless" for fault in self.faults)
        self.query.listed = not any(fault.kind == "no_positions" for fault in self.faults)
        self._framed = self.row_chunks and not self.framing.gathered
        self._commits = self.query.plan.source.kind == "STREAM" and reads_committed(self.query.properties)
        self._tail: tuple[RowBatch, int] | None = None

    def _hurries(self, fault: Fault) -> bool:
        return fault.kind == "slow_reader" and self.query.plan.kind != "pull_stream"

    def _repeats(self, fault: Fault) -> bool:
        lost = fault.kind == "session_lost" and self.query.plan.kind != "pull_table"
        return fault.kind == "replay" or (lost and not outlives(fault.pause_ms, self.query.properties))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the whole answer; only HTTP/1.1 has chunks to put rows into."""
        self._framed = self._framed and scope["http_version"] == "1.1"
        body = AnswerBody(scope, send, self.framing, framed=self._framed)
        watcher = asyncio.create_task(self._watch(receive))
        try:
            await body.start(self.framing.content_type if self.labelled else None)
            await self._run(body)
        finally:
            watcher.cancel()
            self.queries.remove(self.query)

    async def _watch(self, receive: Receive) -> None:
        await client_left(receive)
        self.query.leave()

    async def _run(self, body: AnswerBody) -> None:
        try:
            await self._rows(body)
            self._check_alive()
            if self._stopper is not None and self._stopper.after_rows is None and not self.query.over:
                await self._strike(body, self._stopper, b"")
            if self.query.broken:
                self.query.state = "stopped"
                await body.cut(self.query.gone)
        except _FaultStruckError:
            return
        except RefusedError as refusal:
            await self._fail(body, refusal)
        except (duckdb.Error, OSError) as error:
            await self._fail(body, RefusedError(str(error).splitlines()[0], code=SERVER_ERROR, statement=None))
        else:
            self.query.conclude()
            await body.complete(*self._end())
        await body.end()

    def _check_alive(self) -> None:
        if self.query.failure is not None:
            raise RefusedError(self.query.failure, code=SERVER_ERROR, statement=None)

    async def _fail(self, body: AnswerBody, refusal: RefusedError) -> None:
        self.query.state = "failed"
        if self.query.loses_errors:
            await body.complete(*self._end())
        else:
            await body.finish(*self.framing.error(refusal.body()))

    def _end(self) -> Parts:
        kind = self.query.plan.kind
        if self._left == 0 and kind != "pull_table":
            return self.framing.final("Limit Reached", limit=True)
        if self.query.stop.is_set() and self.framing.keepalive:
            return self.framing.end  # the legacy writer says nothing when a push query stops
        if self.continuation is not None:
            return self.framing.end  # nothing completes a scalable push query
        if kind == "push" or (kind == "pull_stream" and self.final_message):
            return self.framing.final("Query Completed")
        return self.framing.end

    async def _rows(self, body: AnswerBody) -> None:
        if self.refusal:
            raise RefusedError(self.refusal, code=SERVER_ERROR, statement=None)
        if self.empty:
            return
        async with aclosing(self._source(body)) as batches:
            async for batch in batches:
                count = batch.count if self._left is None else min(batch.count, self._left)
                await self._send(body, batch, count)
                await self._send_again(body, batch, count)
                if self.query.forgotten:  # the task starts again at its last commit: before this batch
                    self.query.forgotten = False
                    await self._send_rows(body, batch, 0, count)
                if batch.token:
                    async with self._patience(body):
                        await body.text(*self.framing.token(batch.token))
                if self._left is not None:
                    self._left -= count
                if self._left == 0:
                    break
        if self._duplicate is not None and self._tail is not None:
            last, count = self._tail
            await self._send_rows(body, last, max(0, count - self._duplicate.rows), count)

    def _source(self, body: AnswerBody) -> AsyncGenerator[RowBatch, None]:
        if self.continuation is not None:
            return self._alive(body, self.continuation.batches(framed=self._framed))
        return self._pushed(body) if self.query.plan.kind == "push" else self._alive(body, self._pulled())

    async def _alive(
        self, body: AnswerBody, batches: AsyncGenerator[RowBatch, None]
    ) -> AsyncGenerator[RowBatch, None]:
        """Yield the batches as they come; in each second without one the legacy writer sends a sign of life."""
        async with aclosing(batches):
            while True:
                step = asyncio.ensure_future(anext(batches, None))
                try:
                    while not (await asyncio.wait([step], timeout=KEEPALIVE_SECONDS))[0]:
                        await body.text(self.framing.keepalive)
                except asyncio.CancelledError:
                    step.cancel()
                    await asyncio.wait([step])
                    raise
                batch = step.result()
                if batch is None:
                    return
                yield batch

    async def _pulled(self) -> AsyncGenerator[RowBatch, None]:
        if self._left == 0:
            return
        source = self.query.plan.source
        if self.query.plan.kind == "pull_table":
            rows = table_rows(
                self.query, self.node, self.route, self._frame, self._scan_table, self.forward_loss
            )
            async with aclosing(rows) as batches:
                async for batch in batches:
                    yield batch
            return
        end = source.rows
        rows = self._committed(end) if self._commits else self._scan(0, end)
        async with aclosing(rows) as batches:
            async for batch in batches:
                yield batch
        if self._overshoots and source.rows > end:
            async with aclosing(self._scan(end, source.rows, overshoot=True)) as batches:
                async for batch in batches:
                    yield batch
        await self._wait_for_ever()

    async def _committed(self, end: int) -> AsyncGenerator[RowBatch, None]:
        """Yield rows up to arrival number `end` that were not aborted; wait while a transaction is open."""
        plan = self.query.plan
        held = await self._stable(end)
        async with aclosing(self._scan(0, end, plan=committed(plan, above=None, below=held))) as batches:
            async for batch in batches:
                yield batch
        if not held:
            return
        while not self.query.over and await self._stable(end):
            self.query.arrived.clear()
            if await self._stable(end):
                await self.query.arrived.wait()
        async with aclosing(self._scan(0, end, plan=committed(plan, above=held, below={}))) as batches:
            async for batch in batches:
                yield batch

    async def _stable(self, end: int) -> dict[int, int]:
        return await self.queries.with_cursor(lambda cursor: stable(self.query.plan.source, end, cursor))

    async def _wait_for_ever(self) -> None:
        """Wait without end: a partition without a row for this reader has an end that a pull never sees."""
        source = self.query.plan.source
        never = await self.queries.with_cursor(
            lambda cursor: endless(source, committed=self._commits, cursor=cursor)
        )
        if never:
            await self.query.pause(None)

    def _frame(self, values: str) -> str:
        row = self.framing.before_row + values + self.framing.after_row
        return f"{len(row.encode()):x}\r\n{row}\r\n" if self._framed else row

    def _scan_table(self, plan: QueryPlan) -> AsyncGenerator[RowBatch, None]:
        sql = rows_sql(plan, self.framing, span=(0, 0), chunked=self._framed)
        return self.queries.batches(self.query, sql)

    async def _scan(
        self, first: int, last: int, *, overshoot: bool = False, plan: QueryPlan | None = None
    ) -> AsyncGenerator[RowBatch, None]:
        sql = rows_sql(
            plan or self.query.plan, self.framing, span=(first, last), chunked=self._framed, overshoot=overshoot
        )
        async with aclosing(self.queries.batches(self.query, sql)) as batches:
            async for batch in batches:
                yield batch

    async def _pushed(self, body: AnswerBody) -> AsyncGenerator[RowBatch, None]:
        source = self.query.plan.source
        since = 0 if self.earliest else source.rows
        while not self.query.over:
            self.query.arrived.clear()
            until = source.rows
            if self._commits:
                before, held = self.query.held, await self._stable(until)
                for part in self._newly_committed((since, until), before, held):
                    async with aclosing(part) as batches:
                        async for batch in batches:
                            yield batch
                self.query.position, self.query.held = until, held
                if until > since or before != held:
                    since = until
                    continue
                await self._idle(body)
            elif until > since:
                async with aclosing(self._scan(since, until)) as batches:
                    async for batch in batches:
                        yield batch
                since = 0 if self._endless else until
                self.query.position = until
            elif self.query.over:
                return
            else:
                await self._idle(body)

    def _newly_committed(
        self, span: tuple[int, int], before: dict[int, int], held: dict[int, int]
    ) -> list[AsyncGenerator[RowBatch, None]]:
        """Return the scans for what a reader of committed rows gets now: held rows, then arrived ones.

        Args:
            span: Arrival numbers that are new.
            before: Offsets from which on rows were held until now.
            held: The same from now on.
        """
        plan = self.query.plan
        scans = [self._scan(*span, plan=committed(plan, above=None, below=held))] if span[1] > span[0] else []
        released = {number: first for number, first in before.items() if held.get(number) != first}
        if released:
            scans.insert(0, self._scan(0, span[0], plan=committed(plan, above=released, below=held)))
        return scans

    async def _idle(self, body: AnswerBody) -> None:
        """Wait for rows; the legacy writer sends a sign of life every second."""
        try:
            async with asyncio.timeout(KEEPALIVE_SECONDS if self.framing.keepalive else None):
                await self.query.arrived.wait()
        except TimeoutError:
            await body.text(self.framing.keepalive)

    async def _send(self, body: AnswerBody, batch: RowBatch, count: int) -> None:
        stop_at = self._stopper.after_rows if self._stopper is not None else None
        struck = stop_at is not None and self.query.rows + count > stop_at
        whole = (stop_at or 0) - self.query.rows if struck else count
        if self._slow is not None:
            await self._send_slowly(body, batch, whole, self._slow.rows_per_second)
        elif whole:
            await self._send_rows(body, batch, 0, whole)
        self._tail = (batch, count)
        if struck and self._stopper is not None:
            row = bytes(batch.rows(whole, whole + 1))
            await self._strike(body, self._stopper, row[: len(row) // 2])

    async def _send_again(self, body: AnswerBody, batch: RowBatch, count: int) -> None:
        """Repeat the rows before the replay's place, as a task does whose offsets were not committed."""
        replay = self._replay
        if replay is None or self.query.rows < (replay.after_rows or 0):
            return
        self._replay = None
        last = count - (self.query.rows - (replay.after_rows or self.query.rows))
        await self._send_rows(body, batch, max(0, last - replay.rows), count)

    async def _send_rows(self, body: AnswerBody, batch: RowBatch, first: int, last: int) -> None:
        async with self._patience(body):
            await body.rows(batch, first, last)
        self.query.rows += last - first

    @asynccontextmanager
    async def _patience(self, body: AnswerBody) -> AsyncIterator[None]:
        """Cut off a client that reads nothing for too long; a scalable push query reports why."""
        try:
            async with asyncio.timeout(self._impatience):
                yield
        except TimeoutError:
            if self.continuation is not None:
                raise queue_full() from None
            self.query.state = "slow_reader"
            await body.cut(self.query.gone)
            raise _FaultStruckError from None

    async def _send_slowly(self, body: AnswerBody, batch: RowBatch, count: int, speed: float) -> None:
        step = max(1, int(speed * SLOW_STEP_SECONDS))
        for first in range(0, count, step):
            if self.query.over:
                return
            last = min(first + step, count)
            await self._send_rows(body, batch, first, last)
            await body.flush()
            await self.query.pause((last - first) / speed)

    async def _strike(self, body: AnswerBody, fault: Fault, half_row: bytes) -> None:
        """End the answer as the fault says; `half_row` is the beginning of the row that would come next."""
        self.query.state = fault.kind
        if fault.kind == "failure":
            await self._fail(body, RefusedError(fault.message, code=fault.code, statement=None))
            self.query.state = "failure"
            await body.end()
        else:
            await strike(fault, half_row, body, self.query, self.framing, self._end())
        raise _FaultStruckError

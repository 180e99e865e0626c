"""The rows of a table pull over several nodes, and the door where one node gives its rows to another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pyarrow as pa
from starlette.types import Receive, Scope, Send

from ksql_lake.devserver.cluster.forwarding import ForwardingError, forwarded
from ksql_lake.devserver.framing import Framing
from ksql_lake.devserver.node import Node, Route
from ksql_lake.devserver.plan import QueryPlan
from ksql_lake.devserver.refusals import SERVER_ERROR, RefusedError
from ksql_lake.devserver.running import RowBatch, RunningQueries, RunningQuery
from ksql_lake.devserver.stores import restricted, store_partitions

Scan = Callable[[QueryPlan], AsyncGenerator[RowBatch, None]]


async def table_rows(
    query: RunningQuery, node: Node, route: Route, frame: Callable[[str], str], scan: Scan, loss: int = 0
) -> AsyncGenerator[RowBatch, None]:
    """The rows of a table pull.

    Args:
        query: The pull.
        node: The node that answers.
        route: Where the rows are.
        frame: Puts around a row's values what stands around them in the answer.
        scan: Reads rows of a plan from this node's own stores.
        loss: Rows of each other node that get lost on their way.

    Raises:
        RefusedError: A part cannot be had; the rows so far were sent.
    """
    if route.failure is None:
        async with aclosing(_local(query, node, route, scan)) as batches:
            async for batch in batches:
                yield batch
    for url, partitions in route.remote:
        left = loss
        try:
            lines = forwarded(url, query.statement, partitions, patience=node.patience)
            async with aclosing(lines) as blocks:
                async for block in blocks:
                    kept = _thinned(block, left)
                    left -= len(block) - len(kept)
                    yield RowBatch(pa.array(map(frame, kept), pa.string()))
        except ForwardingError:
            raise RefusedError(
                "Unable to execute pull query: Exhausted standby hosts to try.",
                code=SERVER_ERROR,
                statement=None,
            ) from None
    if route.failure is not None:
        raise route.failure


def _thinned(rows: list[str], loss: int) -> list[str]:
    """The rows without some of them, anywhere among them."""
    gone = set(random.sample(range(len(rows)), min(loss, len(rows))))
    return [row for number, row in enumerate(rows) if number not in gone]


async def _local(query: RunningQuery, node: Node, route: Route, scan: Scan) -> AsyncGenerator[RowBatch, None]:
    plan, mine = query.plan, route.local
    if mine is not None:
        plan = restricted(plan, mine, store_partitions(plan.source, node.catalog))
    async with aclosing(scan(plan)) as batches:
        first = await anext(batches, None)
        # Asked again behind the scan's beginning: a process that was paused may no longer hold what it read.
        if mine is not None and not node.readable(mine):
            raise node.unscannable()
        if first is not None:
            yield first
        async for batch in batches:
            yield batch


@dataclass(eq=False)
class ForwardedRows:
    """An ASGI application that hands rows of this node to another: the values of each row on a line."""

    query: RunningQuery
    queries: RunningQueries
    node: Node
    partitions: frozenset[int]
    scan: Scan
    rows_per_second: float | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the rows; told to stop, it ends as if there were no more."""
        watcher = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async with aclosing(_local(self.query, self.node, Route(self.partitions), self.scan)) as batches:
                async for batch in batches:
                    await self._send(batch, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watcher.cancel()
            self.queries.remove(self.query)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.query.leave()

    async def _send(self, batch: RowBatch, send: Send) -> None:
        step = batch.count if self.rows_per_second is None else max(1, int(self.rows_per_second / 20))
        for first in range(0, batch.count, step):
            if self.query.over:
                return
            last = min(first + step, batch.count)
            data = bytes(batch.rows(first, last))
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self.query.rows += last - first
            if self.rows_per_second is not None:
                await self.query.pause((last - first) / self.rows_per_second)


def bare(framing: Framing) -> Framing:
    """The framing of rows between nodes: nothing but the values, a row a line."""
    return replace(framing, before_row="", after_row="\n")

"""Read a table over several nodes: scan here, or ask the node that holds the rows."""

# A body of the other node that ends cleanly counts as complete, as on the real server, even when that node
# was stopped.

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httptools
import msgspec
import pyarrow as pa
from starlette.types import Receive, Scope, Send

from ksql_lake.devserver.cluster.node import Node, Route, restricted, store_partitions
from ksql_lake.devserver.door import Reply
from ksql_lake.devserver.framing import Framing
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError
from ksql_lake.devserver.service.replies import client_left
from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.store.running_queries import RowBatch, RunningQueries, RunningQuery

PATH = "/devserver/cluster/rows"
READ_BYTES = 1 << 16

Scan = Callable[[QueryPlan], AsyncGenerator[RowBatch, None]]


class ForwardingError(Exception):
    """The other node did not answer, or its answer broke off."""


async def forwarded(
    url: str, statement: str, partitions: frozenset[int], *, patience: float
) -> AsyncGenerator[list[str], None]:
    """Yield the texts of the values of each row, without the brackets around them, in blocks.

    Args:
        url: The other node.
        statement: The pull query.
        partitions: The partitions it is to read.
        patience: Seconds of silence after which the node is given up.

    Raises:
        ForwardingError: It refused, was silent, or its body broke off.
    """
    body = msgspec.json.encode({"statement": statement, "partitions": sorted(partitions)})
    try:
        async with asyncio.timeout(patience):
            reader, writer = await _post(url, PATH, body)
    except (OSError, TimeoutError) as error:
        raise ForwardingError(str(error) or "no answer") from None
    answer = Reply()
    parser = httptools.HttpResponseParser(answer)
    try:
        while not answer.complete:
            async with asyncio.timeout(patience):
                data = await reader.read(READ_BYTES)
            if not data:
                raise ForwardingError("its answer broke off")
            parser.feed_data(data)
            if parser.get_status_code() != 200:
                raise ForwardingError(f"it answered with status {parser.get_status_code()}")
            whole, newline, rest = bytes(answer.body).rpartition(b"\n")
            if newline:
                answer.body = bytearray(rest)
                yield whole.decode().split("\n")
    except (OSError, TimeoutError, httptools.HttpParserError) as error:
        raise ForwardingError(str(error) or "it fell silent") from None
    finally:
        writer.close()


async def asked(url: str, path: str, *, patience: float) -> bytes | None:
    """Return the body of a GET of another node; None when it does not answer in time."""
    with suppress(OSError, TimeoutError, httptools.HttpParserError):
        async with asyncio.timeout(patience):
            reader, writer = await _post(url, path, b"")
            answer = Reply()
            parser = httptools.HttpResponseParser(answer)
            try:
                while not answer.complete and (data := await reader.read(READ_BYTES)):
                    parser.feed_data(data)
            finally:
                writer.close()
            return bytes(answer.body) if answer.complete else None
    return None


async def _post(url: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def table_rows(
    query: RunningQuery, node: Node, route: Route, frame: Callable[[str], str], scan: Scan, loss: int = 0
) -> AsyncGenerator[RowBatch, None]:
    """Yield the rows of a table pull.

    Args:
        query: The pull.
        node: The node that answers.
        route: Where the rows are.
        frame: Adds the text around a row's values.
        scan: Reads rows of a plan from this node's own stores.
        loss: Rows of each other node that get lost on their way.

    Raises:
        RefusedError: A part is not available; the rows so far were sent.
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
    """Return the rows without some of them, anywhere among them."""
    gone = set(random.sample(range(len(rows)), min(loss, len(rows))))
    return [row for number, row in enumerate(rows) if number not in gone]


async def _local(query: RunningQuery, node: Node, route: Route, scan: Scan) -> AsyncGenerator[RowBatch, None]:
    plan, mine = query.plan, route.local
    if mine is not None:
        plan = restricted(plan, mine, store_partitions(plan.source, node.catalog))
    async with aclosing(scan(plan)) as batches:
        first = await anext(batches, None)
        # Checked again after the scan's beginning: a process that was paused may no longer hold what it read.
        if mine is not None and not node.readable(mine):
            raise node.unscannable()
        if first is not None:
            yield first
        async for batch in batches:
            yield batch


@dataclass(eq=False)
class ForwardedRows:
    """An ASGI application that sends rows of this node to another: the values of each row on a line."""

    query: RunningQuery
    queries: RunningQueries
    node: Node
    partitions: frozenset[int]
    scan: Scan
    rows_per_second: float | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the rows; when asked to stop, it ends as if there were no more."""
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
        await client_left(receive)
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
    """Return the framing of rows between nodes: only the values, one row a line."""
    return replace(framing, before_row="", after_row="\n")

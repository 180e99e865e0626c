"""Running queries: their ids, how they stop, and their rows as bytes."""

# DuckDB works one batch ahead in its threads, so a slow client slows the scan down instead of filling memory.

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import duckdb
import pyarrow as pa

from ksql_lake.devserver.framing import LONG_STRING, Framing
from ksql_lake.devserver.property_rules import outlives
from ksql_lake.devserver.sql.query_plan import QueryKind, QueryPlan
from ksql_lake.devserver.sql.row_text import row_text
from ksql_lake.devserver.sql.source_columns import literal, quoted
from ksql_lake.devserver.store.row_storage import LIVE
from ksql_lake.devserver.store.sources import Catalog

T = TypeVar("T")

BATCH_ROWS = 8192
PAUSE_CHECK_SECONDS = 0.2
SCALABLE = "SCALABLE_PUSH_QUERY_"
"""Prefix of the id of a push query that reads a derived source's own log."""
HISTORY = 10_000
"""How many queries are remembered for `GET /devserver/queries`."""


class RowBatch:
    """Consecutive rows as one block of bytes, any run of which can be taken without copying.

    Args:
        array: The rows' text.
        token: The continuation token that follows them; "" for none.
    """

    def __init__(self, array: pa.StringArray, token: str = "") -> None:
        self.token = token
        _, offsets, data = array.buffers()
        self._data = memoryview(data).cast("B") if data is not None else memoryview(b"")
        self._offsets = memoryview(offsets).cast("B").cast("i")
        self._first: int = array.offset
        self.count = len(array)

    def rows(self, first: int, last: int) -> memoryview:
        """The bytes of rows `first` up to, not including, `last`."""
        return self._data[self._offsets[self._first + first] : self._offsets[self._first + last]]

    def reach(self, first: int, last: int, size: int) -> int:
        """The row up to which `size` bytes from `first` on reach, at least one row and at most `last`."""
        start, end = self._first + first, self._first + last
        found = bisect_left(self._offsets, self._offsets[start] + size, start + 1, end + 1)
        return min(found, end) - self._first


@dataclass(eq=False)
class RunningQuery:
    """One query that is being answered.

    Attributes:
        statement: As the client sent it.
        rows: How many rows were sent so far.
        position: Arrival number up to which a push query has delivered its source's rows; 0 before the first.
        held: Offsets from which on a push query waits for transactions to end, by partition.
        state: `running`, then `completed`, `stopped`, `gone` (the client left), `failed` or the fault's kind.
        stop: Set by /close-query, TERMINATE and the server's end.
        listed: Whether SHOW QUERIES EXTENDED lists it.
        closable: Whether /close-query ends it: queries of the older writer end with their client only.
        properties: The properties that the request overrides, as they came.
        began_ms: When it began, epoch milliseconds.
        failure: Why it cannot go on.
        broken: Whether the answer will not be complete: the connection is cut, not ended.
        loses_errors: Whether a failure, or the server's end, ends the answer as if it were complete.
        forgotten: Whether the group has dropped its consumer, which begins again at its last commit.
        catching_up: Whether it is one of its source's catch-ups: it has not reached the end of the log yet.
        gone: Set when the client has left; nothing more needs to be written.
        arrived: Set when its source got rows.
    """

    id: str
    plan: QueryPlan
    statement: str
    rows: int = 0
    position: int = 0
    held: dict[int, int] = field(default_factory=dict)
    state: str = "running"
    listed: bool = True
    closable: bool = True
    properties: dict[str, Any] = field(default_factory=dict)
    began_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    failure: str | None = None
    broken: bool = False
    loses_errors: bool = False
    forgotten: bool = False
    catching_up: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether it should end as soon as it can."""
        return self.stop.is_set() or self.gone.is_set()

    def end(self, *, shutdown: bool = False) -> None:
        """Ask it to end; a push query, or a stream pull that is closed, ends as if it were complete."""
        kind = self.plan.kind
        cut = kind == "pull_table" or (kind == "pull_stream" and shutdown)
        self.broken = cut and not (shutdown and self.loses_errors)
        self.stop.set()
        self.arrived.set()

    def fail(self, reason: str) -> None:
        """Note why it cannot go on."""
        self.failure = reason
        self.stop.set()
        self.arrived.set()

    def conclude(self) -> None:
        """Note how it ended, when no fault or failure has ended it."""
        self.state = "gone" if self.gone.is_set() else "stopped" if self.stop.is_set() else "completed"

    def leave(self) -> None:
        """Note that its client has left."""
        self.gone.set()
        self.arrived.set()

    async def pause(self, seconds: float | None) -> None:
        """Wait; return early when the query is over."""
        waits = [asyncio.ensure_future(self.stop.wait()), asyncio.ensure_future(self.gone.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


class RunningQueries:
    """All queries being answered, by id."""

    def __init__(self, catalog: Catalog, threads: int = 16) -> None:
        self._catalog = catalog
        self._by_id: dict[str, RunningQuery] = {}
        self._numbers = itertools.count(1)
        self._history: deque[RunningQuery] = deque(maxlen=HISTORY)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="query")
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Bind to the running event loop and listen for new rows."""
        self._loop = asyncio.get_running_loop()
        self._catalog.on_append = self._appended

    async def watch_pauses(self, session_ms: float) -> None:
        """Drop consumers from their group when the process was paused for too long; runs until cancelled.

        Args:
            session_ms: The server's own session time-out.
        """
        seen = time.monotonic()
        while True:
            await asyncio.sleep(PAUSE_CHECK_SECONDS)
            now = time.monotonic()
            pause_ms, seen = (now - seen) * 1000, now
            for query in self.all():
                streams = query.plan.kind != "pull_table"
                if streams and not outlives(pause_ms, query.properties, session_ms=session_ms):
                    query.forgotten = True

    def _appended(self, source: str) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._notify, source)

    def _notify(self, source: str) -> None:
        for query in self._by_id.values():
            if query.plan.source.name == source:
                query.arrived.set()

    def register(self, plan: QueryPlan, statement: str, *, scalable: bool = False) -> RunningQuery:
        """Register a query under a new id; table pulls are named after the time, as on the real server."""
        number = next(self._numbers)
        if scalable:
            name = f"{SCALABLE}{uuid.uuid4()}"
        elif plan.kind == "pull_table":
            name = f"query_{int(time.time() * 1000) + number}"
        else:
            name = f"transient_{plan.source.name}_{random.getrandbits(53) * 1000 + number % 1000}"
        query = RunningQuery(name, plan, statement)
        self._by_id[name] = query
        self._history.append(query)
        return query

    def remove(self, query: RunningQuery) -> None:
        """Forget a query that has ended."""
        self._by_id.pop(query.id, None)

    def history(self) -> list[RunningQuery]:
        """The latest queries, running ones included, in the order they began."""
        return list(self._history)

    def all(self) -> list[RunningQuery]:
        """Every query being answered, oldest first."""
        return list(self._by_id.values())

    def pushes(self) -> list[RunningQuery]:
        """Push queries being answered that SHOW QUERIES lists, oldest first; it lists no scalable ones."""
        pushes = [query for query in self.all() if query.plan.kind == "push"]
        return [query for query in pushes if not query.id.startswith(SCALABLE)]

    def close(self, query_id: str) -> bool:
        """Ask one query to end; return False if there is none of this id."""
        query = self._by_id.get(query_id)
        if query is None or not query.closable:
            return False
        query.end()
        return True

    def named(self, query_id: str) -> RunningQuery | None:
        """Return the query of this id in any case, as TERMINATE finds it."""
        return next((query for query in self.all() if query.id.upper() == query_id.upper()), None)

    def terminate(self, query: RunningQuery) -> None:
        """Ask a query to end, from outside the event loop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(query.end)

    def fail_scans(self, source: str, reason: str) -> None:
        """Make every pull of a table fail, from outside the event loop."""
        for query in self.all():
            if self._loop is not None and query.plan.kind == "pull_table" and query.plan.source.name == source:
                self._loop.call_soon_threadsafe(query.fail, reason)

    def close_all(self, *kinds: QueryKind) -> None:
        """Ask every query of some kinds to end, or all, as a server does that shuts down."""
        for query in self._by_id.values():
            if not kinds or query.plan.kind in kinds:
                query.end(shutdown=True)

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def with_cursor(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Run a short query beside the event loop."""

        def run() -> T:
            with closing(self._catalog.cursor()) as cursor:
                return work(cursor)

        return await self.in_thread(run)

    async def batches(self, query: RunningQuery, sql: str) -> AsyncGenerator[RowBatch, None]:
        """Run DuckDB and yield its rows; one batch is made while another is sent."""
        async with aclosing(self.records(query, sql)) as batches:
            async for batch in batches:
                yield RowBatch(cast("pa.StringArray", batch.column(0)))

    async def records(self, query: RunningQuery, sql: str) -> AsyncGenerator[pa.RecordBatch, None]:
        """Run DuckDB and yield its columns; one batch is made while another is sent."""
        cursor = self._catalog.cursor()
        ahead: asyncio.Future[pa.RecordBatch | None] | None = None
        try:
            reader = await self.in_thread(_open, cursor, sql)
            ahead = asyncio.ensure_future(self.in_thread(_next, reader))
            while not query.over:
                batch = await ahead
                if batch is None:
                    return
                ahead = asyncio.ensure_future(self.in_thread(_next, reader))
                yield batch
        finally:
            if ahead is not None and not ahead.done():
                cursor.interrupt()
                await asyncio.wait([ahead])
            if ahead is not None and not ahead.cancelled():
                ahead.exception()  # the error of an interrupted scan is expected
            cursor.close()


def _open(cursor: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    reader: pa.RecordBatchReader = cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
    return reader


def _next(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def rows_sql(
    plan: QueryPlan, framing: Framing, *, span: tuple[int, int], chunked: bool, overshoot: bool = False
) -> str:
    """Return the query whose single column is the text of each row.

    Args:
        plan: The plan of the query.
        framing: The text around a row's values.
        span: Arrival numbers from, up to; a table pull reads the table's state instead.
        chunked: Whether to put each row into HTTP chunks, as the framing cuts them.
        overshoot: Whether to return at most one row of each partition.
    """
    values = [(item.type, item.expression) for item in plan.projections]
    gap = "" if chunked else framing.gap
    text = row_text(values, before=framing.before_row, after=framing.after_row + gap)
    where = f"({plan.where})"
    if plan.kind == "pull_table":
        where = f"{LIVE} AND {where}"
    elif plan.source.kind == "TABLE" and framing.after_tombstone is not None:
        # A deleted key's row holds the key; everything else, pseudo columns included, is null.
        kept = [(item.type, item.expression if plan.is_key(item) else "NULL") for item in plan.projections]
        deleted = row_text(kept, before=framing.before_row, after=framing.after_tombstone + gap)
        text = f"CASE WHEN __TOMBSTONE THEN {deleted} ELSE {text} END"
        where = f"(__TOMBSTONE OR {where})"
    elif plan.source.kind == "TABLE":
        where = f"NOT __TOMBSTONE AND {where}"
    if plan.kind != "pull_table":
        where = f"__SEQ >= {span[0]} AND __SEQ < {span[1]} AND {where}"
    if overshoot:
        where += " QUALIFY row_number() OVER (PARTITION BY ROWPARTITION ORDER BY __SEQ) = 1"
    if plan.limit is not None and plan.kind != "push":
        where += f" LIMIT {plan.limit}"
    sql = f"SELECT {text} AS r FROM {quoted(plan.source.storage)} WHERE {where}"
    return f"SELECT {in_chunks(framing)} AS r FROM ({sql})" if chunked else sql


def in_chunks(framing: Framing) -> str:
    """Return the expression for a row `r` in HTTP chunks: its own, those of a long row, and that of the gap."""
    whole = _chunk("r")
    if framing.splits:
        pieces = f"regexp_extract_all(r, '(?s).{{1,{LONG_STRING}}}')"
        split = f"array_to_string(list_transform({pieces}, lambda piece: {_chunk('piece')}), '')"
        long = f"strlen(r) > {LONG_STRING} AND regexp_matches(r, '\"[^\"]{{{LONG_STRING}}}')"
        whole = f"CASE WHEN {long} THEN {split} ELSE {whole} END"
    return f"concat({whole}, {_chunk(literal(framing.gap))})" if framing.gap else whole


def _chunk(text: str) -> str:
    line = "chr(13) || chr(10)"
    return f"concat(lower(to_hex(strlen({text}))), {line}, {text}, {line})"

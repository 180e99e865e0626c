"""One running query: its rows as they arrive, and a proven end or an error. It never retries."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import requests

from ksql_lake.errors import IncompleteResponseError, KsqlLakeError, ProtocolError, QueryStalledError
from ksql_lake.ksqldb.properties import SentProperties
from ksql_lake.ksqldb.refusals import failure
from ksql_lake.ksqldb.version import ServerInfo, ServerVersion
from ksql_lake.ksqldb.wire.answer_events import (
    ErrorMessage,
    Event,
    Header,
    Outcome,
    QueryKind,
    RowBlock,
    Tombstone,
)
from ksql_lake.ksqldb.wire.chunks import Piece
from ksql_lake.ksqldb.wire.row_parser import MAX_LINE, RowsParser
from ksql_lake.ksqldb.wire.transport import Body

logger = logging.getLogger(__name__)

BLOCK = 6 * 1024 * 1024
"""A pull query waits for this many bytes, so that blocks are large; a push query does not wait."""


class Server(Protocol):
    """What a running query needs of the client that sent it."""

    @property
    def url(self) -> str:
        """The server's address, for errors."""
        ...

    def server_info(self) -> ServerInfo:
        """Return the server's version and ids; asked only if the answer's end needs the version."""
        ...

    def close_query(self, query_id: str) -> None:
        """End a query on the server."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an answer.

    Attributes:
        max_line: The most bytes of a row.
        stall: Seconds that a pull query may bring neither a row nor its end.
        limited: Whether the query has a LIMIT; without one, an answer that ends at a limit is incomplete.
    """

    max_line: int = MAX_LINE
    stall: float = 7200.0
    limited: bool = False


class QueryResponse:
    """A context manager: the answer to one query. Leaving it early ends the query on the server too.

    Args:
        server: The client that sent the query.
        response: The HTTP response; its status is 200.
        body: The response's body, not read yet.
        kind: The kind of query.
        sent: The properties that the query carries.
        limits: Limits of rows and waits.

    Attributes:
        kind: The kind of query.
        sent: The properties that the query carries.
        block_bytes: Wanted size of a block of rows; a pull query waits for it, up to a limit.
        outcome: How the answer ended; None before its end.
    """

    def __init__(
        self,
        server: Server,
        response: requests.Response,
        body: Body,
        *,
        kind: QueryKind,
        sent: SentProperties | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self.kind = kind
        self.sent = sent or SentProperties()
        self.block_bytes = BLOCK
        self.outcome: Outcome | None = None
        self._server = server
        self._response = response
        self._body = body
        self._parser = RowsParser(kind, max_line=limits.max_line)
        self._stall = limits.stall
        self._waited = 0.0
        self._limited = limits.limited
        self._header: Header | None = None
        self._events: deque[Event] = deque()
        self._ending: KsqlLakeError | None = None
        self._failure: KsqlLakeError | None = None
        self._closed = False
        self._end_asked = False

    def begin(self) -> Self:
        """Read up to the header; the client does so before it returns the response.

        Raises:
            KsqlError: The answer did not come as far as its header.
        """
        first = self._next()
        if not isinstance(first, Header):
            raise self._fail(ProtocolError("the response has no header", hint="Is the server older than 0.6?"))
        self._header = first
        return self

    @property
    def header(self) -> Header:
        """Query id and schema text."""
        if self._header is None:
            raise ProtocolError("the response's header has not been read yet", hint="Call begin() first.")
        return self._header

    @property
    def query_id(self) -> str | None:
        """The query's name on the server."""
        return self._header.query_id if self._header else None

    @property
    def bytes_read(self) -> int:
        """Bytes of the body so far."""
        return self._body.bytes_read

    @property
    def rows_read(self) -> int:
        """Rows received so far, those not yet iterated included."""
        return self._parser.rows

    def __iter__(self) -> Iterator[RowBlock]:
        """Yield the rows; ends without an error only if the answer is proven complete.

        Raises:
            IncompleteResponseError: The answer ended without that proof.
            QueryFailedError: The server reported an error after it had begun.
            ServerBusyError: It reported one of its limits.
            ServerUnavailableError: The server fell silent.
            ProtocolError: The server sent something else than rows; also deleted keys, which only `events`
                yields.
        """
        for event in self.events():
            if isinstance(event, RowBlock):
                yield event
            elif isinstance(event, Tombstone):
                raise self._fail(
                    ProtocolError(
                        "the answer holds deleted keys, which are no rows",
                        hint="Read a table's change feed with events().",
                    )
                )

    def look_ahead(self) -> None:
        """Wait for the first rows or the end; the rows stay for the iteration.

        Raises:
            KsqlError: An error came first.
        """
        while not self._events and self.outcome is None and self._failure is None:
            self._advance()
        if self._failure is not None or isinstance(next(iter(self._events), None), ErrorMessage):
            self._next()

    def events(self) -> Iterator[Event]:
        """Yield rows, deleted keys, tokens and the final message in order; ends and fails as iteration does."""
        while (event := self._next()) is not None:
            yield event

    @property
    def stopped(self) -> bool:
        """Whether the answer ended because the server ended the query regularly."""
        silent = self.outcome is Outcome.INCOMPLETE and self._body.ended and self._parser.over
        return self.outcome is Outcome.CLOSED or silent

    def end_on_server(self) -> None:
        """Ask the server to end the query; the answer then ends after the rows on their way.

        Queries of the older writer end only with their connection.

        Raises:
            KsqlError: The server could not be asked in time, or refused.
        """
        if self.query_id is not None and not self._end_asked and not self.sent.legacy:
            self._end_asked = True
            self._server.close_query(self.query_id)

    def shut(self) -> None:
        """End a read of this answer that waits in another thread; raises nothing."""
        # An answer that has ended has no connection any more.
        with suppress(ValueError, RuntimeError, OSError):
            self._response.raw.shutdown()

    def close(self) -> None:
        """Close the connection, and end the query on the server if it may still run; raises nothing."""
        if self._closed:
            return
        self._closed = True
        if self._body.received_ahead:
            # Wake the receiving thread before its connection is closed.
            self.shut()
            self._body.close()
        self._response.close()
        over = self._body.ended or self._parser.over or self._end_asked or self.sent.legacy
        # A table pull has no id by which the server could end it.
        if over or self.kind is QueryKind.PULL_TABLE or self.query_id is None:
            return
        try:
            self._server.close_query(self.query_id)
        except KsqlLakeError as error:
            logger.warning("query %s may still run on the server: %s", self.query_id, error.message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Event | None:
        # Events wait in a list, not in a generator, so that an iteration that is left and begun again
        # loses none.
        while not self._events:
            if self._failure is not None:
                raise self._failure
            if self._ending is not None:
                raise self._fail(self._ending)
            if self.outcome is not None:
                self.close()
                return None
            if self._closed:
                raise self._fail(IncompleteResponseError("the response was closed before its end"))
            self._advance()
        event = self._events.popleft()
        if isinstance(event, ErrorMessage):
            raise self._fail(failure(event, session_ms=self.sent.session_ms))
        return event

    def _advance(self) -> None:
        patient = self.kind is not QueryKind.PUSH and self._header is not None
        broken: KsqlLakeError | None = None
        chunks: list[Piece] = []
        began = time.monotonic()
        try:
            chunks = self._body.pieces(self.block_bytes if patient else 1)
        except KsqlLakeError as error:
            # Bytes from before the break are still read: they may hold the server's error or final message.
            broken = error
        self._waited += time.monotonic() - began
        try:
            self._events.extend(self._parser.feed(*chunks) if chunks else self._parser.finish())
            if self._events or self.kind is QueryKind.PUSH:
                self._waited = 0.0
            elif self._waited > self._stall:
                raise _stalled(self._stall)
            if not chunks:
                self._conclude(broken)
        except KsqlLakeError as error:
            raise self._fail(error) from broken

    def _conclude(self, broken: KsqlLakeError | None) -> None:
        clean = broken is None
        outcome = self._parser.outcome(clean=clean)
        if outcome is Outcome.INCOMPLETE and self.kind is QueryKind.PULL_STREAM and clean and self._parser.over:
            # An end without a final message is regular on servers before 0.25, and cut short on all others.
            outcome = self._parser.outcome(version=self._version())
        self.outcome = outcome
        unasked = outcome is Outcome.LIMIT and not self._limited
        if (unasked or not outcome.proven) and outcome is not Outcome.ERROR:
            self._ending = broken or _unproven(outcome, self._parser.rows)

    def _version(self) -> ServerVersion | None:
        try:
            return self._server.server_info().version
        except KsqlLakeError as error:
            logger.warning("the server's version is unknown, the strictest rule applies: %s", error.message)
            return None

    def _fail(self, error: KsqlLakeError) -> KsqlLakeError:
        self._failure = error.at(server=self._server.url, query=self.query_id, row=self._parser.rows + 1)
        self._events.clear()
        self.close()
        return self._failure


def _stalled(seconds: float) -> QueryStalledError:
    return QueryStalledError(
        f"the query sent neither a row nor its end for {seconds:g} s, only heartbeats",
        hint="It may wait for an open transaction, for a partition that holds nothing but aborted records or "
        "transaction markers, or for records that Kafka deleted while it read; or the server is "
        "stuck. Ways out "
        'in the feed file: "isolation": "uncommitted", "extraction": "push", or fewer `columns`. '
        "KSQLDB_STALL_TIMEOUT sets the limit.",
    )


def _unproven(outcome: Outcome, rows: int) -> IncompleteResponseError:
    count = "1 row" if rows == 1 else f"{rows:,} rows"
    if outcome is Outcome.CLOSED:
        return IncompleteResponseError(
            f"the server closed the query after {count}",
            hint="It was terminated, or the server shut down; nothing proves that all rows came.",
        )
    if outcome is Outcome.LIMIT:
        return IncompleteResponseError(
            f"the answer ended after {count} with 'Limit Reached', although no LIMIT was asked for",
            hint="Nothing was kept. Does the server, or a proxy before it, limit answers to so many rows?",
        )
    return IncompleteResponseError(
        f"the answer ended after {count} without the mark of a complete one",
        hint="Nothing was kept; the export can be run again.",
    )

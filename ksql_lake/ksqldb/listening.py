"""Read a push query piece by piece, with a limit on the wait for the next piece."""

# A separate thread reads the connection, because a read that timed out cannot be resumed. Leaving ends the
# query on the server first, then the connection, then the thread.

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ksql_lake.errors import KsqlLakeError, QueryFailedError
from ksql_lake.ksqldb.properties import SentProperties
from ksql_lake.ksqldb.response import QueryResponse
from ksql_lake.ksqldb.wire.answer_events import Event, Header

logger = logging.getLogger(__name__)

EVENTS_AHEAD = 64
"""How many pieces may wait for the reader; more slow the server down."""
FAREWELL_SECONDS = 5.0
"""Seconds that the server may take to end a query that it was asked to end."""
SILENCE_SECONDS = 2.0
"""Seconds of silence after which the connection of a query that could not be ended is closed."""
_POLL_SECONDS = 0.05
"""Seconds after which the thread notices that the reader is gone."""


class _Over:
    """The end of the answer, and its error if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Listening:
    """A context manager: the rows that one push query sends.

    Args:
        response: The query, read up to its header; closed with this.
    """

    def __init__(self, response: QueryResponse) -> None:
        self._response = response
        self._pieces: queue.Queue[Event | _Over] = queue.Queue(EVENTS_AHEAD)
        self._unwanted = threading.Event()
        self._asked_to_end = False
        self._over: _Over | None = None
        self._thread = threading.Thread(target=self._read, name="ksql-lake-push", daemon=True)
        self._thread.start()

    @property
    def header(self) -> Header:
        """Query id and schema text."""
        return self._response.header

    @property
    def sent(self) -> SentProperties:
        """The properties that the query carries."""
        return self._response.sent

    @property
    def bytes_read(self) -> int:
        """Bytes of the answer so far."""
        return self._response.bytes_read

    @property
    def waiting(self) -> int:
        """How many pieces have arrived and were not read."""
        return self._pieces.qsize()

    def next(self, seconds: float) -> Event | None:
        """Return the next piece; None when none came in time.

        Raises:
            KsqlLakeError: The answer ended, failed or broke off before the query was asked to end.
        """
        if self._over is None:
            try:
                piece = self._pieces.get(timeout=seconds) if seconds > 0 else self._pieces.get_nowait()
            except queue.Empty:
                return None
            if not isinstance(piece, _Over):
                return piece
            self._over = piece
        self._finish(self._over)
        return None

    def rest(self) -> Iterator[Event]:
        """Ask the server to end the query, and yield the pieces still on their way.

        A query of the older writer ends with its connection and is not asked to; only pieces that have arrived
        are yielded.

        Raises:
            KsqlLakeError: The server could not be asked, or the answer broke off.
        """
        if self._response.sent.legacy:
            for _ in range(self.waiting):
                if (piece := self.next(0)) is not None:
                    yield piece
            return
        self._asked_to_end = True
        silence = FAREWELL_SECONDS
        try:
            self._response.end_on_server()
        except QueryFailedError as error:
            # Several releases cannot end a query of another connection.
            logger.warning("query %s cannot be ended: %s", self._response.query_id, error.message)
            silence = SILENCE_SECONDS
        # With a limit, because behind a balancer another node may run the query than the one that was asked.
        until = time.monotonic() + FAREWELL_SECONDS
        while self._over is None and (left := until - time.monotonic()) > 0:
            piece = self.next(min(left, silence))
            if piece is not None:
                yield piece
            elif silence < FAREWELL_SECONDS:
                return

    def close(self) -> None:
        """End the query on the server, the connection and the thread; never fails, and may be called again."""
        self._unwanted.set()
        if self._over is None:
            try:
                self._response.end_on_server()
            except KsqlLakeError as error:
                logger.warning(
                    "query %s may still run on the server: %s", self._response.query_id, error.message
                )
        self._response.shut()
        self._thread.join(FAREWELL_SECONDS)
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        over = _Over(None)
        try:
            for event in self._response.events():
                if not self._put(event):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the listener, in its place
            over = _Over(error)
        self._put(over)

    def _put(self, piece: Event | _Over) -> bool:
        while not self._unwanted.is_set():
            try:
                self._pieces.put(piece, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _finish(self, over: _Over) -> None:
        if over.error is not None and not (self._asked_to_end and self._response.stopped):
            raise over.error

"""Read the bytes of a response's body as soon as they arrive; a connection that ends early is an error."""

# ksqlDB sends one HTTP chunk per row, and urllib3 makes several Python calls for each. The fast way reads the
# connection's buffer and splits many chunks at once; it is used only if the internals of requests are as
# expected.

from __future__ import annotations

import http.client
import io
import selectors
import time
from collections.abc import Iterator
from typing import Protocol

import httptools
import numpy as np
import requests
import urllib3

from ksql_lake.errors import KsqlLakeError
from ksql_lake.ksqldb.wire.backlog import Backlog
from ksql_lake.ksqldb.wire.chunks import Piece, last_border, whole_chunks
from ksql_lake.ksqldb.wire.network import NETWORK_ERRORS, body_failure

_RECEIVE = 64 * 1024
_ROOM = 6656 * 1024
"""The most bytes that are received before they are parsed."""
_MANY = 16 * 1024
"""Bytes below which array operations cost more than a call for each chunk."""
_LEAST_ROOM = 64 * 1024
"""More than the connection's reader buffers, so that it buffers nothing."""
_MOST_HELD = 1024 * 1024
"""The most bytes of an incomplete chunk that wait for the rest of it."""
_PAUSE = 0.2
"""Seconds without a byte after which received bytes wait no longer for more."""
_FRAMING_SHARE = 8
"""Assumed share of framing, one byte in this many; a guess for when to stop receiving."""
_MOST_FRAMING = 1024 * 1024
"""The most bytes of HTTP framing in a row without a byte of the body."""


class BodyBytes(Protocol):
    """A way to read a body's bytes."""

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return some bytes as soon as there are any; none mean that the body has ended regularly.

        Args:
            wanted: How many bytes to wait for, once there are some.
            until: When the wait for them ends (`time.monotonic`).
        """
        ...


class PublicDoor:
    """Reads any body through urllib3's documented interface; must not be used after an error."""

    def __init__(self, raw: urllib3.BaseHTTPResponse) -> None:
        encoded = "content-encoding" in raw.headers
        if raw.chunked:
            # For small chunks five times faster than `read1`, without more delay.
            self._pieces: Iterator[bytes] = iter(raw.stream(_RECEIVE, decode_content=encoded))
        else:
            self._pieces = iter(lambda: raw.read1(_RECEIVE, decode_content=encoded), b"")

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:  # noqa: ARG002
        """Return some bytes; at most one HTTP chunk."""
        piece = next(self._pieces, b"")
        return [piece] if piece else []


class FastDoor:
    """Reads a chunked body from the connection's buffered reader.

    Args:
        wire: The reader, at the first byte after the response's head.
        patience: Seconds that framing may go on without a byte of the body.
    """

    def __init__(self, wire: io.BufferedReader, *, patience: float = 120.0) -> None:
        self._wire = wire
        self._patience = patience
        self._parts: list[Piece] = []
        self._complete = False
        self._broken: httptools.HttpParserError | None = None
        # In the fast way: received bytes of the incomplete chunk, which the parser has not seen.
        self._room: memoryview = np.empty(_ROOM, np.uint8).data
        self._held = 0
        self._plain = True
        self._begun = False
        self._failure: OSError | None = None
        self.on_body = self._parts.append  # called by the parser, once per HTTP chunk
        self._parser = httptools.HttpResponseParser(self)
        # The real head is read already; this one has the part that the body's framing needs. After `close` the
        # parser rejects bytes after the body.
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")

    def on_message_complete(self) -> None:
        """Called by the parser when the last chunk and its trailer are there."""
        self._complete = True

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return all received bytes except those of an incomplete chunk."""
        began, framing = time.monotonic(), 0
        while not (self._parts or self._complete or self._broken):
            try:
                framing += self._receive(wanted, until)
            except httptools.HttpParserError as error:
                self._broken = error
            # A size line or a trailer could be endless, which no server's framing is.
            if framing > _MOST_FRAMING and not self._parts and not self._held:
                self._broken = httptools.HttpParserError("framing without end")
            elif time.monotonic() - began > self._patience and not self._parts:
                self._let_go(TimeoutError())
        parts = self._parts.copy()
        self._parts.clear()
        if not parts and self._broken and not self._complete:
            raise self._broken
        return parts

    def _receive(self, wanted: int, until: float) -> int:
        if self._failure is not None:
            raise self._failure
        if self._plain and self._begun:
            size = self._fill(self._room[self._held :], wanted, until)
            self._take(self._room[: self._held + size])
        else:
            wire = self._wire.read1(_RECEIVE)
            size = len(wire)
            if self._plain:
                # These are the bytes that the reader had buffered; from now on it buffers nothing.
                self._begun = True
                self._take(wire)
            else:
                self._parser.feed_data(wire)
        if not size:
            self._let_go(http.client.IncompleteRead(b""))
        return size

    def _fill(self, room: memoryview, wanted: int, until: float) -> int:
        """Receive until there is enough, or until the bytes look like the body's end."""
        enough = min(wanted + wanted // _FRAMING_SHARE, len(room) - _LEAST_ROOM)
        room = room[: enough + _LEAST_ROOM]
        filled = size = self._wire.readinto1(room)
        while size and filled < enough and bytes(room[filled - 4 : filled]) != b"\r\n\r\n":
            left = until - time.monotonic()
            if left <= 0 or not _arriving(self._wire, min(left, _PAUSE)):
                break
            try:
                size = self._wire.readinto1(room[filled:])
            except OSError as error:
                self._failure = error  # raised after the bytes before it were returned
                break
            filled += size
        return filled

    def _take(self, wire: Piece) -> None:
        border = 0
        if len(wire) >= _MANY:
            data, border = whole_chunks(wire)
            if border:
                self._parts.append(data)
        end, self._plain = last_border(wire, border)
        if border < end:
            self._parser.feed_data(wire[border:end])
        rest = wire[end:]
        if self._plain and len(rest) <= _MOST_HELD:
            self._room[: len(rest)] = rest
            self._held = len(rest)
        else:
            self._plain, self._held = False, 0
            self._parser.feed_data(rest)

    def _let_go(self, error: Exception) -> None:
        """Return the bytes of an incomplete chunk; raise the error if there are none."""
        if not self._held:
            raise error
        self._parser.feed_data(self._room[: self._held])
        self._plain, self._held = False, 0


def _arriving(wire: io.BufferedReader, seconds: float) -> bool:
    """Wait for bytes."""
    with selectors.DefaultSelector() as selector:
        selector.register(wire, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def open_door(response: requests.Response, *, patience: float = 120.0) -> BodyBytes:
    """Return the fast door for a response whose internals are as expected, and the public one otherwise.

    Args:
        response: The response, its body not read yet.
        patience: Seconds that framing may go on without a byte of the body.
    """
    wire = _wire(response.raw)
    return FastDoor(wire, patience=patience) if wire is not None else PublicDoor(response.raw)


def _wire(raw: urllib3.BaseHTTPResponse) -> io.BufferedReader | None:
    # `_fp` is urllib3's private name for the standard library's response, whose `fp` is the socket's reader.
    head = getattr(raw, "_fp", None)
    reader = getattr(head, "fp", None)
    plain_chunks = (
        isinstance(head, http.client.HTTPResponse)
        and raw.headers.get("transfer-encoding", "").lower() == "chunked"
        and "content-encoding" not in raw.headers
        and getattr(head, "chunk_left", 0) is None
    )
    return reader if plain_chunks and type(reader) is io.BufferedReader else None


def lift_time_limit(response: requests.Response) -> None:
    """Remove the time limit of a response's body: in a push query, silence is no failure."""
    # If a proxy wants the connection closed, it is not available here any more; its body keeps its limit.
    sock = getattr(response.raw.connection, "sock", None)
    if sock is not None:
        sock.settimeout(None)


class Body:
    """Reads a response's body in pieces of a useful size.

    Args:
        response: The response, its body not read yet.
        url: The server, for errors.
        read_timeout: The idle limit set on the connection, for errors.
        door: Reads the bytes; chosen if not given.
        patience: Seconds that received bytes may wait for more.

    Attributes:
        bytes_read: How many bytes of the body have been returned.
        ended: Whether the body ended regularly.
    """

    def __init__(
        self,
        response: requests.Response,
        *,
        url: str,
        read_timeout: float,
        door: BodyBytes | None = None,
        patience: float = 1.0,
    ) -> None:
        self.bytes_read = 0
        self.ended = False
        self._response = response  # the response closes its connection when it is garbage-collected
        self._door = door or open_door(response, patience=read_timeout)
        self._url = url
        self._patience = patience
        self._read_timeout = read_timeout
        self._failure: KsqlLakeError | None = None

    @property
    def received_ahead(self) -> bool:
        """Whether a thread receives the body ahead of its reader."""
        return isinstance(self._door, Backlog)

    def receive_ahead(self, *, limit: int) -> None:
        """Receive the rest of the body as fast as it comes; at most `limit` bytes of it wait on disk."""
        self._door = Backlog(self._door, limit=limit)

    def close(self) -> None:
        """Stop receiving ahead, after the connection was shut."""
        if isinstance(self._door, Backlog):
            self._door.close()

    def read(self, minimum: int = 1) -> bytes:
        """Return the same as `pieces`, in one piece."""
        return b"".join(self.pieces(minimum))

    def pieces(self, minimum: int = 1) -> list[Piece]:
        """Return at least `minimum` bytes, or fewer if the body ends or is slow; none at its regular end.

        Raises:
            IncompleteResponseError: The connection ended before the body did; received bytes were returned
                before.
            ServerUnavailableError: The server stayed silent too long.
        """
        parts: list[Piece] = []
        size = 0
        began = time.monotonic()
        while size < minimum and not self.ended and self._failure is None:
            try:
                found = self._door.read(minimum - size, until=began + self._patience)
            except (*NETWORK_ERRORS, ValueError) as error:  # ValueError: closed meanwhile, by another thread
                self._failure = body_failure(error, url=self._url, read_timeout=self._read_timeout)
                self._failure.__cause__ = error
                break
            self.ended = not found
            parts += found
            size += sum(map(len, found))
            if time.monotonic() - began > self._patience:
                break
        if self._failure is not None and not parts:
            raise self._failure
        self.bytes_read += size
        return parts

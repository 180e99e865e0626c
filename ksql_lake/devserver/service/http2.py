"""HTTP/2 without TLS (h2c), by upgrade or prior knowledge; one ASGI call per stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError

from ksql_lake.devserver.service.body import EXTENSION

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Message = dict[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
_UPGRADE = re.compile(rb"^upgrade:[ \t]*h2c[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_SETTINGS = re.compile(rb"^http2-settings:[ \t]*(\S+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_OF_ONE_CONNECTION = (b"connection", b"upgrade", b"http2-settings", b"transfer-encoding", b"keep-alive")


def upgrade_of(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return head, body and settings of a complete request that asks for h2c; None for any other."""
    head, _, rest = data.partition(b"\r\n\r\n")
    settings = _SETTINGS.search(head)
    if settings is None or not asks_upgrade(data):
        return None
    length = _LENGTH.search(head)
    size = int(length.group(1)) if length is not None else 0
    return (head, rest[:size], settings.group(1)) if len(rest) >= size else None


def asks_upgrade(data: bytes) -> bool:
    """Whether the head of a request has arrived and asks for h2c."""
    head, found, _ = data.partition(b"\r\n\r\n")
    return bool(found) and _SETTINGS.search(head) is not None and _UPGRADE.search(head) is not None


class Stream:
    """One request and its answer; `body.Body` uses it as transport and flow too."""

    def __init__(self, connection: Http2Connection, number: int, scope: Message) -> None:
        self._connection = connection
        self.number = number
        self.scope = scope
        scope["extensions"] = {EXTENSION: {"transport": self, "flow": self}}
        self.body = bytearray()
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        self.room = asyncio.Event()
        self._given = False

    async def receive(self) -> Message:
        """Return the request's body, then that the client has left."""
        if not self._given:
            await _first(self.ended, self.gone)
            self._given = True
            return {"type": "http.request", "body": bytes(self.body), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the head or a part of the body."""
        if self.gone.is_set():
            return
        if message["type"] == "http.response.start":
            kept = [
                (name.lower(), value)
                for name, value in message.get("headers", [])
                if name.lower() not in _OF_ONE_CONNECTION
            ]
            self._connection.head(self.number, [(b":status", str(message["status"]).encode()), *kept])
            return
        try:
            await self._data(bytes(message.get("body", b"")), last=not message.get("more_body", False))
        except ProtocolError:
            self.gone.set()  # the client has closed the stream

    async def _data(self, data: bytes, *, last: bool) -> None:
        while data and not self.gone.is_set():
            size = self._connection.window(self.number)
            if size <= 0:
                self.room.clear()
                await _first(self.room, self.gone)
                continue
            self._connection.data(self.number, data[:size], last=False)
            await self._connection.drain()
            data = data[size:]
        if last and not self.gone.is_set():
            self._connection.data(self.number, b"", last=True)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.gone.is_set()

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        await self._connection.drain()

    def close(self) -> None:
        """Break off the answer."""
        self._connection.reset(self.number)
        self.gone.set()

    abort = close


class Http2Connection(asyncio.Protocol):
    """One connection of a client that speaks HTTP/2.

    Args:
        app: The ASGI application.
        connections: The connections that the server shuts down when it stops.
        tasks: The answers under way, for which the server waits.
    """

    def __init__(self, app: App, connections: set[Any], tasks: set[asyncio.Task[None]]) -> None:
        self._app = app
        self._connections = connections
        self._tasks = tasks
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._streams: dict[int, Stream] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    def take_over(
        self, transport: asyncio.Transport, upgrade: tuple[bytes, bytes, bytes] | None = None
    ) -> None:
        """Speak HTTP/2 from here on.

        Args:
            transport: The connection.
            upgrade: The HTTP/1.1 request that asked for it, which is answered as the first stream.
        """
        self._transport = transport
        transport.set_protocol(self)
        self._connections.add(self)
        if upgrade is None:
            self._h2.initiate_connection()
            self._flush()
            return
        head, body, settings = upgrade
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        self._h2.initiate_upgrade_connection(settings)
        line, *lines = head.split(b"\r\n")
        method, path, _ = line.split(b" ", 2)
        pairs = [(name.strip(), value.strip()) for name, _, value in (item.partition(b":") for item in lines)]
        kept = [(name, value) for name, value in pairs if name.lower() not in _OF_ONE_CONNECTION]
        host = next((value for name, value in pairs if name.lower() == b"host"), b"")
        self._begin(1, [(b":method", method), (b":path", path), (b":authority", host), *kept])
        self._streams[1].body += body
        self._streams[1].ended.set()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            if self._transport is not None:
                self._transport.close()
            return
        for event in events:
            self._hear(event)
        self._flush()

    def _hear(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(number), headers=headers):
                self._begin(number, [(bytes(name), bytes(value)) for name, value in headers or []])
            case DataReceived(stream_id=int(number), data=data, flow_controlled_length=int(size)):
                self._h2.acknowledge_received_data(size, number)
                if number in self._streams:
                    self._streams[number].body += data or b""
            case StreamEnded(stream_id=int(number)) if number in self._streams:
                self._streams[number].ended.set()
            case StreamReset(stream_id=int(number)) if number in self._streams:
                self._streams[number].gone.set()
            case WindowUpdated():
                for stream in self._streams.values():
                    stream.room.set()

    def _begin(self, number: int, headers: list[tuple[bytes, bytes]]) -> None:
        named = dict(headers)
        path, _, query = named[b":path"].partition(b"?")
        kept = [(name.lower(), value) for name, value in headers if not name.startswith(b":")]
        if b"host" not in dict(kept):
            kept.append((b"host", named.get(b":authority", b"")))
        address = self._transport.get_extra_info("sockname") if self._transport is not None else None
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": named[b":method"].decode(),
            "scheme": "http",
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": kept,
            "server": tuple(address[:2]) if address else None,
            "client": None,
            "state": {},
        }
        stream = self._streams[number] = Stream(self, number, scope)
        task = asyncio.get_running_loop().create_task(self._answer(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: Stream) -> None:
        try:
            await self._app(stream.scope, stream.receive, stream.send)
        except Exception:
            self.reset(stream.number)
            raise
        finally:
            stream.gone.set()
            self._streams.pop(stream.number, None)

    def head(self, number: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send an answer's head."""
        self._h2.send_headers(number, headers)
        self._flush()

    def data(self, number: int, data: bytes, *, last: bool) -> None:
        """Send a part of an answer's body."""
        self._h2.send_data(number, data, end_stream=last)
        self._flush()

    def window(self, number: int) -> int:
        """Return how much of an answer may be sent now."""
        return min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)

    def reset(self, number: int) -> None:
        """Break off an answer."""
        try:
            self._h2.reset_stream(number, ErrorCodes.INTERNAL_ERROR)
        except ProtocolError:
            return  # the client has closed it already
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        await self._writable.wait()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The socket has room again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        del exc
        self._connections.discard(self)
        self._writable.set()
        for stream in self._streams.values():
            stream.gone.set()

    def shutdown(self) -> None:
        """End the connection, as a server that stops does."""
        self._h2.close_connection()
        self._flush()
        if self._transport is not None:
            self._transport.close()


async def _first(*events: asyncio.Event) -> None:
    """Wait for any of the events."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()

"""Write the body of an answer: chunks, ready-made chunks, and connections that break."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from starlette.types import Scope, Send

from ksql_lake.devserver.framing import Framing
from ksql_lake.devserver.store.running_queries import RowBatch

EXTENSION = "ksql_lake.connection"


class Flow(Protocol):
    """uvicorn's view of how full the socket is."""

    async def drain(self) -> None:
        """Wait until there is room in the socket."""


class AnswerBody:
    """Writes one answer.

    Args:
        scope: The request's ASGI scope.
        send: Its ASGI send.
        framing: How the answer is cut into chunks.
        framed: Whether rows come with their own HTTP chunk framing.
    """

    def __init__(self, scope: Scope, send: Send, framing: Framing, *, framed: bool) -> None:
        self._send = send
        self._framing = framing
        self._framed = framed
        connection = scope["extensions"][EXTENSION]
        self._transport = cast("asyncio.Transport", connection["transport"])
        self._flow = cast("Flow", connection["flow"])
        self._held = bytearray()
        self._room = 1 if framing.first_alone else framing.gathered

    async def start(self, content_type: str | None) -> None:
        """Send status 200, the headers and the head."""
        headers = [(b"Transfer-Encoding", b"chunked")]
        if content_type is not None:
            headers.insert(1 if self._framing.transfer_first else 0, (b"content-type", content_type.encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._framing.gathered:
            self._held += "".join(self._framing.head).encode()
        else:
            await self.text(*self._framing.head)

    async def text(self, *parts: str) -> None:
        """Send each text as one chunk, after the rows that are held."""
        await self.flush()
        for part in parts:
            if part:
                await self._chunk(part.encode())

    async def finish(self, *parts: str) -> None:
        """Send the last texts; rows that are still held leave in one chunk with the first text."""
        if self._framing.gathered and parts and not self._framing.first_alone:
            self._held += parts[0].encode()
            parts = parts[1:]
        await self.text(*parts)

    async def complete(self, *parts: str) -> None:
        """Send a clean end, which leaves together with the rows that are still held."""
        if self._framing.gathered:
            self._held += "".join(parts).encode()
            parts = ()
        await self.text(*parts)

    async def rows(self, batch: RowBatch, first: int, last: int) -> None:
        """Send rows `first` up to, not including, `last` of a batch."""
        if not self._framing.gathered:
            await self._write(batch.rows(first, last))
            return
        while first < last:
            upto = batch.reach(first, last, self._room - len(self._held))
            self._held += batch.rows(first, upto)
            first = upto
            if len(self._held) >= self._room:
                await self.flush()

    async def piece(self, row: bytes) -> None:
        """Send the beginning of a row."""
        await self.flush()
        await self._write(row)

    async def flush(self) -> None:
        """Send the held rows as one chunk."""
        if self._held:
            data, self._held = bytes(self._held), bytearray()
            self._room = self._framing.gathered
            await self._chunk(data)

    async def _write(self, data: memoryview | bytes) -> None:
        if not self._framed:
            await self._chunk(data)
        elif not self._transport.is_closing():
            await self._flow.drain()
            self._transport.write(data)

    async def _chunk(self, data: memoryview | bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Send the last chunk."""
        await self.flush()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def cut(self, gone: asyncio.Event, *, reset: bool = False) -> None:
        """Break the connection: after what was written, or at once with a TCP reset."""
        if reset:
            self._transport.abort()
        else:
            await self.flush()
            self._transport.close()
        await gone.wait()

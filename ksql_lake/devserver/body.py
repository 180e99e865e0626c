"""The body of one answer on the wire: chunks, ready-made chunks, and connections that break.

Ready-made chunks and breaking need the connection itself, which `server.Protocol` puts into the ASGI scope.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from starlette.types import Scope, Send

EXTENSION = "ksql_lake.connection"


class Flow(Protocol):
    """uvicorn's view of how full the socket is."""

    async def drain(self) -> None:
        """Wait until there is room."""


class Body:
    """Writes one answer.

    Args:
        scope: The request's ASGI scope.
        send: Its ASGI send.
        framed: Rows come with their own HTTP chunk framing.
    """

    def __init__(self, scope: Scope, send: Send, *, framed: bool) -> None:
        self._send = send
        self._framed = framed
        connection = scope["extensions"][EXTENSION]
        self._transport = cast("asyncio.Transport", connection["transport"])
        self._flow = cast("Flow", connection["flow"])

    async def start(self, content_type: str) -> None:
        """Send status 200 and the headers."""
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", content_type.encode())],
            }
        )

    async def text(self, text: str) -> None:
        """Send text as one chunk."""
        if text:
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def rows(self, data: memoryview | bytes) -> None:
        """Send whole rows, or the beginning of one."""
        if not self._framed:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        elif not self._transport.is_closing():
            await self._flow.drain()
            self._transport.write(data)

    async def end(self) -> None:
        """Send the last chunk."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def cut(self, gone: asyncio.Event, *, reset: bool = False) -> None:
        """Break the connection: after what was written, or at once with a TCP reset."""
        if reset:
            self._transport.abort()
        else:
            self._transport.close()
        await gone.wait()

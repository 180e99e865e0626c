"""Messages between the broker and its nodes: JSON objects behind a length of four bytes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

Frame = dict[str, Any]
_LENGTH = 4


def pack(frame: Frame) -> bytes:
    """The bytes of one message."""
    body = msgspec.json.encode(frame)
    return len(body).to_bytes(_LENGTH, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next message; None when the other side is gone."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return dict(msgspec.json.decode(body))


def receive(connection: socket.socket) -> Frame | None:
    """The same over a blocking socket."""
    try:
        length = int.from_bytes(_exactly(connection, _LENGTH), "big")
        return dict(msgspec.json.decode(_exactly(connection, length)))
    except (EOFError, OSError):
        return None


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)

"""What a server between a client and a ksqlDB server does: it reads a request and passes it on."""

from __future__ import annotations

import socket
from collections.abc import Callable

_RECEIVE = 1 << 20


def read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Read one request: its head, with the blank line, and its body; nothing when the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(_RECEIVE)
        if not part:
            return b"", b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    size = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < size:
        body += connection.recv(_RECEIVE)
    return head + b"\r\n\r\n", body


def pass_on(behind: tuple[str, int], head: bytes, body: bytes, take: Callable[[bytes], object]) -> None:
    """Send a request to the server behind, and hand its answer to `take` part by part."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    lines.insert(1, b"Connection: close")
    with socket.create_connection(behind) as upstream:
        upstream.sendall(b"\r\n".join(lines) + body)
        while part := upstream.recv(_RECEIVE):
            take(part)

"""A server that is never the slow part: it asks a real one once and sends the recorded answer from then on.

    python benchmarks/replay.py http://127.0.0.1:8088

Stands between a client and a ksqlDB server. What is sent to `/query` is answered, the first time, by the server
behind; every later request with the same body gets the very same bytes, one HTTP chunk per row if they came so.
Everything else is passed on. Prints its own address. For measurements only: recorded answers never grow old.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO
from urllib.parse import urlsplit

_RECEIVE = 1 << 20


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
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


class _Handler(socketserver.BaseRequestHandler):
    server: Replay

    def handle(self) -> None:
        head, body = _request(self.request)
        if not head:
            return
        path = head.split(b" ", 2)[1]
        if path != b"/query":
            self._pass_on(head, body, self.request.sendall)
            return
        with self.server.recording:
            if body not in self.server.answers:
                file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
                self._pass_on(head, body, file.write)
                file.flush()
                self.server.answers[body] = file
        # From the disk's cache straight to the socket: the server takes nearly no time from the contestants.
        with open(f"/proc/self/fd/{self.server.answers[body].fileno()}", "rb") as answer:  # noqa: PTH123
            self.request.sendfile(answer)

    def _pass_on(self, head: bytes, body: bytes, take: Callable[[bytes], object]) -> None:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        lines.insert(1, b"Connection: close")
        with socket.create_connection(self.server.behind) as upstream:
            upstream.sendall(b"\r\n".join(lines) + body)
            while part := upstream.recv(_RECEIVE):
                take(part)


class Replay(socketserver.ThreadingTCPServer):
    """The server; one request per connection, because the answers say `Connection: close`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.behind = (address.hostname or "127.0.0.1", address.port or 8088)
        self.answers: dict[bytes, IO[bytes]] = {}
        self.recording = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)


def main() -> None:
    """Serve until standard input ends."""
    with Replay(sys.argv[1]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

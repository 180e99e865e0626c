"""A server that is never the slow part: it asks a real one once and sends the recorded answer from then on.

    python benchmarks/replay.py http://127.0.0.1:8088

Stands between a client and a ksqlDB server. What is sent to `/query` is answered, the first time, by the server
behind; every later request with the same body gets the very same bytes, one HTTP chunk per row if they came so.
Everything else is passed on. Prints its own address. For measurements only: recorded answers never grow old.
"""

from __future__ import annotations

import socketserver
import sys
import tempfile
import threading
from typing import IO
from urllib.parse import urlsplit

from relay import pass_on, read_request


class _Handler(socketserver.BaseRequestHandler):
    server: Replay

    def handle(self) -> None:
        head, body = read_request(self.request)
        if not head:
            return
        path = head.split(b" ", 2)[1]
        if path != b"/query":
            pass_on(self.server.behind, head, body, self.request.sendall)
            return
        with self.server.recording:
            if body not in self.server.answers:
                file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
                pass_on(self.server.behind, head, body, file.write)
                file.flush()
                self.server.answers[body] = file
        # From the disk's cache straight to the socket: the server takes nearly no time from the contestants.
        with open(f"/proc/self/fd/{self.server.answers[body].fileno()}", "rb") as answer:  # noqa: PTH123
            self.request.sendfile(answer)


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

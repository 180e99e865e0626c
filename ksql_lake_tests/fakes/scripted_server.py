"""A loopback HTTP/1.1 server that sends exactly the bytes a test scripts, and remembers what it was asked.

It knows nothing of ksqlDB: a test says, per path, what goes over the wire step by step, down to a chunk cut in
the middle, a silence, or a reset connection. Each request to a path takes the next script; the last one is used
for all further requests. Paths without a script answer 404 `Not Found`, as ksqlDB does. Real sockets on
127.0.0.1, a thread per connection, nothing that waits longer than `PATIENCE`.

    with ScriptedServer() as server:
        server.script("/info", answer(b"{}", 503), answer(INFO))
        server.script("/query", chunked(HEADER, ROW, end=False), chunked(HEADER, ROW, DONE))
        ... a client at server.url ...
        assert [request.path for request in server.requests] == ["/info", "/info", "/query"]
"""

from __future__ import annotations

import io
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

PATIENCE = 30.0
"""Upper bound, in seconds, of every wait; only a broken test gets there."""


@dataclass(frozen=True)
class Wait:
    """A step: stay silent until the event is set, the client leaves, or the server stops."""

    until: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Reset:
    """A step: end the connection the rude way (RST)."""


@dataclass(frozen=True)
class Reached:
    """A step: say that everything before it has been sent."""

    sent: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Heartbeat:
    """A step: send the same bytes again and again, until the client leaves or the server stops."""

    data: bytes
    every: float = 0.02


Step = bytes | Wait | Reset | Reached | Heartbeat
SILENCE = Wait()
RESET = Reset()


@dataclass(frozen=True)
class Script:
    """What one request is answered with.

    Attributes:
        steps: Bytes are sent as they are, one after the other.
        keep: Whether the connection stays open for the next request.
    """

    steps: Sequence[Step]
    keep: bool = False


@dataclass
class Request:
    """What the client sent; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client_left: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def head(status: int = 200, **headers: str) -> bytes:
    """A response's head; underscores in header names become dashes."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}


def answer(
    body: bytes, status: int = 200, *, content_type: str = "application/json", keep: bool = True
) -> Script:
    """A whole answer with its length."""
    return Script([head(status, Content_Type=content_type, Content_Length=str(len(body))), body], keep=keep)


def chunked(*steps: Step, end: bool = True) -> Script:
    """A streamed answer, one HTTP chunk per bytes; without `end` the connection is cut at a chunk's border."""
    opening = head(Content_Type="application/vnd.ksql.v1+json", Transfer_Encoding="chunked")
    wire = [chunk(step) if isinstance(step, bytes) else step for step in steps]
    return Script([opening, *wire, LAST_CHUNK] if end else [opening, *wire])


class ScriptedServer:
    """The server; a context manager.

    Args:
        tls: Context of the server's side; None speaks plain HTTP.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._tls = tls
        self._scripts: dict[str, deque[Script]] = {}
        self._choices: dict[str, Callable[[Request], Script]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is."""
        # Certificates are issued for the name.
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def script(self, path: str, *scripts: Script) -> None:
        """Say what the next requests to a path are answered with."""
        self._scripts[path] = deque(scripts)

    def choose(self, path: str, choice: Callable[[Request], Script]) -> None:
        """Say what requests to a path are answered with, by what they ask."""
        self._choices[path] = choice

    def asked(self, path: str) -> list[Request]:
        """The requests to a path so far."""
        return [request for request in self.requests if request.path == path]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(PATIENCE)
        try:
            # A client that does not like the certificate, or is not liked, ends here.
            connection = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
        except OSError:
            plain.close()
            return
        request: Request | None = None
        with connection, connection.makefile("rb") as reader:
            try:
                while self._wait_readable(connection):
                    request = _read_request(reader)
                    if request is None:
                        connection.sendall(head(400, Connection="close"))
                        break
                    with self._lock:
                        self.requests.append(request)
                        script = self._next_script(request.path)
                    # Outside the lock: a choice may wait for other requests.
                    choice = self._choices.get(request.path)
                    script = choice(request) if choice else script
                    self._play(script, connection, request)
                    if not script.keep:
                        break
            except OSError:
                # The client went away in the middle of something; what it did before is on record.
                if request is not None:
                    request.client_left.set()
                return

    def _next_script(self, path: str) -> Script:
        scripts = self._scripts.get(path)
        if not scripts:
            return answer(b"Not Found", 404, content_type="text/plain")
        return scripts.popleft() if len(scripts) > 1 else scripts[0]

    def _play(self, script: Script, connection: socket.socket, request: Request) -> None:
        for step in script.steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, Reset):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            elif isinstance(step, Reached):
                step.sent.set()
            elif isinstance(step, Heartbeat):
                while not self._wait(Wait(), connection, seconds=step.every):
                    connection.sendall(step.data)
                request.client_left.set()
                return
            elif self._wait(step, connection):
                request.client_left.set()
                return

    def _wait(self, step: Wait, connection: socket.socket, *, seconds: float = PATIENCE) -> bool:
        """Stay silent; True if the client left meanwhile."""
        deadline = time.monotonic() + seconds
        while not (step.until.wait(0.01) or self._stopping.is_set()) and time.monotonic() < deadline:
            if select.select([connection], [], [], 0)[0]:
                # A client that waits for an answer has nothing to say: readable means that it hung up.
                return True
        return False

    def _wait_readable(self, connection: socket.socket) -> bool:
        deadline = time.monotonic() + PATIENCE
        while not self._stopping.is_set() and time.monotonic() < deadline:
            if select.select([connection], [], [], 0.01)[0]:
                return True
        return False


def _read_request(reader: io.BufferedReader) -> Request | None:
    if not reader.peek(1)[:1].isalpha():
        return None  # hung up, or speaks TLS to a plain server
    line = reader.readline().decode("latin-1").split()
    headers: dict[str, str] = {}
    while (raw := reader.readline().strip()) != b"":
        name, _, value = raw.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(line[0], line[1], headers, body)

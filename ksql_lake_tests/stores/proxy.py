"""A proxy before an S3 server that counts requests by what they do, and interferes as a test says.

A function decides what it does with each request: let it pass (perhaps with other headers), answer it
itself, or forward it and never answer, as when a connection breaks at the worst moment.
"""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP = {"transfer-encoding", "connection", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request on its way to the store.

    Attributes:
        does: `get`, `head`, `list`, `put`, `create` (a conditional put), `copy`, `delete`, or a step of an
            upload in parts: `begin`, `part`, `complete`, `abort`.
        key: Path below the bucket, or the query of a list.
        headers: As they were sent.
    """

    does: str
    key: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy answers by itself; a status of 0 answers nothing and closes the connection.

    Attributes:
        status: Of the answer.
        body: Of the answer.
        forward: Whether the request reaches the store all the same.
        headers: Of the answer.
    """

    status: int = 0
    body: bytes = b""
    forward: bool = False
    headers: tuple[tuple[str, str], ...] = ()


Interfere = Callable[[Request], Answer | None]


@dataclass(slots=True)
class Proxy:
    """A running proxy.

    Attributes:
        url: Its address.
        seen: Every request, in order.
        interfere: What to do with each; None lets it pass. It may change the headers.
    """

    url: str
    seen: list[Request] = field(default_factory=list)
    interfere: Interfere = lambda _request: None

    @property
    def counts(self) -> Counter[str]:
        """How many requests there were, by what they do."""
        return Counter(request.does for request in self.seen)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Run a proxy before a server while the block lasts."""
    proxy = Proxy("")

    class Handler(_Handler):
        upstream = urlsplit(url).netloc
        owner = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""
    owner: Proxy

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_ANY(self) -> None:
        """Handle a request of any method."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = _request(self.command, self.path, dict(self.headers.items()))
        self.owner.seen.append(request)
        own = self.owner.interfere(request)
        if own is not None and not own.forward:
            self._answer(own.status, [*own.headers], own.body)
            return
        connection = http.client.HTTPConnection(self.upstream)
        try:
            connection.request(self.command, self.path, body, request.headers)
            got = connection.getresponse()
            data = got.read()
            if own is not None:
                self._answer(own.status, [*own.headers], own.body)
            else:
                self._answer(got.status, got.getheaders(), data)
        finally:
            connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_ANY  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.close_connection = True
        if status == 0:
            return
        try:
            self.send_response(status)
            length = next((value for name, value in headers if name.lower() == "content-length"), "")
            for name, value in headers:
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("content-length", length if self.command == "HEAD" else str(len(body)))
            self.send_header("connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except ConnectionError:
            return  # whoever asked has gone


def _request(method: str, path: str, headers: dict[str, str]) -> Request:
    parts = urlsplit(path)
    lowered = {name.lower() for name in headers}
    query = parts.query
    does = method.lower()
    if method == "GET" and ("list-type" in query or parts.path.count("/") == 1):
        return Request("list", query, headers)
    if method == "PUT":
        does = "part" if "partNumber" in query else "copy" if "x-amz-copy-source" in lowered else "put"
        does = "create" if "if-none-match" in lowered else does
    elif method == "POST":
        does = "delete" if "delete" in query else "begin" if "uploads" in query else "complete"
    elif method == "DELETE" and "uploadId" in query:
        does = "abort"
    return Request(does, parts.path.split("/", 2)[-1], headers)

"""Call a devserver's own routes under /devserver from Python."""

# It uses a plain socket, so that a test that starts a server needs no HTTP library.

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httptools

from ksql_lake.errors import ConfigError

_PATIENCE = 60.0
_READ_BYTES = 1 << 16


class Reply:
    """Collects what the HTTP parser finds in an answer: its body, and whether it is complete."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, body: bytes) -> None:
        """Take the next bytes of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Note that the body has ended properly."""
        self.complete = True


def append(url: str, source: str, rows: Iterable[Mapping[str, Any]], *, transaction: str | None = None) -> int:
    """Append rows to a source; returns how many.

    Args:
        url: The server.
        source: A stream or table that no query writes.
        rows: Values by column name; `ROWTIME`, `ROWPARTITION` and `@tombstone` are allowed too.
        transaction: The transaction of the rows, which stays open until it is ended.

    Raises:
        ConfigError: The server refuses them, or does not answer.
    """
    lines = "\n".join(json.dumps(dict(row)) for row in rows)
    query = f"?transaction={quote(transaction)}" if transaction is not None else ""
    return int(call(url, "POST", f"/devserver/sources/{quote(source)}/rows{query}", lines)["added"])


def end_transaction(url: str, source: str, transaction: str, *, commit: bool) -> None:
    """Commit or abort a transaction.

    Raises:
        ConfigError: There is no open transaction of this name, or the server does not answer.
    """
    end = "commit" if commit else "abort"
    call(url, "POST", f"/devserver/sources/{quote(source)}/transactions/{quote(transaction)}/{end}", "")


def change_log(url: str, source: str, change: Mapping[str, Any]) -> None:
    """Change a source's log: `trim`, `gap` and `repeat` by partition, `partitions` their number.

    Raises:
        ConfigError: The change is not possible, or the server does not answer.
    """
    call(url, "POST", f"/devserver/sources/{quote(source)}/log", json.dumps(dict(change)))


def set_faults(url: str, faults: Iterable[Mapping[str, Any]]) -> None:
    """Replace a server's switches.

    Raises:
        ConfigError: There is no such switch, or the server does not answer.
    """
    call(url, "PUT", "/devserver/faults", json.dumps([dict(fault) for fault in faults]))


def call(url: str, method: str, path: str, body: str) -> Any:
    """Send one request; returns its JSON answer.

    Raises:
        ConfigError: The answer is not 200, or there is none.
    """
    place = urlsplit(url)
    if place.scheme != "http" or place.hostname is None or place.port is None:
        raise ConfigError(f"{url}: rows and switches go over http://host:port only")
    data = body.encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    reply = Reply()
    parser = httptools.HttpResponseParser(reply)
    try:
        with socket.create_connection((place.hostname, place.port), timeout=_PATIENCE) as connection:
            connection.sendall(head.encode() + data)
            while not reply.complete and (received := connection.recv(_READ_BYTES)):
                parser.feed_data(received)
    except (OSError, httptools.HttpParserError) as error:
        raise ConfigError(f"{url} does not answer: {error}") from None
    if not reply.complete:
        raise ConfigError(f"{url} closed the connection without an answer")
    answer = json.loads(reply.body)
    if parser.get_status_code() != 200:
        raise ConfigError(str(answer.get("message", answer)))
    return answer

"""Talking to a devserver in a test: plain HTTP, nothing of ksql_lake's own client."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests

V1 = "application/vnd.ksql.v1+json"
DELIMITED = "application/vnd.ksqlapi.delimited.v1"
MIGRATE = "ksql.endpoint.migrate.query"
"""Set to false, it asks for the older writer."""
NO_DELAY = (
    "--setting",
    "ksql.query.push.v2.registry.installed=true",
    "--setting",
    "ksql.query.push.v2.new.latest.delay.ms=0",
)
"""Arguments of a server that answers with continuation tokens at once."""
PATIENCE = 60.0
"""Seconds after which a conversation that hangs fails its test."""


@dataclass(frozen=True)
class Client:
    """Sends requests to one server."""

    url: str

    def query(
        self,
        sql: str,
        *,
        accept: str | None = V1,
        properties: Mapping[str, object] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """POST /query."""
        body = {"ksql": sql, "streamsProperties": dict(properties or {})}
        return self._post("/query", body, accept, stream=stream)

    def query_stream(
        self, sql: str, *, accept: str | None = None, properties: Mapping[str, object] | None = None
    ) -> requests.Response:
        """POST /query-stream."""
        return self._post("/query-stream", {"sql": sql, "properties": dict(properties or {})}, accept)

    def _post(self, path: str, body: object, accept: str | None, *, stream: bool = False) -> requests.Response:
        # requests adds `Accept: */*` by itself; None takes the header away.
        return requests.post(
            self.url + path,
            json=body,
            headers={"Accept": accept},
            stream=stream,
            timeout=PATIENCE,
        )

    def rows(self, sql: str, **properties: object) -> list[list[Any]]:
        """The rows of a v1 answer that must be whole."""
        answer = self.query(sql, properties=properties)
        assert answer.status_code == 200, answer.text
        lines = [msgspec.json.decode(line) for line in object_lines(answer.text)]
        assert not [line for line in lines if "errorMessage" in line], answer.text
        return [line["row"]["columns"] for line in lines if "row" in line]

    def schema(self, sql: str) -> str:
        """The header's schema."""
        first = next(iter(object_lines(self.query(sql).text)))
        return str(json.loads(first)["header"]["schema"])

    def ksql(self, text: str) -> list[dict[str, Any]]:
        """POST /ksql, which must succeed."""
        answer = requests.post(f"{self.url}/ksql", json={"ksql": text}, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def refused(self, text: str) -> dict[str, Any]:
        """POST /ksql, which must be refused; the error body."""
        answer = requests.post(f"{self.url}/ksql", json={"ksql": text}, timeout=PATIENCE)
        assert answer.status_code == 400, answer.text
        return dict(answer.json())

    def append(self, source: str, *rows: Mapping[str, object]) -> int:
        """Append rows through the server's own door."""
        return self.append_text(source, "\n".join(json.dumps(dict(row)) for row in rows))

    def append_text(self, source: str, lines: str) -> int:
        """Append JSON lines as they are."""
        body = lines.encode()
        answer = requests.post(f"{self.url}/devserver/sources/{source}/rows", data=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["added"])

    def faults(self, *faults: dict[str, object]) -> None:
        """Switch faults."""
        answer = requests.put(f"{self.url}/devserver/faults", json=list(faults), timeout=PATIENCE)
        assert answer.status_code == 200, answer.text

    def running(self) -> list[str]:
        """Ids of the queries being answered."""
        return list(requests.get(f"{self.url}/devserver", timeout=PATIENCE).json()["queries"])

    def asked(self) -> list[dict[str, Any]]:
        """What the server was asked so far, and how it went."""
        return list(requests.get(f"{self.url}/devserver/queries", timeout=PATIENCE).json())


def object_lines(text: str) -> list[str]:
    """The JSON objects of a v1 answer, as the official client takes them apart."""
    stripped = (
        line.rstrip(",") for line in text.removeprefix("[").removesuffix("\n").removesuffix("]").split("\n")
    )
    return [line for line in stripped if line]


def lines_of(answer: requests.Response) -> Iterator[str]:
    """The lines of an answer as they come; byte by byte, because a push query sends less than buffers hold."""
    line = bytearray()
    for byte in answer.iter_content(chunk_size=1):
        if byte == b"\n":
            yield line.decode()
            line.clear()
        else:
            line += byte
    if line:
        yield line.decode()


@dataclass(frozen=True)
class RawAnswer:
    """What came over the socket.

    Attributes:
        head: Status line and headers.
        body: Everything behind, chunk framing included.
        reset: The connection ended with a TCP reset.
    """

    head: bytes
    body: bytes
    reset: bool

    @property
    def chunks(self) -> list[bytes]:
        """The body's whole chunks, the empty last one included if it came."""
        chunks, rest = [], self.body
        while b"\r\n" in rest:
            size_text, rest = rest.split(b"\r\n", 1)
            size = int(size_text, 16)
            if len(rest) < size + 2:
                break
            chunks.append(rest[:size])
            rest = rest[size + 2 :]
        return chunks

    @property
    def ended(self) -> bool:
        """Whether HTTP says the body is whole."""
        return self.body.endswith(b"0\r\n\r\n")


def raw_query(
    url: str,
    sql: str,
    *,
    version: str = "1.1",
    path: str = "/query",
    accept: str = V1,
    properties: Mapping[str, object] | None = None,
) -> RawAnswer:
    """One query over a plain socket, read to the connection's end."""
    address = urlsplit(url)
    keys = ("sql", "properties") if path == "/query-stream" else ("ksql", "streamsProperties")
    body = json.dumps({keys[0]: sql, keys[1]: dict(properties or {})}).encode()
    request = (
        f"POST {path} HTTP/{version}\r\nHost: test\r\nAccept: {accept}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    received, reset = bytearray(), False
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(request + body)
        try:
            while data := connection.recv(1 << 16):
                received += data
        except ConnectionResetError:
            reset = True
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    return RawAnswer(head, rest, reset)

"""Recordings of running servers: their requests sent again, and both answers made comparable.

Ids, addresses and times differ from run to run, rows come in any order, and a topic's retention was set outside
ksqlDB; everything else has to be the same.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ksql_lake_tests.devserver.conversation import PATIENCE, Client

FOLDER = Path(__file__).parent.parent / "recordings"
_ANEW = (
    (re.compile(r"(transient_\w+?)_\d{10,}"), r"\1_N"),
    (re.compile(r"query_\d{13}"), "query_N"),
    (re.compile(r"SCALABLE_PUSH_QUERY_[0-9a-f-]{36}"), "SCALABLE_N"),
    (re.compile(r"((?:CTAS|CSAS|CST)_\w+?)_\d+"), r"\1_N"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"RETENTION_MS=-?\d+"), "RETENTION_MS=N"),
    (re.compile(r"_confluent-ksql-[a-z0-9]+_"), "_confluent-ksql-ID_"),
    (re.compile(r'"kafkaClusterId":"[^"]*","ksqlServiceId":"[^"]*"'), '"kafkaClusterId":"","ksqlServiceId":""'),
)
_NOT_MODELLED = ("clusterStatistics", "statistics", "topology", "executionPlan")


@dataclass(frozen=True)
class Answer:
    """An answer in a form that two of them can be compared in.

    Attributes:
        headers: In order, without the length's value.
        chunks: Of a chunked body, rows sorted.
        body: The whole, rows sorted; parsed where it is JSON entities.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: tuple[str, ...]
    body: Any


@dataclass(frozen=True)
class Recording:
    """One exchange with a running server.

    Attributes:
        server: Its release.
    """

    server: str
    name: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def text(self) -> str:
        """The body as it came."""
        return base64.b64decode(self.response["body_base64"]).decode()

    @property
    def rows(self) -> list[list[Any]]:
        """The rows of a v1 answer; DECIMALs and DOUBLEs as texts."""
        lines = (line.strip().rstrip(",").removesuffix("]") for line in self.text.split("\n"))
        found = [
            json.loads(line + tail, parse_float=str)
            for line in lines
            if '{"row"' in line
            for tail in [_tail(line)]
        ]
        return [row["row"]["columns"] for row in found]

    @property
    def answer(self) -> Answer:
        """What the server answered."""
        given = self.response["headers"]
        return comparable(
            self.response["status"],
            list(given.items()) if isinstance(given, dict) else [(name, value) for name, value in given],
            _cut(base64.b64decode(self.response["body_base64"]), self.response.get("chunks") or []),
        )


def _tail(line: str) -> str:
    return "}" if line.count("{") > line.count("}") else ""


def recordings(name: str) -> list[Recording]:
    """All exchanges of one file."""
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    return [
        Recording(item["server"], item["name"], item["request"], item["response"])
        for item in map(json.loads, lines)
    ]


def _cut(body: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(body[at : at + size])
        at += size
    return chunks if sizes else [body]


def comparable(status: int, headers: list[tuple[str, str]], chunks: list[bytes]) -> Answer:
    """Bring an answer into the form that is compared."""
    texts = [_anew(chunk.decode(errors="replace")) for chunk in chunks]
    while texts and texts[-1] == "\n":
        texts.pop()  # how often a second passed
    if texts and "SCALABLE_N" in texts[0]:
        texts = [text for text in texts if text != "\n"]
    told = tuple((name, "" if name == "content-length" else value) for name, value in headers)
    chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
    if ("content-type", "application/json") in headers and "query_N" in texts[0]:
        # The older writer sends a table as it polls: in one chunk, or its first row before the others.
        ends = [text for text in texts if text == "]\n"]
        texts = ["".join(text for text in texts if text != "]\n"), *ends]
    return Answer(status, told, _sorted_rows(texts) if chunked else (), _body("".join(texts)))


def _anew(text: str) -> str:
    for pattern, instead in _ANEW:
        text = pattern.sub(instead, text)
    return text


def _sorted_rows(texts: list[str]) -> tuple[str, ...]:
    """Chunks that are one row sorted; of others, which hold many rows, only how many rows they hold."""
    rows = sorted(text for text in texts if _is_row(text))
    left = iter(rows)
    gathered = ("\n".join(sorted(line.rstrip(",]") for line in text.split("\n"))) for text in texts)
    return tuple(next(left) if _is_row(text) else other for text, other in zip(texts, gathered, strict=True))


def _is_row(text: str) -> bool:
    return text.startswith(('{"row"', '["', ',["')) and "header" not in text


def _told(chunks: list[bytes]) -> tuple[int, int]:
    """Return how many chunks are a row or a continuation token, and how many commas follow the last of them."""
    texts = [chunk.decode(errors="replace") for chunk in chunks]
    places = [n for n, text in enumerate(texts) if _is_row(text) or text.startswith('{"continuationToken"')]
    return len(places), texts[places[-1] :].count(",\n") if places else 0


def _body(text: str) -> Any:
    try:
        document = json.loads(text)
    except ValueError:
        # Empty lines are seconds that passed.
        return [line.rstrip(",]") for line in sorted(text.split("\n")) if line.strip("],")]
    return _entities(document)


def _entities(value: Any) -> Any:
    """The same without what is not modelled; lists that have no order are sorted."""
    if isinstance(value, dict):
        kept = {key: _entities(item) for key, item in value.items() if key not in _NOT_MODELLED}
        return {key: sorted(item) if key == "sourceConstraints" else item for key, item in kept.items()}
    if isinstance(value, list):
        # Queries that other clients left behind are not ours.
        value = [
            item
            for item in value
            if not (isinstance(item, dict) and str(item.get("id")).startswith("transient"))
        ]
        items = [_entities(item) for item in value]
        return sorted(items, key=json.dumps) if any(isinstance(i, dict) for i in items) else items
    return value


def _left_behind(item: object) -> bool:
    return isinstance(item, dict) and str(item.get("id")).startswith("transient")


def replay(url: str, recording: Recording) -> Answer:
    """Send a recorded request to a server; what a client closed then is closed now."""
    address = urlsplit(url)
    request = recording.request
    given = request.get("headers")
    if given is None:
        given = [
            ["Accept", "application/vnd.ksql.v1+json"],
            ["Content-Type", "application/json"],
            ["Connection", "close"],
        ]
    body = (request.get("body") or "").encode()
    pairs = given.items() if isinstance(given, dict) else given
    headers = [(name, value) for name, value in pairs if name not in ("Host", "Content-Length")]
    head = f"{request['method']} {request['path']} {request.get('version') or 'HTTP/1.1'}\r\n"
    head += f"Host: {address.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    if request["method"] == "POST":
        head += f"Content-Length: {len(body)}\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        return _read(connection, url, recording)


def _read(connection: socket.socket, url: str, recording: Recording) -> Answer:
    received = bytearray()
    closing = "EMIT CHANGES" in (recording.request.get("body") or "")
    cut = _cut(base64.b64decode(recording.response["body_base64"]), recording.response.get("chunks") or [])
    wanted = _told(cut)
    closing = closing and not any(b"errorMessage" in chunk for chunk in cut)
    while not _ended(received):
        rest = _whole(received).partition(b"\r\n\r\n")[2]
        so_far = list(_chunks(rest)) if closing else []
        if b"queryId" in b"".join(so_far) and _told(so_far) >= wanted:
            if recording.response.get("last_chunk") is False or recording.response.get("end") == "still open":
                break
            _close(url, b"".join(so_far), terminate="terminate" in recording.name)
            closing = False
        data = connection.recv(1 << 16)
        if not data:
            break
        received += data
    head, _, rest = _whole(received).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
    return comparable(int(status.split()[1]), headers, list(_chunks(rest)) if chunked else [rest])


def _close(url: str, so_far: bytes, *, terminate: bool) -> None:
    found = re.search(rb'"queryId":"([^"]+)"', so_far)
    query_id = found.group(1).decode() if found else ""
    if terminate:
        Client(url).ksql(f"TERMINATE {query_id};")
    else:
        requests.post(f"{url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)


def _whole(received: bytearray) -> bytes:
    """What came, without the interim answer to an Expect header."""
    return bytes(received).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


def _ended(received: bytearray) -> bool:
    head, found, rest = _whole(received).partition(b"\r\n\r\n")
    if not found:
        return False
    if b"chunked" in head:
        return rest.endswith(b"0\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return length is not None and len(rest) >= int(length.group(1))


def _chunks(rest: bytes) -> Iterator[bytes]:
    while b"\r\n" in rest:
        size_text, after = rest.split(b"\r\n", 1)
        size = int(size_text, 16)
        if len(after) < size + 2:
            return
        if size:
            yield after[:size]
        rest = after[size + 2 :]

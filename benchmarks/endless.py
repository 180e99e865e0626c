"""A server with a derived stream as long as one likes, whose rows are computed when they are asked for.

    python benchmarks/endless.py http://127.0.0.1:8088 STREAM

Stands between a client and the stand-in. The stand-in holds the objects and a handful of rows; everything is
passed on to it but three things about STREAM: where its source's topic begins and ends (DESCRIBE EXTENDED), the
push query from its first row on, and the one that begins at a token. Row number n of the topic is a formula of
n, so a topic of a hundred million records takes no room and no time to make, and nothing is scanned: what it
costs a real server to find a record is not part of any figure. The rows that are sent are real ones.

Lines on standard input say what there is (`FIRST END TODAY`: the numbers of the first record that the topic
still has, of the one behind the last, and of the first one of today) or ask for `count`: how many requests came
since. Each is answered by a line.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from relay import pass_on, read_request

PARTITIONS = 4
COLUMNS = {"ROWTIME": "BIGINT", "ID": "BIGINT", "NOTE": "STRING", "P": "INTEGER", "O": "BIGINT"}
COLUMNS |= {"ROWPARTITION": "INTEGER", "ROWOFFSET": "BIGINT"}
DAY = 86_400_000
TOKEN = "request.ksql.query.push.continuation.token"  # noqa: S105 - the name of a request's key
BATCH = 500
"""Rows before a token, as a real server has it."""
_BLOCK = 100_000
_SELECTED = re.compile(r"SELECT (.*?) FROM `?(\w+)`?.* EMIT CHANGES", re.DOTALL)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.ksql.v1+json\r\n"
    b"Transfer-Encoding: chunked\r\nconnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Topic:
    """The numbers of its first record, of the one behind its last, and of the first one of today.

    All are multiples of the number of partitions. The derived stream holds the source's rows, but in other
    partitions.
    """

    first: int
    end: int
    today: int = 0

    def rows(self, numbers: np.ndarray, columns: list[str]) -> list[bytes]:
        """The rows of these numbers as the server writes them."""
        sink, offsets = numbers % PARTITIONS, numbers // PARTITIONS
        midnight = int(time.time()) * 1000 // DAY * DAY
        values = {
            "ROWTIME": midnight - DAY * (numbers < self.today) + numbers % DAY,
            "ID": numbers,
            "NOTE": numbers % 1000,
            "P": (sink + 1) % PARTITIONS,
            "O": offsets,
            "ROWPARTITION": sink,
            "ROWOFFSET": offsets,
        }
        texts = [pc.cast(pa.array(values[name]), pa.string()) for name in columns]
        for at, name in enumerate(columns):
            if COLUMNS[name] == "STRING":
                texts[at] = pc.binary_join_element_wise('"note ', texts[at], '"', "")
        joined = pc.binary_join_element_wise(*texts, ",")
        whole = pc.binary_join_element_wise('{"row":{"columns":[', joined, "]}},\n", "")
        return [bytes(text, "ascii") for text in whole.to_pylist()]

    def after(self, offsets: list[int]) -> Iterator[tuple[np.ndarray, list[int], list[int]]]:
        """The numbers of the records from these offsets on, in batches, with the offsets before and behind."""
        here = list(offsets)
        end = self.end // PARTITIONS
        while any(offset < end for offset in here):
            for partition in range(PARTITIONS):
                many = min(BATCH, end - here[partition])
                if many <= 0:
                    continue
                before = list(here)
                here[partition] += many
                numbers = np.arange(before[partition], here[partition]) * PARTITIONS + partition
                yield numbers, before, list(here)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _header(query: str, columns: list[str]) -> bytes:
    schema = ", ".join(f"`{name}` {COLUMNS[name]}" for name in columns)
    return _chunk(b"[" + json.dumps({"header": {"queryId": query, "schema": schema}}).encode() + b",\n")


class _Handler(socketserver.BaseRequestHandler):
    server: Endless

    def handle(self) -> None:
        head, body = read_request(self.request)
        if not head:
            return
        self.server.requests += 1
        asked = json.loads(body) if body else {}
        sql = str(asked.get("ksql", ""))
        selected = _SELECTED.search(sql)
        # The client hangs up when it has what it wants.
        with suppress(ConnectionError):
            if selected is not None and selected[2] == self.server.stream:
                columns = [word.strip().strip("`") for word in selected[1].split(",")]
                self._push(columns, asked.get("requestProperties", {}).get(TOKEN))
            elif sql.startswith("DESCRIBE") and sql.rstrip(";").endswith("EXTENDED"):
                self._describe(head, body)
            else:
                pass_on(self.server.behind, head, body, self.request.sendall)

    def _push(self, columns: list[str], token: str | None) -> None:
        topic = self.server.topic
        if token is None:
            self.request.sendall(_HEAD + _header("transient_1", columns))
            for start in range(topic.first, topic.end, _BLOCK):
                numbers = np.arange(start, min(start + _BLOCK, topic.end))
                self.request.sendall(_chunk(b"".join(topic.rows(numbers, columns))))
            while self._open():
                self.request.sendall(_chunk(b"\n"))
            return
        self.request.sendall(_HEAD + _header("SCALABLE_PUSH_QUERY_1", columns))
        behind = json.loads(base64.b64decode(token))["e"]["o"]
        for numbers, before, after in topic.after(behind):
            rows = b"".join(_chunk(row) for row in topic.rows(numbers, columns))
            self.request.sendall(rows + _chunk(_token(before, after)))
            behind = after
        while self._open():
            self.request.sendall(_chunk(_token(behind, behind)))

    def _open(self) -> bool:
        """Wait a second; whether the client is still there."""
        self.request.settimeout(1)
        try:
            return bool(self.request.recv(1))
        except TimeoutError:
            return True

    def _describe(self, head: bytes, body: bytes) -> None:
        parts: list[bytes] = []
        pass_on(self.server.behind, head, body, parts.append)
        top, _, content = b"".join(parts).partition(b"\r\n\r\n")
        if b"chunked" in top.lower():
            raise SystemExit("the stand-in describes in chunks, which is not provided for")
        described = json.loads(content)
        topic = self.server.topic
        for entity in described:
            for group in entity.get("sourceDescription", {}).get("queryOffsetSummaries", []):
                for summary in group["topicSummaries"]:
                    for part in summary["offsets"]:
                        end = topic.end // PARTITIONS
                        part |= {"logStartOffset": topic.first // PARTITIONS, "logEndOffset": end}
                        part["consumerOffset"] = end
        content = json.dumps(described).encode()
        top = re.sub(rb"(?i)content-length: *\d+", b"content-length: %d" % len(content), top)
        self.request.sendall(top + b"\r\n\r\n" + content)


def _token(before: list[int], after: list[int]) -> bytes:
    text = json.dumps({"s": {"o": before}, "e": {"o": after}, "v": 0}, separators=(",", ":"))
    token = base64.b64encode(text.encode()).decode()
    return (
        json.dumps({"continuationToken": {"continuationToken": token}}, separators=(",", ":")).encode() + b",\n"
    )


class Endless(socketserver.ThreadingTCPServer):
    """The server; one request per connection."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, url: str, stream: str) -> None:
        address = urlsplit(url)
        self.behind = (address.hostname or "127.0.0.1", address.port or 8088)
        self.stream = stream
        self.topic = Topic(0, 0)
        self.requests = 0
        super().__init__(("127.0.0.1", 0), _Handler)


def main() -> None:
    """Serve until standard input ends."""
    with Endless(sys.argv[1], sys.argv[2]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        for line in sys.stdin:
            if line.strip() == "count":
                print(server.requests, flush=True)
                server.requests = 0
            else:
                server.topic = Topic(*map(int, line.split()))
                print("ok", flush=True)


if __name__ == "__main__":
    main()

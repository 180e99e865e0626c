"""What every contestant gets, and how it reports its figures; imports nothing that one of them does not need.

A way's own seconds and CPU seconds (`work`) begin after its imports and preparations; `benchmarks/export.py`
measures the whole process, its CPU time and its peak memory from outside.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ACCEPT = "application/vnd.ksql.v1+json"
_RECEIVE = 1 << 18


class Task:
    """One query, and where its rows should go."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.url: str = given["url"]
        self.sql: str = given["sql"]
        self.feed: dict[str, Any] = given["feed"]
        self.first: str = given["first"]
        self.last: str = given["last"]
        self.folder = Path(given["folder"])
        self.out = self.folder / "out.parquet"

    @property
    def body(self) -> dict[str, Any]:
        """The request's body."""
        return {"ksql": self.sql, "streamsProperties": {}}

    def download(self) -> int:
        """Receive the answer on a plain socket and throw it away; give its size, HTTP's framing included."""
        address = urlsplit(self.url)
        body = json.dumps(self.body).encode()
        head = f"POST /query HTTP/1.1\r\nHost: x\r\nAccept: {ACCEPT}\r\nContent-Length: {len(body)}\r\n\r\n"
        size, room = 0, bytearray(_RECEIVE)
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(head.encode() + body)
            while received := connection.recv_into(room):
                size += received
        return size


def measured(ways: dict[str, Callable[[Task], Callable[[], object]]]) -> None:
    """Run the way that is named on the command line, and print its figures as one line of JSON."""
    task = Task(json.loads(sys.argv[2]))
    run = ways[sys.argv[1]](task)
    began, used = time.perf_counter(), time.process_time()
    run()
    print(json.dumps({"seconds": time.perf_counter() - began, "work": time.process_time() - used}))

"""What one could do instead, and this project: each way of getting one query's answer into Parquet.

    python benchmarks/contestants.py NAME '{"url": ..., "sql": ..., "feed": {...}, "folder": ...}'

Runs one way in a process of its own and prints its figures as one line of JSON: seconds after all imports, CPU
seconds, the process's peak memory in MB, rows, bytes of JSON and of Parquet. `benchmarks/export.py` compares.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import requests

from ksql_lake.export import Days, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.schema import Schema, arrow_schema, parse_schema
from ksql_lake.settings import load_settings

ACCEPT = "application/vnd.ksql.v1+json"
_START, _END = b'{"row":{"columns":[', b"]}},"
_RECEIVE = 1 << 18


class Task:
    """One query, and where its rows should go."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.url: str = given["url"]
        self.sql: str = given["sql"]
        self.feed: dict[str, Any] = given["feed"]
        self.days = Days(date.fromisoformat(given["first"]), date.fromisoformat(given["last"]))
        self.folder = Path(given["folder"])
        self.out = self.folder / "out.parquet"

    def ask(self) -> requests.Response:
        """Send the query."""
        body = {"ksql": self.sql, "streamsProperties": {}}
        return requests.post(f"{self.url}/query", json=body, headers={"Accept": ACCEPT}, timeout=600)

    def prepared(self) -> tuple[Schema, bytes]:
        """Give the answer's columns, and its rows without their frames: CSV text."""
        data = self.ask().content
        head, _, rows = data.partition(b",\n")
        rows = rows[: rows.rfind(_END) + len(_END)]
        return parse_schema(json.loads(head[1:])["header"]["schema"]), rows.replace(_START, b"").replace(
            _END, b""
        )

    def download(self) -> int:
        """Receive the answer on a plain socket and throw it away; give its size."""
        address = urlsplit(self.url)
        body = json.dumps({"ksql": self.sql, "streamsProperties": {}}).encode()
        head = f"POST /query HTTP/1.1\r\nHost: x\r\nAccept: {ACCEPT}\r\nContent-Length: {len(body)}\r\n\r\n"
        size, room = 0, bytearray(_RECEIVE)
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(head.encode() + body)
            while received := connection.recv_into(room):
                size += received
        return size


def parsed(schema: Schema, text: bytes) -> pa.Table:
    """Parse prepared text with types given and nothing checked."""
    types = {
        field.name: pa.timestamp("ms") if pa.types.is_timestamp(field.type) else field.type
        for field in arrow_schema(schema)
    }
    return pacsv.read_csv(
        pa.BufferReader(text),
        read_options=pacsv.ReadOptions(column_names=list(schema.names)),
        parse_options=pacsv.ParseOptions(double_quote=False),
        convert_options=pacsv.ConvertOptions(
            column_types=types, null_values=["null"], quoted_strings_can_be_null=False, strings_can_be_null=True
        ),
    )


def write(table: pa.Table, path: Path) -> None:
    """Write a ready table."""
    pq.write_table(table, path, compression="zstd", compression_level=1)


def naive(task: Task) -> Callable[[], object]:
    """What one writes in five lines."""

    def run() -> None:
        header, *rows = json.loads(task.ask().text)
        names = parse_schema(header["header"]["schema"]).names
        values = [row["row"]["columns"] for row in rows if "row" in row]
        frame = pd.DataFrame(values, columns=list(names))
        pq.write_table(pa.Table.from_pandas(frame), task.out)

    return run


def ours(task: Task) -> Callable[[], object]:
    """This project: exact types, proven complete, row checksums, durable commit."""
    feed = FEED_ADAPTER.validate_python(task.feed)

    def run() -> object:
        with KsqlClient(load_settings(ksqldb_url=task.url)) as client:
            return export_feed(feed, client, Lake(task.folder), days=task.days).read

    return run


def download(task: Task) -> Callable[[], object]:
    """Only receive the bytes."""
    return task.download


def ready(task: Task) -> Callable[[], object]:
    """Only write the table."""
    table = parsed(*task.prepared())
    return lambda: write(table, task.out)


def parts(task: Task) -> Callable[[], object]:
    """Receive the bytes, then parse prepared text, then write the table, one after the other."""
    schema, text = task.prepared()

    def run() -> None:
        task.download()
        write(parsed(schema, text), task.out)

    return run


WAYS = {way.__name__: way for way in (naive, ours, download, ready, parts)}


def high_water_mark() -> float:
    """The process's peak resident memory in MB of 1,000,000 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024 / 1e6


def main() -> None:
    """Run one way and print its figures."""
    task = Task(json.loads(sys.argv[2]))
    run = WAYS[sys.argv[1]](task)
    began, busy = time.perf_counter(), time.process_time()
    run()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    files = [path for path in task.folder.rglob("*.parquet") if "staging" not in path.parts]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": busy,
                "peak": high_water_mark(),
                "rows": sum(pq.read_metadata(path).num_rows for path in files),
                "parquet": sum(path.stat().st_size for path in files),
            }
        )
    )


if __name__ == "__main__":
    main()

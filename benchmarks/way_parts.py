"""The parts of an export one by one, without proof, checksum or commit; what they need is prepared before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import requests
from task import ACCEPT, Task, measured

from ksql_lake.schema import Schema, arrow_schema, parse_schema

_START, _END = b'{"row":{"columns":[', b"]}},"


def prepared(task: Task) -> tuple[Schema, bytes]:
    """Return the answer's columns, and its rows without their frames: CSV text."""
    data = requests.post(f"{task.url}/query", json=task.body, headers={"Accept": ACCEPT}, timeout=600).content
    head, _, rows = data.partition(b",\n")
    rows = rows[: rows.rfind(_END) + len(_END)]
    schema = parse_schema(json.loads(head[1:])["header"]["schema"])
    return schema, rows.replace(_START, b"").replace(_END, b"")


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


def download(task: Task) -> Callable[[], object]:
    """Only receive the bytes."""
    return task.download


def ready(task: Task) -> Callable[[], object]:
    """Only write the table."""
    table = parsed(*prepared(task))
    return lambda: write(table, task.out)


def parts(task: Task) -> Callable[[], object]:
    """Receive the bytes, then parse prepared text, then write the table, one after the other."""
    schema, text = prepared(task)

    def run() -> None:
        task.download()
        write(parsed(schema, text), task.out)

    return run


if __name__ == "__main__":
    measured({"download": download, "ready": ready, "parts": parts})

"""The same export with dlt: a generator of dict rows into its filesystem destination as Parquet.

Run by `benchmarks/export.py --dlt PYTHON` with the Python of an environment that has `dlt[filesystem,parquet]`
and requests; takes the same arguments and prints the same line as the other ways (`benchmarks/task.py`).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import requests

_NAME_OR_BRACKET = re.compile(r"`((?:[^`]|``)+)`|[<>]")


def column_names(schema: str) -> list[str]:
    """The columns of a header's schema text, without the fields of their STRUCTs."""
    names, depth = list[str](), 0
    for found in _NAME_OR_BRACKET.finditer(schema):
        if found[1] is None:
            depth += 1 if found[0] == "<" else -1
        elif depth == 0:
            names.append(found[1].replace("``", "`"))
    return names


def rows(url: str, sql: str) -> Iterator[dict[str, Any]]:
    """Yield each row as a dict."""
    body = {"ksql": sql, "streamsProperties": {}}
    accept = {"Accept": "application/vnd.ksql.v1+json"}
    with requests.post(f"{url}/query", json=body, headers=accept, stream=True, timeout=600) as response:
        names: list[str] = []
        for line in response.iter_lines(chunk_size=1 << 16):
            if line.startswith(b'{"row"'):
                yield dict(zip(names, json.loads(line.rstrip(b","))["row"]["columns"], strict=True))
            elif not names:
                names = column_names(json.loads(line.lstrip(b"[").rstrip(b","))["header"]["schema"])


def main() -> None:
    """Run it and print the figures."""
    task = json.loads(sys.argv[2])
    folder = Path(task["folder"])
    pipeline = dlt.pipeline(
        "export",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=(folder / "out").as_uri()),
        dataset_name="lake",
    )
    began = time.perf_counter()
    pipeline.run(rows(task["url"], task["sql"]), table_name="events", loader_file_format="parquet")
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()

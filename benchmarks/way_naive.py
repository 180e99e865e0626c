"""What one writes in five lines: all text, `json.loads`, a pandas frame, a file."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import requests
from task import ACCEPT, Task, measured

from ksql_lake.schema import parse_schema


def naive(task: Task) -> Callable[[], object]:
    """The script."""

    def run() -> None:
        answer = requests.post(f"{task.url}/query", json=task.body, headers={"Accept": ACCEPT}, timeout=600)
        header, *rows = json.loads(answer.text)
        names = parse_schema(header["header"]["schema"]).names
        values = [row["row"]["columns"] for row in rows if "row" in row]
        frame = pd.DataFrame(values, columns=list(names))
        pq.write_table(pa.Table.from_pandas(frame), task.out)

    return run


if __name__ == "__main__":
    measured({"naive": naive})

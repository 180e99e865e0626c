"""A diff for programs: one JSON document, or Parquet with a row per change; written as the changes come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ksql_lake.query.diff import TableDiff
from ksql_lake.query.json_values import json_values


def changes(difference: TableDiff, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Give each change as JSON-ready data: `op`, `key`, `changed`, `before`, `after`, absent rows as None."""
    for batch in difference.batches(limit=limit):
        columns = [json_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, values, strict=True))


def json_text(difference: TableDiff) -> Iterator[str]:
    """Give the JSON document piece by piece: the summary's keys, then `changes`, one per line."""
    yield json.dumps(difference.summary(), ensure_ascii=False)[:-1] + ', "changes": ['
    separator = "\n"
    for change in changes(difference):
        yield separator + json.dumps(change, ensure_ascii=False, allow_nan=False)
        separator = ",\n"
    yield "\n]}\n"


def write_parquet(difference: TableDiff, path: Path) -> None:
    """Write one row per change to a Parquet file; the summary is in its footer under `ksql_lake.diff`.

    Raises:
        OSError: The file cannot be written.
    """
    summary = {"ksql_lake.diff": json.dumps(difference.summary(), ensure_ascii=False)}
    # Without statistics: Arrow's leave NaN out, and readers who trust them would skip its rows.
    schema = difference.schema.with_metadata(summary)
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
        for batch in difference.batches():
            writer.write_batch(batch)

"""A diff as one JSON document, or as Parquet with a row per change; both are written as a stream."""

# BIGINT keeps all digits; DECIMAL, NaN and the infinities are texts; times are ISO 8601, BYTES base64, a MAP is
# an object.

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.query.table_diff import TableDiff

_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def json_values(array: pa.Array) -> list[Any]:
    """Return a column's values, NULL as None."""
    kind = array.type
    if isinstance(array, pa.StructArray):
        return _structs(array)
    if isinstance(array, pa.MapArray):
        return _maps(array)
    if isinstance(array, pa.ListArray):
        values = json_values(array.values)
        return [None if span is None else values[slice(*span)] for span in _spans(array)]
    if isinstance(array, pa.TimestampArray):
        return _timestamps(array)
    if pa.types.is_date32(kind):
        return _texts(array, np.datetime_as_string(_integers(array, pa.int32()).astype("datetime64[D]")))
    plain: list[Any] = array.to_pylist()
    if pa.types.is_floating(kind):
        return [value if value is None or math.isfinite(value) else _NAMES.get(value, "NaN") for value in plain]
    if pa.types.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in plain]
    if pa.types.is_time(kind):
        return [None if value is None else value.isoformat(timespec="milliseconds") for value in plain]
    if pa.types.is_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in plain]
    return plain


def _structs(array: pa.StructArray) -> list[dict[str, Any] | None]:
    names = [field.name for field in array.type]
    fields = [json_values(array.field(at)) for at in range(len(names))]
    rows = zip(*fields, strict=True)
    valid = array.is_valid().to_pylist()
    return [
        dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)
    ]


def _maps(array: pa.MapArray) -> list[dict[str, Any] | None]:
    keys, items = json_values(array.keys), json_values(array.items)
    named = [key if isinstance(key, str) else json.dumps(key, ensure_ascii=False) for key in keys]
    return [
        None if span is None else dict(zip(named[slice(*span)], items[slice(*span)], strict=True))
        for span in _spans(array)
    ]


def _spans(array: pa.ListArray | pa.MapArray) -> list[tuple[int, int] | None]:
    """Return the start and end of each value's elements; None for NULL."""
    edges = array.offsets.to_pylist()
    valid = array.is_valid().to_pylist()
    return [
        (start, end) if there else None for start, end, there in zip(edges[:-1], edges[1:], valid, strict=True)
    ]


def _timestamps(array: pa.TimestampArray) -> list[str | None]:
    # Not through datetime, whose last year is 9999.
    moments = _integers(array.cast(pa.timestamp("ms", array.type.tz)), pa.int64()).astype("datetime64[ms]")
    return _texts(array, np.char.add(np.datetime_as_string(moments, unit="ms"), "Z"))


def _integers(array: pa.Array, kind: pa.DataType) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers: np.ndarray[Any, np.dtype[np.int64]] = (
        array.cast(kind).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return numbers


def _texts(array: pa.Array, texts: np.ndarray[Any, Any]) -> list[str | None]:
    valid = array.is_valid().to_pylist()
    return [text if there else None for text, there in zip(texts.tolist(), valid, strict=True)]


def changes(difference: TableDiff, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield each change as JSON-ready data: `op`, `key`, `changed`, `before`, `after`, absent rows as None."""
    for batch in difference.batches(limit=limit):
        columns = [json_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, values, strict=True))


def json_text(difference: TableDiff) -> Iterator[str]:
    """Yield the JSON document in pieces: the summary's keys, then `changes`, one per line."""
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
    # Without statistics: Arrow's leave NaN out, and readers that trust them would skip rows with NaN.
    schema = difference.schema.with_metadata(summary)
    with pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
        for batch in difference.batches():
            writer.write_batch(batch)

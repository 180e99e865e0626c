"""Kafka's default partitioner: murmur2 over the bytes of a key, as functions inside DuckDB.

Keys of the KAFKA format are their values' big-endian bytes; those of other formats are taken to be JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.devserver.columns import Source, SourceColumn, literal, quoted
from ksql_lake.schema import KsqlType, Primitive

_SEED = 0x9747B28C
_FACTOR = np.uint32(0x5BD1E995)
_POSITIVE = np.uint32(0x7FFFFFFF)
_NUMBERS = {
    Primitive.INTEGER: ("INTEGER", ">i4"),
    Primitive.BIGINT: ("BIGINT", ">i8"),
    Primitive.DOUBLE: ("DOUBLE", ">f8"),
}


def murmur2(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """The positive hashes of keys of one length.

    Args:
        keys: One key a row, shape (keys, bytes).
    """
    count, length = keys.shape
    hashes = np.full(count, (_SEED ^ length) & 0xFFFFFFFF, np.uint32)
    words = length // 4
    for place in range(words):
        word = np.ascontiguousarray(keys[:, 4 * place : 4 * place + 4]).view("<u4")[:, 0].astype(np.uint32)
        word *= _FACTOR
        word ^= word >> np.uint32(24)
        word *= _FACTOR
        hashes *= _FACTOR
        hashes ^= word
    for place in reversed(range(4 * words, length)):
        hashes ^= keys[:, place].astype(np.uint32) << np.uint32(8 * (place % 4))
    if length % 4:
        hashes *= _FACTOR
    hashes ^= hashes >> np.uint32(13)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint32(15)
    return hashes & _POSITIVE


def hash_texts(texts: pa.Array) -> npt.NDArray[np.int32]:
    """The positive hashes of the texts' UTF-8 bytes; those of nulls mean nothing."""
    column = texts.cast(pa.large_binary())
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    hashes = np.zeros(len(column), np.int32)
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        places = offsets[chosen][:, None] + np.arange(length)
        hashes[chosen] = murmur2(data[places]).astype(np.int32)
    return hashes


def install(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a database the functions that `partition_hash` calls."""

    def of_text(texts: pa.ChunkedArray | pa.Array) -> pa.Array:
        return pa.array(hash_texts(_whole(texts)), mask=_nulls(texts))

    _define(connection, "kafka_hash_text", of_text, "VARCHAR")
    for name, form in _NUMBERS.values():
        _define(connection, f"kafka_hash_{name.lower()}", _of_numbers(form), name)


def _define(connection: duckdb.DuckDBPyConnection, name: str, function: Any, takes: str) -> None:
    arrow: Any = "arrow"
    connection.create_function(name, function, [takes], "INTEGER", type=arrow)


def _of_numbers(form: str) -> Callable[[pa.ChunkedArray], pa.Array]:
    def hashed(numbers: pa.ChunkedArray) -> pa.Array:
        values = np.asarray(_whole(numbers).fill_null(0)).astype(form)
        keys = values.view(np.uint8).reshape(len(values), -1)
        return pa.array(murmur2(keys).astype(np.int32), mask=_nulls(numbers))

    return hashed


def _whole(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _nulls(values: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(_whole(values).is_null())


def partition_hash(parts: Sequence[tuple[str, KsqlType, str]], key_format: str) -> str:
    """The DuckDB expression for the hash of a key; NULL without one.

    Args:
        parts: Name, type and DuckDB expression of each column of the key.
        key_format: How the key is written, e.g. `KAFKA`.
    """
    if len(parts) == 1:
        _, kind, expression = parts[0]
        if key_format == "KAFKA" and isinstance(kind, Primitive) and kind in _NUMBERS:
            return f"kafka_hash_{_NUMBERS[kind][0].lower()}({expression})"
        if key_format in ("KAFKA", "DELIMITED"):
            return f"kafka_hash_text(({expression})::VARCHAR)"
        return f"kafka_hash_text(to_json({expression})::VARCHAR)"
    fields = ", ".join(f"{literal(name)}, {expression}" for name, _, expression in parts)
    return f"kafka_hash_text(json_object({fields})::VARCHAR)"


def key_hash(source: Source) -> str | None:
    """The expression for the hash of a source's own key; None for a source without one."""
    return partition_hash([_part(item) for item in source.keys], source.key_format) if source.keys else None


def _part(item: SourceColumn) -> tuple[str, KsqlType, str]:
    return item.name, item.type, quoted(item.stored_as)

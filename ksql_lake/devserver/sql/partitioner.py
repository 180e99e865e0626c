"""Kafka's default partitioner (murmur2 over a key's bytes) as DuckDB functions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from ksql_lake.devserver.sql.source_columns import DeclaredColumn, Source, literal, quoted
from ksql_lake.schema import KsqlType, Primitive

_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_FACTOR = np.uint32(0x5BD1E995)
_POSITIVE = np.uint32(0x7FFFFFFF)
_NUMBERS = {
    Primitive.INTEGER: ("INTEGER", ">i"),
    Primitive.BIGINT: ("BIGINT", ">q"),
    Primitive.DOUBLE: ("DOUBLE", ">d"),
}


def murmur2(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return the positive hashes of keys of one length.

    Args:
        keys: One key a row, shape (keys, bytes).
    """
    count, length = keys.shape
    hashes = np.full(count, (_SEED ^ length) & _MASK, np.uint32)
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


def hash_of(key: bytes) -> int:
    """Return the positive hash of one key, without the cost of an array."""
    result = (_SEED ^ len(key)) & _MASK
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * 0x5BD1E995 & _MASK
        result = (result * 0x5BD1E995 & _MASK) ^ ((word ^ word >> 24) * 0x5BD1E995 & _MASK)
    for place in range(len(key) - 1, whole - 1, -1):
        result ^= key[place] << 8 * (place - whole)
    if len(key) > whole:
        result = result * 0x5BD1E995 & _MASK
    result = (result ^ result >> 13) * 0x5BD1E995 & _MASK
    return (result ^ result >> 15) & 0x7FFFFFFF


def hashes_of(keys: Sequence[bytes | None]) -> list[int | None]:
    """Return the positive hashes of many keys, those of one length at once; a missing key has none."""
    hashes: list[int | None] = [None] * len(keys)
    places: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        if key is not None:
            places.setdefault(len(key), []).append(place)
    for length, chosen in places.items():
        joined = b"".join(keys[place] or b"" for place in chosen)
        found = murmur2(np.frombuffer(joined, np.uint8).reshape(len(chosen), length)).tolist()
        for place, value in zip(chosen, found, strict=True):
            hashes[place] = value
    return hashes


def install(connection: duckdb.DuckDBPyConnection) -> None:
    """Add to a database the functions that `partition_hash` and `key_hashes` call."""
    # Arrow functions would be shorter, but DuckDB would import pandas for them, which takes longer than all the
    # hashing.
    forms: dict[str, tuple[str, Callable[[Any], bytes]]] = {"text": ("VARCHAR", str.encode)}
    forms |= {name.lower(): (name, _packer(form)) for name, form in _NUMBERS.values()}
    for name, (kind, packed) in forms.items():
        _define(connection, f"kafka_hash_{name}", _of_one(packed), kind, "INTEGER")
        _define(connection, f"kafka_hashes_{name}", _of_many(packed), f"{kind}[]", "INTEGER[]")


def _packer(form: str) -> Callable[[Any], bytes]:
    return struct.Struct(form).pack


def _of_one(packed: Callable[[Any], bytes]) -> Callable[[Any], int]:
    return lambda key: hash_of(packed(key))


def _of_many(packed: Callable[[Any], bytes]) -> Callable[[Any], list[int | None]]:
    return lambda keys: hashes_of([None if key is None else packed(key) for key in keys])


def _define(connection: duckdb.DuckDBPyConnection, name: str, function: Any, takes: str, gives: str) -> None:
    connection.create_function(name, function, [takes], gives)


def partition_hash(parts: Sequence[tuple[str, KsqlType, str]], key_format: str) -> str:
    """Return the DuckDB expression for the hash of a key; NULL without one.

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
    """Return the expression for the hash of a row's key; None for a source without a key."""
    return partition_hash([_part(item) for item in source.keys], source.key_format) if source.keys else None


def key_hashes(source: Source) -> str | None:
    """Return the aggregate for the hashes of a source's keys, in order of arrival; None without a key."""
    hashed = key_hash(source)
    if hashed is None:
        return None
    function, _, key = hashed.partition("(")
    return f"{function.replace('hash', 'hashes')}(list({key.removesuffix(')')} ORDER BY __SEQ))"


def _part(item: DeclaredColumn) -> tuple[str, KsqlType, str]:
    return item.name, item.type, quoted(item.stored_as)

"""Batches and errors as texts that differ whenever anything about them differs."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from ksql_lake.errors import DecodeError


def with_leaves(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type with each type that holds no others replaced."""
    if pa.types.is_list(kind):
        return pa.list_(with_leaves(kind.value_type, leaf))
    if pa.types.is_map(kind):
        return pa.map_(with_leaves(kind.key_type, leaf), with_leaves(kind.item_type, leaf))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(with_leaves(field.type, leaf)) for field in kind])
    return leaf(kind)


def in_milliseconds(kind: pa.DataType) -> pa.DataType:
    """Return the type that counts times of the day in milliseconds, as the server does."""
    return pa.time32("ms") if pa.types.is_time64(kind) else kind


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return an integer in place of a time, whose range Python's own types do not cover."""
    if pa.types.is_time32(kind) or pa.types.is_date32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(kind) else kind


def values(array: pa.Array) -> list[object]:
    """Return an array's values, times as integers: milliseconds, or days."""
    milli = array.cast(with_leaves(array.type, in_milliseconds))
    return list(milli.cast(with_leaves(milli.type, plain_type)).to_pylist())


def described(batch: pa.RecordBatch) -> str:
    """Describe a batch so that NaN equals itself, -0.0 differs from 0.0 and every type counts."""
    batch.validate(full=True)
    columns = [
        f"{field}: {values(column)!r}" for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return "\n".join(columns)


def outcome(call: Callable[[], pa.RecordBatch]) -> str:
    """Describe what a call returns, or the error it raises."""
    try:
        return described(call())
    except DecodeError as error:
        return f"DecodeError: {error}"

"""Batches and errors as texts that differ whenever anything about them differs."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from ksql_lake.errors import DecodeError


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Give a type with integers in place of times, whose range Python's own types do not cover."""
    if pa.types.is_time32(kind) or pa.types.is_date32(kind):
        return pa.int32()
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    return kind


def values(array: pa.Array) -> list[object]:
    """Give an array's values, times as integers."""
    return list(array.cast(plain_type(array.type)).to_pylist())


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

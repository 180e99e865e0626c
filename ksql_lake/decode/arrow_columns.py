"""Decode rows of typed JSON into Arrow arrays; msgspec checks shape and types in one pass."""

# It accepts only what the exact reader accepts. In doubt it raises ValueError or OverflowError, and the exact
# reader decides and names the error.

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from types import GenericAlias, NoneType
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from ksql_lake.decode import times
from ksql_lake.decode.exact import converter
from ksql_lake.decode.literals import key_token
from ksql_lake.decode.text_columns import binaries, decimals, decimals_of_doubles
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Schema, Struct, arrow_type

_TOP = {
    Primitive.BOOLEAN: bool,
    Primitive.INTEGER: int,
    Primitive.BIGINT: int,
    Primitive.DOUBLE: float | Literal["NaN", "Infinity", "-Infinity"],
    Primitive.STRING: str,
    Primitive.BYTES: str,
    Primitive.TIME: str,
    Primitive.DATE: str,
    Primitive.TIMESTAMP: str,
}
_IN_STRUCT = {**_TOP, Primitive.TIME: int, Primitive.DATE: int, Primitive.TIMESTAMP: int}
_UNNAMEABLE = frozenset('"\\') | {chr(code) for code in range(32)}  # msgspec rejects them in field names

Values = Sequence[Any]
Build = Callable[[Values], pa.Array]
_COLUMNS = attrgetter("row.columns")
_TIME_TEXTS: dict[Primitive, Callable[[pa.StringArray], pa.Array]] = {
    Primitive.TIME: times.times,
    Primitive.DATE: times.dates,
    Primitive.TIMESTAMP: times.timestamps,
}


def row_decoder(schema: Schema) -> msgspec.json.Decoder[Any] | None:
    """Return a decoder of one row object; its values are in `.row.columns`, a tuple.

    A DECIMAL is the number's text in bytes, or an int if it was written as one. Returns None for a schema with
    a field name that msgspec cannot handle.
    """
    if any(not _nameable(column.type) for column in schema):
        return None
    values = tuple(_optional(wire_type(column.type, in_struct=False)) for column in schema)
    row = _record("Row", {"columns": GenericAlias(tuple, values)})
    line = _record("Line", {"row": row})
    return msgspec.json.Decoder(line, float_hook=str.encode)


def wire_type(kind: KsqlType, *, in_struct: bool) -> Any:
    """Return the Python type that msgspec builds for a non-null value of a ksqlDB type."""
    match kind:
        case Primitive():
            return (_IN_STRUCT if in_struct else _TOP)[kind]
        case Decimal():
            return Any  # only untyped numbers go through the decoder's float_hook
        case Array(element):
            return GenericAlias(list, (_optional(wire_type(element, in_struct=in_struct)),))
        case Map(key, value):
            item = _optional(wire_type(value, in_struct=in_struct))
            if not in_struct or key == Primitive.STRING:
                return GenericAlias(dict, (str, item))
            pair = GenericAlias(tuple, (wire_type(key, in_struct=True), item))
            return GenericAlias(list, (pair,))
        case Struct(fields):
            return _record(
                "Fields", {name: _optional(wire_type(inner, in_struct=True)) for name, inner in fields}
            )


def _record(name: str, fields: dict[str, Any]) -> type[msgspec.Struct]:
    # Field names may be anything; Python's attribute names may not.
    attributes = {f"f{number}" if name == "Fields" else field: field for number, field in enumerate(fields)}
    return msgspec.defstruct(
        name,
        list(zip(attributes, fields.values(), strict=True)),
        rename=attributes,
        forbid_unknown_fields=True,
        gc=False,
    )


def _optional(kind: Any) -> Any:
    return kind if kind is Any else kind | None


def _nameable(kind: KsqlType) -> bool:
    match kind:
        case Struct(fields):
            return all(_UNNAMEABLE.isdisjoint(name) and _nameable(inner) for name, inner in fields)
        case Array(element):
            return _nameable(element)
        case Map(key, value):
            return _nameable(key) and _nameable(value)
        case _:
            return True


class ColumnReader:
    """Decodes lines of rows column by column, for any type.

    Args:
        schema: The response's columns.
        arrow: The same columns as an Arrow schema.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        self._arrow = arrow
        self._decoder = row_decoder(schema)
        self._builders = [builder(column.type, in_struct=False) for column in schema]

    def read(self, lines: Sequence[bytes]) -> pa.RecordBatch:
        """Decode lines of one row object each into a batch.

        Raises:
            ValueError: A value is not certainly right (also OverflowError, RecursionError).
        """
        if self._decoder is None:
            raise ValueError("a field name that msgspec cannot handle")
        columns = zip(*map(_COLUMNS, map(self._decoder.decode, lines)), strict=True)
        arrays = [build(values) for build, values in zip(self._builders, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)


def builder(kind: KsqlType, *, in_struct: bool) -> Build:
    """Return the function that turns parsed values of one type, or None, into an array."""
    arrow = arrow_type(kind)
    match kind:
        case Primitive.DOUBLE:
            return _doubles
        case Primitive.BYTES:
            return _binaries
        case Primitive.TIME if in_struct:
            return _times_of_day
        case Primitive.TIMESTAMP if in_struct:
            return lambda values: times.instants(pa.array(values, pa.int64()))
        case Primitive.TIME | Primitive.DATE | Primitive.TIMESTAMP if not in_struct:
            read = _TIME_TEXTS[kind]
            return lambda values: read(pa.array(values, pa.string()))
        case Primitive():
            return partial(pa.array, type=arrow)
        case Decimal():
            return partial(_decimals, kind=kind, rounded=in_struct)
        case Array(element):
            return partial(_lists, arrow=arrow, build=builder(element, in_struct=in_struct))
        case Map(key, value):
            keys = _keys(key, in_struct=in_struct)
            return partial(_maps, arrow=arrow, keys=keys, items=builder(value, in_struct=in_struct))
        case Struct(fields):
            return partial(
                _structs, arrow=arrow, builds=[builder(inner, in_struct=True) for _, inner in fields]
            )


def _doubles(values: Values) -> pa.Array:
    if str in set(map(type, values)):
        values = [float(value) if type(value) is str else value for value in values]
    return pa.array(values, pa.float64())


def _binaries(values: Values) -> pa.Array:
    return binaries(pa.array(values, pa.string()))


def _times_of_day(values: Values) -> pa.Array:
    return times.times_of_day(pa.array(values, pa.int32()))


def _decimals(values: Values, *, kind: Decimal, rounded: bool) -> pa.Array:
    kinds = set(map(type, values))
    if not kinds <= {bytes, int, NoneType}:
        raise ValueError("a DECIMAL that is not a number")
    if int in kinds:
        values = [str(value).encode() if type(value) is int else value for value in values]
    texts = pa.array(values, pa.binary()).cast(pa.string())
    return decimals_of_doubles(texts, kind) if rounded else decimals(texts, kind)


def _lists(values: Values, *, arrow: pa.DataType, build: Build) -> pa.Array:
    present, missing = _present(values)
    children = build(list(chain.from_iterable(present)))
    return pa.ListArray.from_arrays(_offsets(values, missing), children, type=arrow, mask=missing)


def _maps(values: Values, *, arrow: pa.DataType, keys: Build, items: Build) -> pa.Array:
    present, missing = _present(values)
    if present and type(present[0]) is dict:
        names: Values = list(chain.from_iterable(present))
        entries: Values = list(chain.from_iterable(map(dict.values, present)))
    else:
        names, entries = zip(*chain.from_iterable(present), strict=True) if any(present) else ((), ())
    offsets = _offsets(values, missing)
    return pa.MapArray.from_arrays(offsets, keys(names), items(entries), type=arrow, mask=missing)


def _structs(values: Values, *, arrow: pa.DataType, builds: Sequence[Build]) -> pa.Array:
    _, missing = _present(values)
    nothing, as_tuple = (None,) * len(builds), msgspec.structs.astuple
    if missing is None:
        rows = list(map(as_tuple, values))
    else:
        rows = [nothing if value is None else as_tuple(value) for value in values]
    columns = zip(*rows, strict=True) if rows else [()] * len(builds)
    children = [build(column) for build, column in zip(builds, columns, strict=True)]
    return pa.StructArray.from_arrays(children, fields=list(arrow), mask=missing)


def _keys(kind: KsqlType, *, in_struct: bool) -> Build:
    """Return the builder of a MAP's keys, which are text at top level for every type."""
    if in_struct or kind == Primitive.STRING:
        return builder(kind, in_struct=in_struct)
    convert = converter(kind, in_struct=False)
    arrow = arrow_type(kind)
    return lambda names: pa.array([convert(key_token(kind, name)) for name in names], arrow)


def _present(values: Values) -> tuple[Values, pa.Array | None]:
    """Return the values that are not None, and a mask of the others; None if there are no others."""
    if NoneType not in set(map(type, values)):
        return values, None
    return [value for value in values if value is not None], pa.array([value is None for value in values])


def _offsets(values: Values, missing: pa.Array | None) -> pa.Array:
    """Return the offsets of each value's entries among those of all values."""
    lengths = map(len, values) if missing is None else (0 if value is None else len(value) for value in values)
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(lengths, np.int32, len(values)), out=offsets[1:])
    return pa.array(offsets)

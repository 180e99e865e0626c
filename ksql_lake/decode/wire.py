"""The types msgspec parses rows into: JSON and the schema's shape checked in one pass at C speed.

What msgspec cannot check by type (ranges, text forms, digits) the column builders check. It refuses to accept
more than the exact reader does: no value is coerced, no unknown field is dropped.
"""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Literal

import msgspec

from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Schema, Struct

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
_UNNAMEABLE = frozenset('"\\') | {chr(code) for code in range(32)}  # msgspec refuses them in field names


def row_decoder(schema: Schema) -> msgspec.json.Decoder[Any] | None:
    """Give a decoder of one row object; its values are in `.row.columns`, a tuple.

    DECIMAL comes as the number's text in bytes, or as an int where it was written as one. Returns None for a
    schema with a field name that msgspec cannot handle.
    """
    if any(not _nameable(column.type) for column in schema):
        return None
    values = tuple(_optional(wire_type(column.type, in_struct=False)) for column in schema)
    row = _record("Row", {"columns": GenericAlias(tuple, values)})
    line = _record("Line", {"row": row})
    return msgspec.json.Decoder(line, float_hook=str.encode)


def wire_type(kind: KsqlType, *, in_struct: bool) -> Any:
    """Give the Python type that msgspec builds for a non-null value of a ksqlDB type."""
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

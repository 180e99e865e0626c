"""Rows as a ksqlDB server writes them, from its documented rules and not from the decoder's code.

Times are integers here: milliseconds of the day, epoch days, epoch milliseconds. A MAP is a list of pairs.
"""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal as Number
from typing import Any

import numpy as np

from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Schema, Struct


def write_rows(schema: Schema, rows: list[list[Any]]) -> list[bytes]:
    """Write each row as its row object."""
    kinds = [column.type for column in schema]
    return [frame(",".join(write(kind, value) for kind, value in zip(kinds, row, strict=True))) for row in rows]


def frame(values: str) -> bytes:
    """Put the text of a row's values into a row object."""
    return b'{"row":{"columns":[' + values.encode("utf-8", "surrogatepass") + b"]}}"


def write(kind: KsqlType, value: Any, *, in_struct: bool = False) -> str:
    """Write one value as JSON text."""
    if value is None:
        return "null"
    match kind:
        case Array(element):
            return "[" + ",".join(write(element, item, in_struct=in_struct) for item in value) + "]"
        case Map(key, item) if in_struct and key != Primitive.STRING:
            pairs = (f"[{write(key, k, in_struct=True)},{write(item, v, in_struct=True)}]" for k, v in value)
            return "[" + ",".join(pairs) + "]"
        case Map(key, item):
            pairs = (f"{_key(key, k)}:{write(item, v, in_struct=in_struct)}" for k, v in value)
            return "{" + ",".join(pairs) + "}"
        case Struct(fields):
            inner = (f"{_text(name)}:{write(field, value[name], in_struct=True)}" for name, field in fields)
            return "{" + ",".join(inner) + "}"
        case Decimal():
            return java_double(float(value)) if in_struct else format(value, "f")
        case Primitive():
            return _scalar(kind, value, in_struct=in_struct)


def _scalar(kind: Primitive, value: Any, *, in_struct: bool) -> str:
    match kind:
        case Primitive.STRING:
            return _text(value)
        case Primitive.BYTES:
            return f'"{base64.b64encode(value).decode()}"'
        case Primitive.BOOLEAN:
            return "true" if value else "false"
        case Primitive.DOUBLE:
            text = java_double(value)
            return text if math.isfinite(value) else f'"{text}"'
        case Primitive.TIME if not in_struct:
            return f'"{time_text(value)}"'
        case Primitive.DATE if not in_struct:
            return f'"{date_text(value)}"'
        case Primitive.TIMESTAMP if not in_struct:
            return f'"{np.datetime64(value, "ms")}"'
        case _:
            return str(value)


def _key(kind: KsqlType, value: Any) -> str:
    if isinstance(kind, Decimal):
        return f'"{value}"'  # BigDecimal's toString, exponents included, is Python's
    text = write(kind, value)
    return text if text.startswith('"') else f'"{text}"'


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def java_double(value: float) -> str:
    """Write a double as Java does: always with a fraction, an exponent below 0.001 and from ten million on."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Number(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).rstrip("0") or "0"
    return f"{'-' * sign}{text[0]}.{text[1:] or '0'}E{exponent + len(digits) - 1}"


def time_text(milli: int) -> str:
    """Write a TIME as `java.time.LocalTime` prints it after ksqlDB has dropped the milliseconds."""
    seconds = milli // 1000
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}"
    return f"{text}:{seconds % 60:02}" if seconds % 60 else text


def date_text(day: int) -> str:
    """Write a DATE as `java.time.LocalDate` prints it: a sign before years of more than four digits."""
    year, month, dom = str(np.datetime64(day, "D")).rsplit("-", 2)
    if year.startswith("-"):
        return f"-{year[1:]:0>4}-{month}-{dom}"
    return f"{'+' * (len(year) > 4)}{year}-{month}-{dom}"

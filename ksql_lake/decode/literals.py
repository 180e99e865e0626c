"""One JSON scalar to one value, exactly: what each type accepts, and why a value does not fit.

This is the rule book of the room; the fast paths must agree with it or step aside. It refuses to be helpful:
"12" is not an INTEGER, 1 is not a BOOLEAN, 10.005 is not a DECIMAL(10, 2). Values come out in the form Arrow
takes them: times of all kinds as integers.
"""

from __future__ import annotations

import binascii
import decimal
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ksql_lake.decode.times import DAY_MS, date_of, time_of, timestamp_of
from ksql_lake.schema import Decimal, KsqlType, Primitive

MISMATCH = (
    "Was the source dropped and created anew while it was read? Export again; if it stays, leave the column "
    "out: name the wanted ones in the feed's `columns`."
)
_NOT_TEXT = (
    "Arrow and Parquet text is UTF-8. Clean the value where it is produced, or leave the column out: name the "
    "wanted ones in the feed's `columns`."
)
_INEXACT = (
    "Inside a STRUCT the server sends DECIMAL as DOUBLE. Select the field as a column of its own (`S`->`F`) in "
    "a derived stream, and export that."
)

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
SPECIAL_DOUBLES = ("NaN", "Infinity", "-Infinity")
_LONGEST_INTEGER = 20  # digits and sign of any 64-bit integer
_SHOWN = 40


class Number(str):
    """A JSON number as its text, so that no digit is lost and it is never mistaken for a string."""

    __slots__ = ()


class Misfit(ValueError):  # noqa: N818 - a signal inside this room; callers of the room see DecodeError
    """A value that does not fit its type; `path` grows outwards as it passes arrays, maps and structs."""

    def __init__(self, value: object, why: str, hint: str = MISMATCH) -> None:
        super().__init__(f"{shown(value)} {why}")
        self.hint = hint
        self.path: list[str] = []


def shown(value: object) -> str:
    """Render a JSON value for a message, on one line and shortened."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"an array of {len(value)}"
        case Number():
            text = str(value)
        case _:
            text = json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair could not be printed.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}… ({len(text)} characters)"


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise Misfit(value, "is not a BOOLEAN")
    return value


def _integer(value: object, *, kind: str, low: int, high: int) -> int:
    match = _NUMBER.fullmatch(value) if type(value) is Number else None
    if match is None or match[1] or match[2]:
        raise Misfit(value, f"is not {kind}")
    # A length test first: Python refuses to convert thousands of digits.
    if len(match[0]) > _LONGEST_INTEGER or not low <= (number := int(match[0])) <= high:
        raise Misfit(value, f"is out of range for {kind}")
    return number


def _double(value: object) -> float:
    if type(value) is Number:
        number = float(value) + 0.0 if value == "-0" else float(value)
        if math.isinf(number):
            raise Misfit(value, "is out of range for a DOUBLE")
        return number
    if value not in SPECIAL_DOUBLES:
        raise Misfit(value, "is not a DOUBLE")
    return float(str(value))


def _decimal(value: object, *, kind: Decimal, rounded: bool) -> decimal.Decimal:
    if type(value) is not Number:
        raise Misfit(value, f"is not a {kind.text}")
    # 38 digits and one more to see what rounding does; everything beyond is found by comparison.
    context = decimal.Context(prec=39, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation])
    try:
        exact = decimal.Decimal(value, context)
        fitted = exact.quantize(decimal.Decimal((0, (1,), -kind.scale)), context=context)
    except decimal.InvalidOperation:
        raise Misfit(value, f"does not fit {kind.text}", _INEXACT if rounded else MISMATCH) from None
    if fitted != exact and not rounded:
        raise Misfit(value, f"has more than the {kind.scale} decimals of {kind.text}")
    if len(fitted.as_tuple().digits) > kind.precision:
        raise Misfit(value, f"has more digits than {kind.text} holds", _INEXACT if rounded else MISMATCH)
    return fitted


def _string(value: object) -> str:
    if type(value) is not str:
        raise Misfit(value, "is not a STRING")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit(value, "holds bytes or half a surrogate pair that are not text", _NOT_TEXT) from None
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not str:
        raise Misfit(value, "is not BYTES (base64 text)")
    try:
        return from_base64(value)
    except ValueError:
        raise Misfit(value, "is not BYTES (base64, standard alphabet, padded)") from None


def from_base64(text: str) -> bytes:
    """Decode base64 that is written the one canonical way.

    Raises:
        ValueError: Another alphabet, missing padding, foreign characters, or stray bits at the end.
    """
    data = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(data, newline=False) != text.encode():
        raise ValueError("not canonical base64")
    return data


def _time_text(value: object, *, kind: str, read: Callable[[str], int | None], bits: int) -> int:
    number = read(value) if type(value) is str else None
    if number is None:
        raise Misfit(value, f"is not {kind}")
    if not -(2**bits) <= number < 2**bits:
        raise Misfit(value, f"is out of range for {kind}")
    return number


_RANGES = {
    Primitive.INTEGER: ("an INTEGER", -(2**31), 2**31 - 1),
    Primitive.BIGINT: ("a BIGINT", -(2**63), 2**63 - 1),
}
_RANGES_IN_STRUCT = {
    **_RANGES,
    Primitive.TIME: ("a TIME (milliseconds of the day)", 0, DAY_MS - 1),
    Primitive.DATE: ("a DATE (days since 1970)", -(2**31), 2**31 - 1),
    Primitive.TIMESTAMP: ("a TIMESTAMP (milliseconds since 1970)", -(2**63), 2**63 - 1),
}
_TIME_TEXTS = {
    Primitive.TIME: ("a TIME (HH:mm[:ss[.fff]])", time_of, 31),
    Primitive.DATE: ("a DATE (yyyy-MM-dd)", date_of, 31),
    Primitive.TIMESTAMP: ("a TIMESTAMP (yyyy-MM-dd'T'HH:mm:ss.SSS)", timestamp_of, 63),
}
_OTHERS: dict[Primitive, Callable[[object], object]] = {
    Primitive.BOOLEAN: _boolean,
    Primitive.DOUBLE: _double,
    Primitive.STRING: _string,
    Primitive.BYTES: _bytes,
}


def scalar(kind: Primitive | Decimal, *, in_struct: bool) -> Callable[[object], object]:
    """Give the function that turns a parsed JSON value (never None) of this type into what Arrow takes.

    Numbers must come as `Number`. Inside a STRUCT times are integers and DECIMAL has been through a double.

    Raises:
        Misfit: By the function given.
    """
    if isinstance(kind, Decimal):
        return partial(_decimal, kind=kind, rounded=in_struct)
    convert = _primitive(kind, _RANGES_IN_STRUCT if in_struct else _RANGES)
    # The server counts milliseconds of the day, the lake's column microseconds.
    return (lambda value: 1000 * convert(value)) if kind == Primitive.TIME else convert


def _primitive(kind: Primitive, ranges: Mapping[Primitive, tuple[str, int, int]]) -> Callable[[object], Any]:
    if kind in ranges:
        name, low, high = ranges[kind]
        return partial(_integer, kind=name, low=low, high=high)
    if kind in _TIME_TEXTS:
        name, read, bits = _TIME_TEXTS[kind]
        return partial(_time_text, kind=name, read=read, bits=bits)
    return _OTHERS[kind]


def key_token(kind: KsqlType, text: str) -> object:
    """Give the JSON value that a MAP key stands for: JSON has only text there, whatever the key's type."""
    match kind:
        case Primitive.BOOLEAN if text in {"true", "false"}:
            return text == "true"
        case Primitive.INTEGER | Primitive.BIGINT | Primitive.DOUBLE | Decimal() if _NUMBER.fullmatch(text):
            return Number(text)
        case _:
            return text

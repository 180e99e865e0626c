"""Decode one JSON scalar of each type exactly, or raise why it does not fit."""

# The fast readers must agree with these rules or refuse.

from __future__ import annotations

import binascii
import decimal
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ksql_lake.decode.times import DAY_MS, LAST_MS, date_of, time_of, timestamp_of
from ksql_lake.schema import Decimal, KsqlType, Primitive

MISMATCH = (
    "Was the source recreated while it was read? Export again; if the error remains, leave the column out: "
    "name the wanted ones in the feed's `columns`."
)
NOT_TEXT = (
    "Arrow and Parquet text is UTF-8. Clean the value where it is produced, set `on_bad_text` to replace in "
    "the feed file (such characters become U+FFFD, and are counted), or leave the column out with `columns`."
)
INEXACT = (
    "Inside a STRUCT the server sends DECIMAL as DOUBLE, which keeps 15 digits, and here it could not be asked "
    "for the value by itself. Select it as a column of its own (`S`->`F`) in a derived stream and export that, "
    "or leave the column out: name the wanted ones in the feed's `columns`."
)
CERTAIN_DIGITS = 15
"""Any number of this many decimal digits passes through a double unchanged."""

_TIME_NUMBER = "a TIME (milliseconds of the day)"
_TIMESTAMP_NUMBER = "a TIMESTAMP (milliseconds since 1970)"
_TIMESTAMP_TEXT = "a TIMESTAMP (yyyy-MM-dd'T'HH:mm:ss.SSS)"
_LEAVE_OUT = "or leave the column out: name the wanted ones in the feed's `columns`."
NOT_MILLISECONDS = (
    "Are these nanoseconds? A TIMESTAMP counts milliseconds, and Parquet readers support the years -289000 to "
    f"+293000. Divide the value where it is produced or in a derived stream, {_LEAVE_OUT}"
)
_OUT_OF_RANGE = {
    _TIME_NUMBER: "ksqlDB takes 86400000 for 24:00:00, but the day of a Parquet TIME ends before. Correct the "
    f"value where it is produced or in a derived stream, {_LEAVE_OUT}",
    _TIMESTAMP_NUMBER: NOT_MILLISECONDS,
    _TIMESTAMP_TEXT: NOT_MILLISECONDS,
}

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
SPECIAL_DOUBLES = ("NaN", "Infinity", "-Infinity")
_LONGEST_INTEGER = 20  # digits and sign of any 64-bit integer
_SHOWN = 40


class Number(str):
    """A JSON number as its text, so that no digit is lost; the type distinguishes it from a string."""

    __slots__ = ()


class Misfit(ValueError):  # noqa: N818 - internal to this package; its callers see DecodeError
    """A value that does not fit its type; each enclosing array, map and struct adds its step to `path`."""

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
    # Half a surrogate pair cannot be printed.
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
    # The length is tested first, because Python refuses to convert thousands of digits.
    if len(match[0]) > _LONGEST_INTEGER or not low <= (number := int(match[0])) <= high:
        raise Misfit(value, f"is out of range for {kind}", _OUT_OF_RANGE.get(kind, MISMATCH))
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


def _decimal(value: object, *, kind: Decimal) -> decimal.Decimal:
    if type(value) is not Number:
        raise Misfit(value, f"is not a {kind.text}")
    # 38 digits and one more for rounding; longer numbers are found by comparison.
    context = decimal.Context(prec=39, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation])
    try:
        exact = decimal.Decimal(value, context)
        fitted = exact.quantize(decimal.Decimal((0, (1,), -kind.scale)), context=context)
    except decimal.InvalidOperation:
        raise Misfit(value, f"does not fit {kind.text}") from None
    if fitted != exact:
        raise Misfit(value, f"has more than the {kind.scale} decimals of {kind.text}")
    if len(fitted.as_tuple().digits) > kind.precision:
        raise Misfit(value, f"has more digits than {kind.text} holds")
    return fitted


def _decimal_of_double(value: object, *, kind: Decimal) -> decimal.Decimal:
    if type(value) is not Number:
        raise Misfit(value, f"is not a {kind.text}")
    number = unscaled_number(float(value), kind)
    if number is None:
        raise Misfit(value, f"may have been another {kind.text}", INEXACT)
    return decimal.Decimal(number).scaleb(-kind.scale)


def unscaled_number(double: float, kind: Decimal) -> int | None:
    """Return the unscaled integer of the DECIMAL that became a double; None if several DECIMALs can have."""
    if not math.isfinite(double):
        return None
    # Java does not always print the shortest digits of a double; Python does.
    sign, digits, exponent = decimal.Decimal(repr(double)).as_tuple()
    shift: int = int(exponent) + kind.scale
    number: int = int("".join(map(str, digits)))
    if not number:
        return 0
    limit: int = 10 ** min(CERTAIN_DIGITS, kind.precision)
    if shift > CERTAIN_DIGITS:
        return None
    scaled, rest = (number * int(10**shift), 0) if shift >= 0 else divmod(number, int(10**-shift))
    if rest or scaled >= limit:
        return None
    return -scaled if sign else scaled


def _string(value: object) -> str:
    if type(value) is not str:
        raise Misfit(value, "is not a STRING")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Misfit(value, "holds bytes or half a surrogate pair that are not text", NOT_TEXT) from None
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not str:
        raise Misfit(value, "is not BYTES (base64 text)")
    try:
        return from_base64(value)
    except ValueError:
        raise Misfit(value, "is not BYTES (base64, standard alphabet, padded)") from None


def from_base64(text: str) -> bytes:
    """Decode base64 in its canonical form.

    Raises:
        ValueError: Another alphabet, missing padding, foreign characters, or stray bits at the end.
    """
    data = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(data, newline=False) != text.encode():
        raise ValueError("not canonical base64")
    return data


def _time_text(value: object, *, kind: str, read: Callable[[str], int | None], low: int, high: int) -> int:
    number = read(value) if type(value) is str else None
    if number is None:
        raise Misfit(value, f"is not {kind}")
    if not low <= number <= high:
        raise Misfit(value, f"is out of range for {kind}", _OUT_OF_RANGE.get(kind, MISMATCH))
    return number


_RANGES = {
    Primitive.INTEGER: ("an INTEGER", -(2**31), 2**31 - 1),
    Primitive.BIGINT: ("a BIGINT", -(2**63), 2**63 - 1),
}
_RANGES_IN_STRUCT = {
    **_RANGES,
    Primitive.TIME: (_TIME_NUMBER, 0, DAY_MS - 1),
    Primitive.DATE: ("a DATE (days since 1970)", -(2**31), 2**31 - 1),
    Primitive.TIMESTAMP: (_TIMESTAMP_NUMBER, -LAST_MS, LAST_MS),
}
_TIME_TEXTS = {
    Primitive.TIME: ("a TIME (HH:mm[:ss[.fff]])", time_of, 0, DAY_MS - 1),
    Primitive.DATE: ("a DATE (yyyy-MM-dd)", date_of, -(2**31), 2**31 - 1),
    Primitive.TIMESTAMP: (_TIMESTAMP_TEXT, timestamp_of, -LAST_MS, LAST_MS),
}
_OTHERS: dict[Primitive, Callable[[object], object]] = {
    Primitive.BOOLEAN: _boolean,
    Primitive.DOUBLE: _double,
    Primitive.STRING: _string,
    Primitive.BYTES: _bytes,
}


def scalar(kind: Primitive | Decimal, *, in_struct: bool) -> Callable[[object], object]:
    """Return the function that turns a parsed JSON value (never None) of this type into Arrow's Python value.

    Numbers must be `Number`. Inside a STRUCT times are integers, and a DECIMAL has passed through a double.

    Raises:
        Misfit: Raised by the returned function.
    """
    if isinstance(kind, Decimal):
        return partial(_decimal_of_double if in_struct else _decimal, kind=kind)
    convert = _primitive(kind, _RANGES_IN_STRUCT if in_struct else _RANGES)
    # The server counts milliseconds of the day, the lake microseconds.
    return (lambda value: 1000 * convert(value)) if kind == Primitive.TIME else convert


def _primitive(kind: Primitive, ranges: Mapping[Primitive, tuple[str, int, int]]) -> Callable[[object], Any]:
    if kind in ranges:
        name, low, high = ranges[kind]
        return partial(_integer, kind=name, low=low, high=high)
    if kind in _TIME_TEXTS:
        name, read, low, high = _TIME_TEXTS[kind]
        return partial(_time_text, kind=name, read=read, low=low, high=high)
    return _OTHERS[kind]


def key_token(kind: KsqlType, text: str) -> object:
    """Return the JSON value of a MAP key, which JSON holds as text for every type."""
    match kind:
        case Primitive.BOOLEAN if text in {"true", "false"}:
            return text == "true"
        case Primitive.INTEGER | Primitive.BIGINT | Primitive.DOUBLE | Decimal() if _NUMBER.fullmatch(text):
            return Number(text)
        case _:
            return text

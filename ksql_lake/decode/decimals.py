"""A column of DECIMAL texts to decimal128, without Arrow's silent overflow.

Arrow reads decimal text fast, but multiplies without looking: "5" as DECIMAL(38, 38), or any text of 39 digits
and more, can come out as some other number. This module lets it see only texts that cannot overflow. It
refuses exponents and everything else that is not sign, digits and point, and doubles that may have been another
DECIMAL.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.literals import CERTAIN_DIGITS, unscaled_number
from ksql_lake.decode.spans import Mask, validity
from ksql_lake.schema import Decimal

MOST_DIGITS = 38  # what decimal128 holds whatever the digits are
_EXACT_POWER = 22  # the largest power of ten that is a double
_PLAIN = np.zeros(256, np.bool_)
_PLAIN[list(b"0123456789.-")] = True


def decimals(texts: pa.StringArray, kind: Decimal) -> pa.Array:
    """Read JSON numbers as decimal128.

    Args:
        texts: Numbers as JSON has them.
        kind: The type; fewer decimals than its scale are filled up, more must be zeros.

    Raises:
        ValueError: A number does not fit, or is written with an exponent.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
    if not offsets.size or offsets[0] == offsets[-1]:
        return pa.nulls(len(texts), pa.decimal128(kind.precision, kind.scale))
    data = np.frombuffer(texts.buffers()[2], np.uint8, offsets[-1])
    if not _PLAIN[data[offsets[0] :]].all():
        raise ValueError("a DECIMAL with an exponent")
    negative = data.take(offsets[:-1], mode="clip") == ord("-")
    below_one = data.take(offsets[:-1] + negative, mode="clip") == ord("0")  # JSON has no other leading zeros
    points = pc.find_substring(texts, ".").fill_null(-1).to_numpy()
    digits = np.diff(offsets) - negative - below_one - (points >= 0)
    decimal_places = np.where(points >= 0, np.diff(offsets) - points - 1, 0)
    whole = digits - decimal_places
    if (whole > kind.precision - kind.scale).any() or (digits > MOST_DIGITS).any():
        raise ValueError("a DECIMAL with too many digits")
    return texts.cast(pa.decimal128(kind.precision, kind.scale))


def decimals_of_doubles(texts: pa.StringArray, kind: Decimal) -> pa.Array:
    """Read JSON numbers that were doubles on the server, as DECIMAL inside of a STRUCT is, as decimal128.

    Raises:
        ValueError: A number is not certainly the DECIMAL that went into the double.
    """
    found, certain = certain_decimals(texts.cast(pa.float64()), kind)
    if not certain.all():
        raise ValueError("a DECIMAL that a double cannot hold for certain")
    return found


def certain_decimals(doubles: pa.DoubleArray, kind: Decimal) -> tuple[pa.Array, Mask]:
    """Give the DECIMALs that doubles stand for.

    A double keeps 15 decimal digits, and no more: a number of at most so many digits, counted down to the
    type's last decimal, comes back as it went in. Of any other the wire cannot tell.

    Returns:
        decimal128 values, and which of them are certain; NULL is. The others mean nothing.
    """
    missing = doubles.is_null().to_numpy(zero_copy_only=False)
    values = doubles.fill_null(0.0).to_numpy()
    numbers = np.zeros(len(values), np.int64)
    if kind.scale <= _EXACT_POWER:
        power = 10.0**kind.scale
        with np.errstate(all="ignore"):
            scaled = np.rint(values * power)
            # Both sides of the division are exact, so it gives the very double of this DECIMAL, or another one.
            certain = (np.abs(scaled) < 10.0 ** min(kind.precision, CERTAIN_DIGITS)) & (
                scaled / power == values
            )
        numbers[certain] = scaled[certain]
    else:
        whole = [unscaled_number(value, kind) for value in values.tolist()]
        certain = np.array([number is not None for number in whole], np.bool_)
        numbers[certain] = [number for number in whole if number is not None]
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = numbers
    words[:, 1] = numbers >> 63
    buffers = [validity(missing if missing.any() else None), pa.py_buffer(words)]
    arrow = pa.decimal128(kind.precision, kind.scale)
    return pa.Array.from_buffers(arrow, len(values), buffers), certain

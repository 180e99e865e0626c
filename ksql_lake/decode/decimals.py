"""A column of DECIMAL texts to decimal128, without Arrow's silent overflow.

Arrow reads decimal text fast, but multiplies without looking: "5" as DECIMAL(38, 38), or any text of 39 digits
and more, can come out as some other number. This module lets it see only texts that cannot overflow. It refuses
exponents and everything else that is not sign, digits and point.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.literals import Number, scalar
from ksql_lake.schema import Decimal

MOST_DIGITS = 38  # what decimal128 holds whatever the digits are
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
        ValueError: A number does not fit.
    """
    try:
        return decimals(texts, kind)
    except ValueError:
        pass
    # What a double has made of the digits (1.2345678901234567E19, one more than there were) goes one by one.
    convert = scalar(kind, in_struct=True)
    numbers = [None if text is None else convert(Number(text)) for text in texts.to_pylist()]
    return pa.array(numbers, pa.decimal128(kind.precision, kind.scale))

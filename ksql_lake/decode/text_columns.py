"""Decode columns whose values are sent as text: BYTES in base64, DECIMAL in digits."""

# Arrow reads decimal text fast, but its multiplication overflows without an error, so it gets only texts that
# cannot overflow.

from __future__ import annotations

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.literals import CERTAIN_DIGITS, unscaled_number
from ksql_lake.decode.spans import Mask, validity
from ksql_lake.schema import Decimal

_PAD = ord("=")

MOST_DIGITS = 38  # decimal128 holds any number of this many digits
_EXACT_POWER = 22  # the largest power of ten that is a double
_PLAIN = np.zeros(256, np.bool_)
_PLAIN[list(b"0123456789.-")] = True


def binaries(texts: pa.StringArray) -> pa.BinaryArray:
    """Decode a column of base64 texts; NULL stays NULL.

    Raises:
        ValueError: A value is not base64 in its canonical form.
    """
    valid, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
    begin, size = int(bounds[0]), int(bounds[-1] - bounds[0])
    bounds -= begin
    if (bounds & 3).any():
        raise ValueError("base64 without its padding")
    text = np.frombuffer(data, np.uint8, size, begin) if size else np.empty(0, np.uint8)
    padding = text == _PAD
    # Each value ends with no, one or two padding marks; the value before an empty one is checked twice.
    last = padding.take(bounds[1:] - 1, mode="clip") & (np.diff(bounds) > 0) if size else padding[:0]
    two = last & padding.take(bounds[1:] - 2, mode="clip") if size else last
    shorter = last.astype(np.int64) + two if size else np.zeros(len(texts), np.int64)
    if np.count_nonzero(padding) != shorter.sum():
        raise ValueError("a padding that is not at the end")
    plain = text.tobytes().replace(b"=", b"A")
    decoded = np.frombuffer(binascii.a2b_base64(plain, strict_mode=True), np.uint8)
    if binascii.b2a_base64(decoded.tobytes(), newline=False) != plain:
        raise ValueError("not canonical base64")
    ends = bounds // 4 * 3
    if shorter.any():
        dropped = np.concatenate([ends[1:][last] - 1, ends[1:][two] - 2])
        if decoded[dropped].any():
            raise ValueError("stray bits at the end")
        kept = np.ones(len(decoded), np.bool_)
        kept[dropped] = False
        decoded = decoded[kept]
        ends[1:] -= np.cumsum(shorter)
    if texts.offset and valid is not None:
        valid = pa.array(texts.is_valid()).buffers()[1]
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(texts), [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(decoded)]
    )


def decimals(texts: pa.StringArray, kind: Decimal) -> pa.Array:
    """Read JSON numbers as decimal128.

    Args:
        texts: Numbers as JSON has them.
        kind: The type; missing decimals are filled up, further ones must be zeros.

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
    """Read JSON numbers that the server wrote as doubles, as it does for DECIMAL in a STRUCT, as decimal128.

    Raises:
        ValueError: More than one DECIMAL can have become the double.
    """
    found, certain = certain_decimals(texts.cast(pa.float64()), kind)
    if not certain.all():
        raise ValueError("a DECIMAL that a double cannot hold for certain")
    return found


def certain_decimals(doubles: pa.DoubleArray, kind: Decimal) -> tuple[pa.Array, Mask]:
    """Return the DECIMALs that became doubles.

    A double keeps 15 decimal digits and no more: a number of at most 15 digits, counted down to the type's last
    decimal, is unchanged. For any other number the double does not show the DECIMAL.

    Returns:
        decimal128 values, and which of them are certain (NULL is); the others are meaningless.
    """
    missing = doubles.is_null().to_numpy(zero_copy_only=False)
    values = doubles.fill_null(0.0).to_numpy()
    numbers = np.zeros(len(values), np.int64)
    if kind.scale <= _EXACT_POWER:
        power = 10.0**kind.scale
        with np.errstate(all="ignore"):
            scaled = np.rint(values * power)
            # Both sides of the division are exact, so the result shows whether this DECIMAL has this double.
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

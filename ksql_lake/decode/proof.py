"""Proof that a column of bytes, as Arrow's CSV parser has read it, is the JSON it looks like.

CSV is lenient where JSON is not: "12" for a number, 012, 0x1F, +1, .5, spaces, inf, text without quotation
marks. Each rule here looks at the first and last bytes of all values of a column at once and closes one of
these doors; what remains open is what both grammars read alike. It refuses on doubt, by ValueError, and that
includes valid forms that the server does not write.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.literals import SPECIAL_DOUBLES
from ksql_lake.decode.structure import QUOTE, Bytes, Fields, Layout, Mask, Positions, inside_strings
from ksql_lake.schema import Decimal, KsqlType, Primitive

_LETTERS = np.array([0x4040404040404040 >> 8 * (8 - n) << 8 * (8 - n) for n in range(9)], np.uint64)
"""Which bits tell letters from digits, points and signs in the last so many bytes of a word."""
_SPECIAL = {f'"{name}"'.encode() for name in SPECIAL_DOUBLES}
_ZERO, _MINUS, _POINT, _NULL, _TRUE, _FALSE, _T = b"0-.ntfT"
_LENGTHS = {  # with their quotation marks
    Primitive.TIME: (len('"10:00"'), len('"10:00:00"'), len('"10:00:00.000"')),
    Primitive.DATE: (len('"2025-01-15"'),),
    Primitive.TIMESTAMP: (len('"2025-01-15T10:00:00.000"'),),
}


def prove_points(found: Layout, doubles: Sequence[Fields]) -> None:
    """Prove that no number has a point without digits after it, such as `1.e5`.

    Args:
        found: The block.
        doubles: Its DOUBLE columns; a number of any other type has no exponent.

    Raises:
        ValueError: It cannot be proven.
    """
    if not any(map(_has_exponent, doubles)):
        return
    points = np.flatnonzero(found.text[: found.size] == _POINT)
    bare = (found.text[points + 1] | 0x20) == ord("e")
    if bare.any():
        _require(inside_strings(found.text, found.size)[points[bare]] == 1)


def _has_exponent(fields: Fields) -> bool:
    """Whether a letter stands in a value that begins as a number does."""
    lengths, ends = fields.length, fields.end
    numbers = _digit(fields.first) | (fields.first == _MINUS)
    words = np.ndarray((len(fields.text) - 7,), "<u8", fields.text.data, strides=(1,))
    for passed in range(0, int(lengths.max()), 8):
        letters = words[np.maximum(ends - (8 + passed), 0)] & _LETTERS[np.clip(lengths - passed, 0, 8)]
        if ((letters != 0) & numbers).any():
            return True
    return False


def prove_column(kind: KsqlType, fields: Fields, array: pa.Array) -> int:
    """Prove that a column's bytes are JSON of its type and mean what the CSV parser made of them.

    Relies on `prove_points` for DOUBLE.

    Returns:
        How many values begin and end with a quotation mark; the caller must see to it that there are no other
        marks.

    Raises:
        ValueError: It cannot be proven.
    """
    null = fields.first == _NULL
    if np.count_nonzero(null) != array.null_count:
        raise ValueError("a value that begins like null")
    match kind:
        case Primitive.BOOLEAN:
            _require((fields.first == _TRUE) | (fields.first == _FALSE) | null)
            return 0
        case Primitive.INTEGER | Primitive.BIGINT:
            _prove_numbers(fields, null)
            return 0
        case Decimal():
            _prove_numbers(fields, null)
            _prove_decimals(fields, null, kind)
            return 0
        case Primitive.DOUBLE:
            return _prove_doubles(fields, null, array)
        case _:
            return _prove_texts(kind, fields, null)


def _prove_numbers(fields: Fields, other: Mask) -> None:
    """Prove the number grammar where `other` is not set, given that the CSV parser accepted the digits."""
    negative = fields.first == _MINUS
    _require(_digit(fields.first) | negative | other)
    _require(_digit(fields.last) | other)
    zero = np.flatnonzero(fields.first == _ZERO)
    if len(zero):
        starts = fields.before[zero] + fields.lead
        longer = fields.after[zero] - fields.trail - starts > 1
        _prove_zeros(fields, starts[longer] + 1)
    rows = np.flatnonzero(negative)
    if len(rows):
        seconds = fields.before[rows] + (fields.lead + 1)
        second = fields.text[seconds]
        _require(_digit(second))
        # "-0" too is refused: as a DOUBLE it has a sign in CSV and none in JSON.
        _prove_zeros(fields, seconds[second == _ZERO] + 1)


def _prove_zeros(fields: Fields, after: Positions) -> None:
    """Prove that a fraction or an exponent follows a leading zero, given the places after the zeros."""
    following = fields.text[after]
    _require((following == _POINT) | ((following | 0x20) == ord("e")))


def _prove_decimals(fields: Fields, null: Mask, kind: Decimal) -> None:
    """Prove that there are exactly the type's decimals, no exponent, and no digits that could overflow."""
    if kind.scale == 0:
        return  # read as text
    start, end = fields.start, fields.end
    _require((fields.text[end - (kind.scale + 1)] == _POINT) | null)
    for place in range(2, kind.scale + 1):  # the last one is a digit already
        _require(_digit(fields.text[end - place]) | null)
    negative = fields.first == _MINUS
    whole = end - start - negative - (1 + kind.scale)
    few = (whole <= kind.precision - kind.scale) & (whole > 0) | null
    if not few.all():
        below_one = fields.text[start + negative] == _ZERO
        _require(few | (whole == 1) & below_one)


def _prove_doubles(fields: Fields, null: Mask, array: pa.Array) -> int:
    special = fields.first == QUOTE
    _prove_numbers(fields, null | special)
    count = int(np.count_nonzero(special))
    if count:
        starts, lengths = fields.start[special].tolist(), fields.length[special].tolist()
        tokens = {
            fields.text[start : start + length].tobytes() for start, length in zip(starts, lengths, strict=True)
        }
        if not tokens <= _SPECIAL:
            raise ValueError("a DOUBLE in quotation marks")
    # A number too large for a double is infinite to the CSV parser.
    finite = pc.sum(pc.is_finite(array)).as_py() or 0
    if len(array) - array.null_count - finite != count:
        raise ValueError("a DOUBLE out of range")
    return count


def _prove_texts(kind: KsqlType, fields: Fields, null: Mask) -> int:
    quoted = fields.first == QUOTE
    _require(quoted | null)
    _require(quoted == (fields.last == QUOTE))
    length = fields.length
    _require(length != 1)  # a mark that would be the first and the last one
    lengths = _LENGTHS.get(kind) if isinstance(kind, Primitive) else None
    if lengths:
        _require(np.logical_or.reduce([null, *(length == allowed for allowed in lengths)]))
    if kind == Primitive.TIMESTAMP:
        _require((fields.text[fields.start + 11] == _T) | null)
        _require((fields.text[fields.start + 20] == _POINT) | null)
    return int(np.count_nonzero(quoted))


def _digit(codes: Bytes) -> Mask:
    return (codes - np.uint8(_ZERO)) < 10  # below "0" wraps around


def _require(proven: Mask) -> None:
    if not proven.all():
        raise ValueError("a value in another form")

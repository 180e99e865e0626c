"""Columns of JSON scalars, given as places in a block of bytes, to Arrow arrays: exact, and a column at a time.

Arrow's casts from text read the values; they are lenient where JSON is not: 012, 0x1F, .5, 1., inf, a space for
the T of a time. Each rule here looks at the first and last bytes of all values at once and closes one of these
doors; what remains open is what both read alike. It refuses on doubt, by ValueError, and that includes valid
forms that the server does not write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode import times
from ksql_lake.decode.base64 import binaries
from ksql_lake.decode.decimals import decimals
from ksql_lake.decode.literals import SPECIAL_DOUBLES
from ksql_lake.decode.spans import Bytes, Mask, Positions, Spans, validity
from ksql_lake.schema import Decimal, Primitive, arrow_type

Scalar = Primitive | Decimal
Convert = Callable[[pa.StringArray], pa.Array]

_ZERO, _MINUS, _POINT = b"0-."
_TRUE, _FALSE = (int.from_bytes(text, "little") for text in (b"true", b"fals"))
_CONVERTED: dict[Scalar, Convert] = {
    Primitive.BYTES: binaries,
    Primitive.TIME: times.times,
    Primitive.DATE: times.dates,
    Primitive.TIMESTAMP: times.timestamps,
}
_NO_NUMBERS = {*_CONVERTED, Primitive.STRING, Primitive.BOOLEAN}


class LeafReader:
    """Reads the scalar columns of some rows.

    Args:
        kinds: The types of the scalar columns, by their place among the row's columns.
    """

    def __init__(self, kinds: Mapping[int, Scalar]) -> None:
        self._kinds = kinds
        self._numbers = [column for column, kind in kinds.items() if kind not in _NO_NUMBERS]
        self._exact = [column for column in self._numbers if kinds[column] != Primitive.DOUBLE]

    def read(self, spans: Spans, *, finish: Convert) -> dict[int, pa.Array]:
        """Give the array of each column.

        Args:
            spans: The values.
            finish: What is still to be done with the texts of STRING columns.

        Raises:
            ValueError: A value is not plainly of its column's type.
        """
        if spans.quoted[self._exact].any():
            raise ValueError("a number in quotation marks")
        _require_numbers(spans, self._numbers)
        return {column: _read(spans, column, kind, finish) for column, kind in self._kinds.items()}


def _read(spans: Spans, column: int, kind: Scalar, finish: Convert) -> pa.Array:
    match kind:
        case Primitive.BOOLEAN:
            return _booleans(spans, column)
        case Primitive.DOUBLE:
            return _doubles(spans, column)
        case Decimal():
            return _decimals(spans, column, kind)
        case Primitive.INTEGER | Primitive.BIGINT:
            return spans.texts(column).cast(arrow_type(kind))
        case _:
            if not spans.is_text(column):
                raise ValueError("a text without quotation marks")
            return _CONVERTED.get(kind, finish)(spans.texts(column))


def _booleans(spans: Spans, column: int) -> pa.Array:
    null = spans.nulls(column)
    start, end = spans.start[column], spans.end[column]
    words = spans.block.words[start]
    true = words == _TRUE
    proper = true & (end - start == len("true"))
    proper |= (words == _FALSE) & (end - start == len("false")) & (spans.last[column] == ord("e"))
    _require(proper, null)
    bits = pa.py_buffer(np.packbits(true, bitorder="little"))
    return pa.BooleanArray.from_buffers(pa.bool_(), len(spans), [validity(null), bits])


def _doubles(spans: Spans, column: int) -> pa.Array:
    texts, special = spans.texts(column), spans.quoted[column]
    count = int(np.count_nonzero(special))
    if count and not set(pc.unique(texts.filter(pa.array(special))).to_pylist()) <= set(SPECIAL_DOUBLES):
        raise ValueError("a DOUBLE in quotation marks")
    _require_points(texts)
    array = texts.cast(pa.float64())
    # A number too large for a double is infinite to Arrow.
    finite = pc.sum(pc.is_finite(array)).as_py() or 0
    if len(array) - array.null_count - finite != count:
        raise ValueError("a DOUBLE out of range")
    return array


def _decimals(spans: Spans, column: int, kind: Decimal) -> pa.Array:
    if kind.scale == 0:
        return decimals(spans.texts(column), kind)
    _require_decimals(spans, column, kind)
    return spans.texts(column).cast(arrow_type(kind))


def _require_numbers(spans: Spans, columns: Sequence[int]) -> None:
    """Prove the number grammar, given that Arrow accepts the digits; quoted ones pass."""
    if not columns:
        return
    text, first = spans.block.text, spans.first[columns]
    negative, zero = first == _MINUS, first == _ZERO
    proper = _digit(first)
    proper |= negative
    proper &= _digit(spans.last[columns])
    if not proper.all():
        proper |= spans.quoted[columns]
        _require(proper, None if spans.null is None else spans.null[columns])
    start, end = spans.start[columns], spans.end[columns]
    starts = start[zero]
    _require_fraction(text, starts[end[zero] - starts > 1] + 1)
    if negative.any():
        seconds = start[negative] + 1
        second = text[seconds]
        _require(_digit(second))
        # "-0" too is refused: as a DOUBLE it has a sign in Arrow and none in JSON.
        _require_fraction(text, seconds[second == _ZERO] + 1)


def _require_fraction(text: Bytes, after: Positions) -> None:
    """Prove that a fraction or an exponent follows a leading zero, given the places after the zeros."""
    following = text[after]
    _require((following == _POINT) | ((following | 0x20) == ord("e")))


def _require_points(texts: pa.StringArray) -> None:
    """Prove that no number has a point without digits after it, such as `1.e5`."""
    codes: Bytes = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    exponents = np.flatnonzero((codes | 0x20) == ord("e"))
    _require(codes[exponents - 1] != _POINT)


def _require_decimals(spans: Spans, column: int, kind: Decimal) -> None:
    """Prove that there are exactly the type's decimals, no exponent, and no digits that could overflow."""
    text, start, end = spans.block.text, spans.start[column], spans.end[column]
    proper = text[end - (kind.scale + 1)] == _POINT
    for place in range(2, kind.scale + 1):  # the last one is a digit already
        proper &= _digit(text[end - place])
    negative = spans.first[column] == _MINUS
    whole = end - start - negative - (1 + kind.scale)
    few = (whole <= kind.precision - kind.scale) & (whole > 0)
    if not few.all():
        below_one = text[start + negative] == _ZERO
        few |= (whole == 1) & below_one
    _require(proper & few, spans.nulls(column))


def _digit(codes: Bytes) -> Mask:
    return (codes - np.uint8(_ZERO)) < 10  # below "0" wraps around


def _require(proven: Mask, null: Mask | None = None) -> None:
    if not proven.all() and (null is None or not (proven | null).all()):
        raise ValueError("a value in another form")

"""Decode columns of JSON scalars, given as positions in a block of bytes, into Arrow arrays."""

# Arrow's casts from text are more lenient than JSON (012, 0x1F, .5, 1., inf, a space for the T of a time). Each
# rule here checks the first and last bytes of all values at once. In doubt it raises ValueError, also for valid
# forms that the server does not write.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode import times
from ksql_lake.decode.literals import SPECIAL_DOUBLES
from ksql_lake.decode.spans import Bytes, Mask, Positions, Spans, validity
from ksql_lake.decode.structure import with_escapes
from ksql_lake.decode.text_columns import binaries, decimals, decimals_of_doubles
from ksql_lake.schema import Decimal, Primitive, arrow_type

Scalar = Primitive | Decimal
Convert = Callable[[pa.StringArray], pa.Array]
Reader = Callable[[Spans, int], pa.Array]
"""Reads one of several columns."""

_EXACT_DIGITS = 15
"""Decimal digits that a double keeps."""
_ZERO, _MINUS, _POINT = b"0-."
_OF_NUMBERS = np.zeros(256, np.bool_)
_OF_NUMBERS[list(b"0123456789.-+eE")] = True
_TRUE, _FALSE = (int.from_bytes(text, "little") for text in (b"true", b"fals"))
_CONVERTED: dict[Scalar, Convert] = {
    Primitive.BYTES: binaries,
    Primitive.TIME: times.times,
    Primitive.DATE: times.dates,
    Primitive.TIMESTAMP: times.timestamps,
}


class LeafReader:
    """Reads the scalar columns of some rows.

    Args:
        kinds: Index among the row's columns -> type, for the scalar columns.
        in_struct: Whether they are inside a STRUCT, where the server writes times and DECIMAL in another way.
    """

    def __init__(self, kinds: Mapping[int, Scalar], *, in_struct: bool = False) -> None:
        self._readers = {column: (_in_struct if in_struct else _reader)(kind) for column, kind in kinds.items()}
        texts = {Primitive.STRING, Primitive.BYTES} if in_struct else {Primitive.STRING, *_CONVERTED}
        self._texts = [column for column, kind in kinds.items() if kind in texts]
        no_numbers = {*self._texts, *(column for column, kind in kinds.items() if kind == Primitive.BOOLEAN)}
        self._numbers = [column for column in kinds if column not in no_numbers]
        self._unquoted = [column for column in self._numbers if kinds[column] != Primitive.DOUBLE]

    def read(self, spans: Spans) -> dict[int, pa.Array]:
        """Return the array of each column.

        Raises:
            ValueError: A value is not certainly of its column's type.
        """
        if spans.quoted[self._unquoted].any() or not all(map(spans.is_text, self._texts)):
            raise ValueError("a quotation mark too many or too few")
        _require_numbers(spans, self._numbers)
        return {column: read(spans, column) for column, read in self._readers.items()}


def _reader(kind: Scalar) -> Reader:
    match kind:
        case Primitive.BOOLEAN:
            return _booleans
        case Primitive.DOUBLE:
            return _doubles
        case Decimal():
            return partial(_decimals, kind=kind)
        case Primitive.INTEGER | Primitive.BIGINT:
            return lambda spans, column: spans.texts(column).cast(arrow_type(kind))
        case Primitive.STRING:
            return _strings
        case _:
            convert = _CONVERTED[kind]
            return lambda spans, column: convert(spans.texts(column))


def _in_struct(kind: Scalar) -> Reader:
    match kind:
        case Decimal():
            return partial(_rounded, kind=kind)
        case Primitive.TIME:
            return lambda spans, column: times.times_of_day(spans.texts(column).cast(pa.int32()))
        case Primitive.DATE:
            return lambda spans, column: spans.texts(column).cast(pa.int32()).cast(pa.date32())
        case Primitive.TIMESTAMP:
            return lambda spans, column: times.instants(spans.texts(column).cast(pa.int64()))
        case _:
            return _reader(kind)


def _strings(spans: Spans, column: int) -> pa.Array:
    texts = spans.texts(column)
    return with_escapes(texts) if spans.block.escaped else texts


def _booleans(spans: Spans, column: int) -> pa.Array:
    null = spans.nulls(column)
    start = spans.start[column]
    length = spans.end[column] - start
    _require(length >= len("true"))  # as many bytes as a word has
    words = spans.block.words[start]
    true = words == _TRUE
    proper = true & (length == len("true"))
    proper |= (words == _FALSE) & (length == len("false")) & (spans.last[column] == ord("e"))
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
    # Arrow reads a number too large for a double as infinite.
    finite = pc.sum(pc.is_finite(array)).as_py() or 0
    if len(array) - array.null_count - finite != count:
        raise ValueError("a DOUBLE out of range")
    return array


def _decimals(spans: Spans, column: int, *, kind: Decimal) -> pa.Array:
    if kind.scale == 0:
        return decimals(spans.texts(column), kind)
    longest = _require_decimals(spans, column, kind)
    texts = spans.texts(column)
    if longest > _EXACT_DIGITS + len("-."):
        return texts.cast(arrow_type(kind))
    # A double keeps so few digits unchanged, and doubles are read three times as fast as decimals.
    doubles = texts.cast(pa.float64()).fill_null(0.0).to_numpy()
    words = np.empty((len(texts), 2), np.int64)
    words[:, 0] = np.rint(doubles * 10.0**kind.scale)
    words[:, 1] = words[:, 0] >> 63
    buffers = [validity(spans.nulls(column)), pa.py_buffer(words)]
    return pa.Array.from_buffers(arrow_type(kind), len(texts), buffers)


def _rounded(spans: Spans, column: int, *, kind: Decimal) -> pa.Array:
    texts = spans.texts(column)
    _require_points(texts)
    _require(_OF_NUMBERS[_codes(texts)])
    return decimals_of_doubles(texts, kind)


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
        # "-0" is refused too: Arrow reads the DOUBLE with its sign, JSON without.
        _require_fraction(text, seconds[second == _ZERO] + 1)


def _require_fraction(text: Bytes, after: Positions) -> None:
    """Prove that a fraction or an exponent follows a leading zero, given the places after the zeros."""
    following = text[after]
    _require((following == _POINT) | ((following | 0x20) == ord("e")))


def _require_points(texts: pa.StringArray) -> None:
    """Prove that no number has a point without digits after it, such as `1.e5`."""
    codes = _codes(texts)
    exponents = np.flatnonzero((codes | 0x20) == ord("e"))
    _require(codes[exponents - 1] != _POINT)


def _require_decimals(spans: Spans, column: int, kind: Decimal) -> int:
    """Prove that all numbers have exactly the type's decimals and none overflows; return the longest length."""
    text, start, end = spans.block.text, spans.start[column], spans.end[column]
    proper = text[end - (kind.scale + 1)] == _POINT
    for place in range(2, kind.scale + 1):  # the last one is a digit already
        proper &= _digit(text[end - place])
    negative = spans.first[column] == _MINUS
    length = end - start
    whole = length - negative - (1 + kind.scale)
    few = (whole <= kind.precision - kind.scale) & (whole > 0)
    if not few.all():
        below_one = text[start + negative] == _ZERO
        few |= (whole == 1) & below_one
    _require(proper & few, spans.nulls(column))
    return int(length.max(initial=0))


def _codes(texts: pa.StringArray) -> Bytes:
    data = texts.buffers()[2] if len(texts) else None
    return np.frombuffer(data or b"", np.uint8)


def _digit(codes: Bytes) -> Mask:
    return (codes - np.uint8(_ZERO)) < 10  # codes below "0" wrap around


def _require(proven: Mask, null: Mask | None = None) -> None:
    if not proven.all() and (null is None or not (proven | null).all()):
        raise ValueError("a value in another form")

"""A checksum of rows that depends on neither order, batches nor files. Pure; it never changes."""

# Each value becomes a 64-bit number, each row one number, a set of rows the sum; so the sums of parts add up,
# and multiplicity counts. It does not withstand forgery, and row identity never relies on it.

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.lake.files.checksum_sums import Sums, added, sums_text

Words = npt.NDArray[np.uint64]
_ROWS = 65_536
"""Rows hashed at once: few enough for the processor's cache."""
_ALL = slice(None)

_SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_NULL = np.uint64(0xD6E8FEB86659FD93)
_EMPTY = np.uint64(0xA0761D6478BD642F)
_BASE = 0x5851F42D4C957F2D
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_CANONICAL_NAN = np.uint64(0x7FF8000000000000)
_SHORT = 32
"""Columns without longer strings are read word by word over all rows; a matter of speed only."""
_KEPT = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
"""Mask of a string's last word, by the number of bytes left."""


class RowChecksum:
    """The running checksum of any number of batches; 128 bits, written as 32 hexadecimal digits."""

    def __init__(self) -> None:
        self._sums: Sums = (0, 0)

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch's rows."""
        self.count(sums(batch_hashes(batch)))

    def count(self, hashed: Sums) -> None:
        """Add rows by the sums of their hashes."""
        self._sums = added(self._sums, hashed)

    @property
    def text(self) -> str:
        """The checksum so far."""
        return sums_text(self._sums)


def batch_hashes(batch: pa.RecordBatch) -> tuple[Words, Words]:
    """Return the two numbers of each row of a batch of any size."""
    hashed = [row_hashes(batch.slice(begin, _ROWS)) for begin in range(0, max(batch.num_rows, 1), _ROWS)]
    if len(hashed) == 1:
        return hashed[0]
    first, second = (np.concatenate(numbers) for numbers in zip(*hashed, strict=True))
    return first, second


def sums(hashes: tuple[Words, Words], rows: slice = _ALL) -> Sums:
    """Add up the numbers of some rows."""
    first, second = (int(numbers[rows].sum(dtype=np.uint64)) for numbers in hashes)
    return first, second


def row_hashes(batch: pa.RecordBatch) -> tuple[Words, Words]:
    """Return two independent 64-bit numbers per row; columns count by name, so their order does not."""
    # Values are mixed already, so one factor for each column and sum is enough: (value + 1) * factor.
    factors = [_factors(name) for name in batch.schema.names]
    totals = [
        np.full(batch.num_rows, np.sum([known[number][0] for known in factors], dtype=np.uint64))
        for number in range(len(_SEEDS))
    ]
    part = np.empty(batch.num_rows, dtype=np.uint64)
    for column, known in zip(batch.columns, factors, strict=True):
        values = _values(column)
        for total, factor in zip(totals, known, strict=True):
            np.multiply(values, factor, out=part)
            np.add(total, part, out=total)
    first, second = (_scramble(total ^ seed) for total, seed in zip(totals, _SEEDS, strict=True))
    return first, second


@lru_cache(maxsize=4096)
def _factors(name: str) -> tuple[Words, Words]:
    """Return an odd number of a column for each of the two sums."""
    first, second = (_scramble(_name(name) ^ seed) | np.uint64(1) for seed in _SEEDS)
    return first, second


def _name(text: str) -> Words:
    return _strings(pa.array([text.casefold()]))


def _values(array: pa.Array) -> Words:
    """Return a 64-bit number per value, NULL included."""
    kind = array.type
    if not len(array):
        return np.zeros(0, dtype=np.uint64)
    if isinstance(array, pa.DictionaryArray):
        words = _looked_up(array)
    elif isinstance(array, pa.StructArray):
        words = _structs(array)
    elif isinstance(array, pa.MapArray):  # also a ListArray
        words = _lists(array.offsets, partial(_pairs, array), ordered=False)
    elif isinstance(array, pa.ListArray):
        words = _lists(array.offsets, partial(_elements, array), ordered=True)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        words = _strings(array)
    else:
        words = _numbers(array)
    if array.null_count:
        words = np.where(_valid(array), words, _NULL)
    return words


def _looked_up(array: pa.DictionaryArray) -> Words:
    """Hash the distinct values once, and look up each value's hash."""
    known, numbers = _values(array.dictionary), array.indices
    if numbers.null_count:
        known = np.append(known, _NULL)  # there may be no value at all
        numbers = numbers.fill_null(0)
    words: Words = known.take(numbers.to_numpy())
    return words


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _numbers(array: pa.Array) -> Words:
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    if pa.types.is_decimal(kind):
        # 128-bit two's complement in two words; the scale is part of the type and cannot differ in a column.
        raw = np.frombuffer(array.buffers()[1], dtype=np.uint64).reshape(-1, 2)
        low, high = raw[array.offset : array.offset + len(array)].T
        return _mixed(low ^ _mixed(high ^ _SEEDS[1]))
    if pa.types.is_boolean(kind):
        return _mixed(array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint64))
    if pa.types.is_floating(kind):
        floats = array.cast(pa.float64()).fill_null(0.0).to_numpy()
        return _mixed(np.where(np.isnan(floats), _CANONICAL_NAN, floats.view(np.uint64)))
    if pa.types.is_time64(kind):
        # Files hold microseconds, because Spark reads no other unit; a TIME is a number of milliseconds.
        array, kind = array.cast(pa.time32("ms")), pa.time32("ms")
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    integers = array.cast(pa.int64()).fill_null(0).to_numpy()
    return _mixed(integers.view(np.uint64))


def _strings(array: pa.Array) -> Words:
    """Hash each string by its length and its 8-byte words, the last one filled up with zeros."""
    narrow = np.frombuffer(array.buffers()[1], dtype=np.int32)
    offsets = narrow[array.offset : array.offset + len(array) + 1].astype(np.int64)
    offsets -= offsets[0]
    begins, lengths = offsets[:-1], offsets[1:] - offsets[:-1]
    longest = int(lengths.max())
    padded = np.zeros(int(offsets[-1]) + longest + _SHORT, dtype=np.uint8)
    padded[: offsets[-1]] = np.frombuffer(
        array.buffers()[2] or b"", dtype=np.uint8, count=offsets[-1], offset=narrow[array.offset]
    )
    words = lengths.astype(np.uint64)
    words *= _EMPTY
    words += _EMPTY
    if longest <= _SHORT:
        size = max(-(-longest // 8) * 8, 8)
        parts = np.ndarray((len(padded) - size,), f"S{size}", padded.data, strides=(1,))[begins].view("<u8")
        for place in range(0, size, 8):
            # Beyond a string's end the mask leaves 0, which adds nothing.
            part = _mixed(parts[place // 8 :: size // 8] & _kept(lengths, place, longest))
            if place:
                part *= np.uint64(pow(_BASE, place // 8, 1 << 64))
            words += part
        return _scramble(words)
    anywhere = np.ndarray((len(padded) - 7,), "<u8", padded.data, strides=(1,))
    bounds = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum((lengths + 7) >> 3, out=bounds[1:])
    parts = anywhere[np.repeat(begins - 8 * bounds[:-1], np.diff(bounds)) + 8 * np.arange(bounds[-1])]
    some = lengths > 0
    parts[bounds[1:][some] - 1] &= _KEPT[(lengths[some] - 1) % 8 + 1]
    return _scramble(words + _polynomial(_mixed(parts), bounds))


def _kept(lengths: npt.NDArray[np.int64], place: int, longest: int) -> Words:
    """Return the bits that belong to each string in the word at a place: those of the bytes before its end."""
    bits = (lengths - place) << 3
    if place:
        np.maximum(bits, 0, out=bits)
    if longest > place + 8:
        np.minimum(bits, 64, out=bits)
    # A shift by 64 bits leaves 0, and 0 - 1 sets every bit.
    kept: Words = np.uint64(1) << bits.view(np.uint64)
    kept -= np.uint64(1)
    return kept


def _lists(offsets: pa.Array, elements: Callable[[int, int], Words], *, ordered: bool) -> Words:
    bounds = offsets.to_numpy().astype(np.int64)
    inside = elements(int(bounds[0]), int(bounds[-1] - bounds[0]))
    bounds -= bounds[0]
    if ordered:
        slices = _polynomial(inside, bounds)
    else:
        sums = np.concatenate(([np.uint64(0)], np.cumsum(inside, dtype=np.uint64)))
        slices = sums[bounds[1:]] - sums[bounds[:-1]]
    return _scramble(slices + np.diff(bounds).astype(np.uint64) * _EMPTY + _EMPTY)


def _elements(array: pa.ListArray, begin: int, count: int) -> Words:
    # `values` shows the elements of the whole array, not only those of its slice.
    return _values(array.values.slice(begin, count))


def _pairs(array: pa.MapArray, begin: int, count: int) -> Words:
    keys, items = array.keys.slice(begin, count), array.items.slice(begin, count)
    return _scramble(_scramble(_values(keys)) + _values(items))


def _structs(array: pa.StructArray) -> Words:
    words = np.zeros(len(array), dtype=np.uint64)
    for index in range(array.type.num_fields):
        # field() shows the children of NULL structs too; their words are replaced by that of NULL afterwards.
        factor, _ = _factors(array.type.field(index).name)
        part = _values(array.field(index)) * factor
        part += factor
        words += part
    return _scramble(words ^ _EMPTY)


def _polynomial(values: Words, offsets: npt.NDArray[np.int64]) -> Words:
    """Return sum(value[i] * base**i) of each slice, position counted inside the slice, modulo 2**64."""
    if len(values) == 0:
        return np.zeros(len(offsets) - 1, dtype=np.uint64)
    powers, inverses = _powers(_BASE, len(values)), _powers(_BASE_INVERSE, len(values) + 1)
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers, out=sums[1:])
    slices: Words = (sums[offsets[1:]] - sums[offsets[:-1]]) * inverses[offsets[:-1]]
    return slices


_TABLES: dict[int, Words] = {}


def _powers(base: int, count: int) -> Words:
    """Return base**0 .. base**(count-1) modulo 2**64, from a table that only grows."""
    table = _TABLES.get(base)
    if table is None or len(table) < count:
        size = 1 << max(count - 1, 1).bit_length()
        factors = np.full(size, base, dtype=np.uint64)
        factors[0] = 1
        table = factors.cumprod(dtype=np.uint64)
        _TABLES[base] = table
    return table[:count]


def _mixed(words: Words) -> Words:
    """Let every bit reach both halves: enough for numbers that are scrambled after they are summed."""
    mixed: Words = words >> np.uint64(32)
    mixed ^= words
    mixed *= _SEEDS[0]
    mixed ^= mixed >> np.uint64(29)
    return mixed


def _scramble(words: Words) -> Words:
    """Spread every bit over the whole word (the finaliser of splitmix64, public domain, Vigna 2015)."""
    mixed: Words = words >> np.uint64(30)
    mixed ^= words
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed

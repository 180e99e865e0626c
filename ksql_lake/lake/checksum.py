"""A checksum of rows that depends on neither order, batching nor files: pure, and stable for ever.

Each value becomes a 64-bit number, each row one number, and a set of rows the sum of its rows' numbers, so sums
of parts add up and multiplicity counts. Values are hashed by what they are: the same row gives the same number
from whatever file, row group or library version it comes. It proves that two readings hold the same rows; it is
not meant to withstand someone who forges rows, and row identity never relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]

_SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_NULL = np.uint64(0xD6E8FEB86659FD93)
_EMPTY = np.uint64(0xA0761D6478BD642F)
_BASE = 0x5851F42D4C957F2D
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_CANONICAL_NAN = np.uint64(0x7FF8000000000000)
_MASK = (1 << 64) - 1


EMPTY = "0" * 32
"""The checksum of no rows."""


class RowChecksum:
    """The running checksum of any number of batches; 128 bits, written as 32 hexadecimal digits."""

    def __init__(self) -> None:
        self._sums = [0, 0]

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch's rows."""
        if batch.num_rows:
            self._sums = [
                (total + int(rows.sum(dtype=np.uint64))) & _MASK
                for total, rows in zip(self._sums, row_hashes(batch), strict=True)
            ]

    @property
    def text(self) -> str:
        """The checksum so far."""
        return f"{self._sums[0]:016x}{self._sums[1]:016x}"


def combined(checksums: Iterable[str]) -> str:
    """Give the checksum of all rows together from the checksums of the parts."""
    sums = [0, 0]
    for text in checksums:
        sums = [(sums[0] + int(text[:16], 16)) & _MASK, (sums[1] + int(text[16:], 16)) & _MASK]
    return f"{sums[0]:016x}{sums[1]:016x}"


def row_hashes(batch: pa.RecordBatch) -> tuple[Words, Words]:
    """Give two independent 64-bit numbers per row; columns count by name, so their order does not."""
    names = [_scramble(_name(name)) for name in batch.schema.names]
    columns = list(zip(names, map(_values, batch.columns), strict=True))
    with np.errstate(over="ignore"):
        totals = []
        for seed in _SEEDS:
            row = np.zeros(batch.num_rows, dtype=np.uint64)
            for name, values in columns:
                row += _scramble(values ^ (name * seed))
            totals.append(_scramble(row ^ seed))
    return totals[0], totals[1]


def _name(text: str) -> Words:
    return _strings(pa.array([text.casefold()]))


def _values(array: pa.Array) -> Words:
    """Give a 64-bit number per value, NULL included."""
    kind = array.type
    if not len(array):
        return np.zeros(0, dtype=np.uint64)
    if pa.types.is_struct(kind):
        words = _structs(array)
    elif pa.types.is_map(kind):
        words = _lists(array.offsets, _pairs(array), ordered=False)
    elif pa.types.is_list(kind):
        words = _lists(array.offsets, _values(array.values), ordered=True)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        words = _strings(array)
    else:
        words = _numbers(array)
    if array.null_count:
        words = np.where(_valid(array), words, _NULL)
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
        with np.errstate(over="ignore"):
            return _scramble(low ^ _scramble(high ^ _SEEDS[1]))
    if pa.types.is_boolean(kind):
        return _scramble(array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint64))
    if pa.types.is_floating(kind):
        floats = array.cast(pa.float64()).fill_null(0.0).to_numpy()
        return _scramble(np.where(np.isnan(floats), _CANONICAL_NAN, floats.view(np.uint64)))
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    integers = array.cast(pa.int64()).fill_null(0).to_numpy()
    return _scramble(integers.view(np.uint64))


def _strings(array: pa.Array) -> Words:
    """Hash each string as a polynomial of its bytes, all at once through prefix sums over the shared buffer."""
    narrow = np.frombuffer(array.buffers()[1], dtype=np.int32)
    offsets = narrow[array.offset : array.offset + len(array) + 1].astype(np.int64)
    data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    return _polynomial(data.astype(np.uint64) + np.uint64(1), offsets - offsets[0])


def _lists(offsets: pa.Array, elements: Words, *, ordered: bool) -> Words:
    bounds = offsets.to_numpy().astype(np.int64)
    inside = elements[bounds[0] : bounds[-1]]
    if ordered:
        return _polynomial(inside, bounds - bounds[0])
    sums = np.concatenate(([np.uint64(0)], np.cumsum(inside, dtype=np.uint64)))
    lengths = (bounds[1:] - bounds[:-1]).astype(np.uint64)
    with np.errstate(over="ignore"):
        slices = sums[bounds[1:] - bounds[0]] - sums[bounds[:-1] - bounds[0]]
        return _scramble(slices + lengths * _EMPTY + _EMPTY)


def _pairs(array: pa.MapArray) -> Words:
    with np.errstate(over="ignore"):
        return _scramble(_scramble(_values(array.keys)) + _values(array.items))


def _structs(array: pa.StructArray) -> Words:
    words = np.zeros(len(array), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for index in range(array.type.num_fields):
            name = _scramble(_name(array.type.field(index).name))
            # field() shows the children of NULL structs too; those words are replaced by NULL's own afterwards.
            words += _scramble(_values(array.field(index)) ^ name)
        return _scramble(words ^ _EMPTY)


def _polynomial(values: Words, offsets: npt.NDArray[np.int64]) -> Words:
    """Hash each slice of values as sum(value[i] * base**i), position counted inside the slice, modulo 2**64."""
    if len(values) == 0:
        return _scramble(np.full(len(offsets) - 1, _EMPTY))
    with np.errstate(over="ignore"):
        powers, inverses = _powers(_BASE, len(values)), _powers(_BASE_INVERSE, len(values) + 1)
        sums = np.concatenate(([np.uint64(0)], np.cumsum(values * powers, dtype=np.uint64)))
        slices = (sums[offsets[1:]] - sums[offsets[:-1]]) * inverses[offsets[:-1]]
        return _scramble(slices + (offsets[1:] - offsets[:-1]).astype(np.uint64) * _EMPTY + _EMPTY)


_TABLES: dict[int, Words] = {}


def _powers(base: int, count: int) -> Words:
    """Give base**0 .. base**(count-1) modulo 2**64, from a table that only grows."""
    table = _TABLES.get(base)
    if table is None or len(table) < count:
        size = 1 << max(count - 1, 1).bit_length()
        with np.errstate(over="ignore"):
            factors = np.full(size, base, dtype=np.uint64)
            factors[0] = 1
            table = factors.cumprod(dtype=np.uint64)
        _TABLES[base] = table
    return table[:count]


def _scramble(words: Words) -> Words:
    """Spread every bit over the whole word (the finaliser of splitmix64, public domain, Vigna 2015)."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))

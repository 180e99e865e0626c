"""Values as positions in a block of bytes, and their copies as Arrow texts."""

# Arrow copies all texts of a column at once, so that its own casts can read them.

from __future__ import annotations

from functools import lru_cache
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]  # numpy would convert narrower ones to these at every use
Mask = npt.NDArray[np.bool_]
Text = bytes | memoryview
"""Rows as received."""
Number = TypeVar("Number", np.uint8, np.int64)

QUOTE, COMMA, NEWLINE, BACKSLASH = b'",\n\\'
_N = ord("n")
_HALF, _LOWER = 32, (1 << 32) - 1
_WITHOUT_MARKS = 1 - (1 << _HALF)
"""Added to a word, moves the start (lower half) one byte on and the end (upper half) one byte back."""
_TURNED = 512
_SHORT = 64
_NOT_ASCII = 128
_NULL = int.from_bytes(b"null", "little")


class Block:
    """The bytes of some rows, for array operations.

    Args:
        data: The bytes.
        escaped: Whether they contain stand-ins of escape sequences.

    Attributes:
        data: The bytes.
        escaped: Whether they contain stand-ins of escape sequences.
        text: The bytes one by one.
        words: The four bytes from each position on.
        longs: The eight bytes from each position on.
    """

    def __init__(self, data: Text, *, escaped: bool) -> None:
        self.data = data
        self.escaped = escaped
        self.text: Bytes = np.frombuffer(data, np.uint8)
        self.words = np.ndarray((max(len(data) - 3, 0),), "<u4", data, strides=(1,))
        self.longs = np.ndarray((max(len(data) - 7, 0),), "<u8", data, strides=(1,))


class Spans:
    """The positions of the values of some rows.

    Args:
        block: The bytes.
        start: Position of each value's first byte, one row of the array per column of values.
        end: Position after each value's last byte.
        first: The first byte of each value.
        last: The last byte of each value.

    Attributes:
        quoted: Which values are in quotation marks.
        null: Which values are null; None if none is.
        quotes: How many quotation marks begin and end values.

    Raises:
        ValueError: A value has a quotation mark at one end only, or begins like null but is not.
    """

    def __init__(self, block: Block, start: Positions, end: Positions, first: Bytes, last: Bytes) -> None:
        self.block = block
        self.start, self.end = start, end
        self.first, self.last = first, last
        self.quoted: Mask = self.first == QUOTE
        if ((self.last == QUOTE) != self.quoted).any():
            raise ValueError("a quotation mark at one end")
        null = self.first == _N
        self.null = null if null.any() else None
        if self.null is not None:
            begin = start[null]
            if (block.words[begin] != _NULL).any() or (end[null] - begin != len("null")).any():
                raise ValueError("a value that begins like null")
        self.quotes = 2 * int(np.count_nonzero(self.quoted))

    @classmethod
    def of_columns(cls, block: Block, start: Positions, end: Positions) -> Self:
        """Return the spans of values in column order."""
        return cls(block, start, end, block.text.take(start), block.text.take(end - 1))

    @classmethod
    def of_rows(cls, block: Block, start: Positions, end: Positions) -> Self:
        """Return the spans of values in row order, which is fast because it is their order in memory."""
        first, last = block.text.take(start), block.text.take(end - 1)
        return cls(block, _turned(start), _turned(end), _turned(first), _turned(last))

    def __len__(self) -> int:
        return int(self.start.shape[1])

    def is_text(self, column: int) -> bool:
        """Whether all values of the column are in quotation marks or null."""
        known = self.quoted[column] if self.null is None else self.quoted[column] | self.null[column]
        return bool(known.all())

    def nulls(self, column: int) -> Mask | None:
        """Return which values of a column are null; None if none is."""
        return self.null[column] if self.null is not None and self.null[column].any() else None

    def texts(self, column: int) -> pa.StringArray:
        """Copy the values of a column, without quotation marks, into an array of texts; null is NULL.

        Raises:
            ValueError: A value is a quotation mark and nothing else.
        """
        count = len(self)
        if not count:
            return pa.array([], pa.string())
        start, end, quoted, null = self.start[column], self.end[column], self.quoted[column], self.nulls(column)
        marks = int(quoted[0])
        length = int(end[0] - start[0]) - 2 * marks
        alike = null is None and 0 < length <= _SHORT and bool((quoted == marks).all())
        if alike and (end - start == length + 2 * marks).all():
            return _copied_alike(self.block, start + marks, length)
        edges = (end << _HALF) + start  # of 32 bits each
        if quoted.any():
            edges += _WITHOUT_MARKS if quoted.all() else quoted * _WITHOUT_MARKS
        if null is not None:
            edges[null] = (edges[null] & _LOWER) * (1 + (1 << _HALF))
        texts = _copied(self.block, edges)
        if null is None:
            return texts
        _, offsets, data = texts.buffers()
        return pa.StringArray.from_buffers(count, offsets, data, validity(null))


def _turned(rows: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Transpose rows to columns, piece by piece, so that the bytes stay in the processor's cache."""
    columns = np.empty(rows.shape[::-1], rows.dtype)
    for begin in range(0, len(rows), _TURNED):
        columns[:, begin : begin + _TURNED] = rows[begin : begin + _TURNED].T
    return columns


def texts_between(block: Block, start: Positions, end: Positions) -> pa.StringArray:
    """Copy the bytes between positions into an array of texts.

    Raises:
        ValueError: An end is before its beginning.
    """
    return _copied(block, (end << _HALF) + start) if len(start) else pa.array([], pa.string())


def _copied(block: Block, edges: Positions) -> pa.StringArray:
    if (edges >> _HALF < edges & _LOWER).any():  # Arrow would read outside its memory
        raise ValueError("a value that ends before it begins")
    # Values and the bytes between them alternate as texts; every other text is a value.
    sides = pa.StringArray.from_buffers(2 * len(edges) - 1, pa.py_buffer(edges), pa.py_buffer(block.data))
    return sides.take(_every_other(len(edges)))


def _copied_alike(block: Block, start: Positions, length: int) -> pa.StringArray:
    """Copy texts of one length, which NumPy does faster than Arrow."""
    everywhere = np.ndarray((len(block.data) - length + 1,), f"S{length}", block.data, strides=(1,))
    offsets = np.arange(0, length * len(start) + 1, length, dtype=np.int32)
    return pa.StringArray.from_buffers(len(start), pa.py_buffer(offsets), pa.py_buffer(everywhere[start]))


def _every_other(count: int) -> pa.Array:
    return _even_numbers(1 << count.bit_length()).slice(0, count)


@lru_cache
def _even_numbers(count: int) -> pa.Array:
    return pa.array(np.arange(0, 2 * count, 2, dtype=np.int32))


def validity(null: Mask | None) -> pa.Buffer | None:
    """Return the validity bits of an array."""
    return None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little"))


def require_utf8(data: Text) -> None:
    """Raise ValueError for bytes that are not text."""
    if not len(data) or np.frombuffer(data, np.uint8).max() < _NOT_ASCII:
        return
    whole = np.array([0, len(data)], np.int32)
    pa.StringArray.from_buffers(1, pa.py_buffer(whole), pa.py_buffer(data)).validate(full=True)

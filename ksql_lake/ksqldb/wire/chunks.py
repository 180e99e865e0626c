"""Split HTTP chunks with array operations, many at once."""

# Each chunk's size gives the beginning of the next one. The borders are guessed from the carriage returns, and
# used as far as every size matches its guess. Anything but a plain chunk is left to the slower reader.

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Piece = bytes | memoryview
"""Bytes as they were received."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_CUT_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_RETURN, _NEWLINE = b"\r\n"
_DIGITS = 7
"""The most digits of a size; Arrow's positions end at 2 GB."""
_NO_DIGIT = 255
_VALUES = np.full(256, _NO_DIGIT, np.uint8)
for _text in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _VALUES[list(_text)] = range(16)


def whole_chunks(wire: Piece) -> tuple[Piece, int]:
    """Return a copy of the data of the plain chunks at the beginning, and the position after the last one."""
    text = np.frombuffer(wire, np.uint8)
    returns = np.flatnonzero(text == _RETURN)
    count = len(returns) // 2
    if count and returns[2 * count - 1] + 1 == len(text):
        count -= 1
    if not count:
        return b"", 0
    lines, ends = returns[0 : 2 * count : 2], returns[1 : 2 * count : 2]
    edges = np.empty(2 * count, np.int32)
    starts = edges[0::2]
    np.add(lines, 2, out=starts, casting="same_kind")
    edges[1::2] = ends
    plain = (text[lines + 1] == _NEWLINE) & (text[ends + 1] == _NEWLINE) & (ends > starts)
    plain &= _sizes(text, lines, ends) == ends - starts
    if not plain.all():
        count = int(np.argmin(plain))
        if not count:
            return b"", 0
        edges = edges[: 2 * count]
    # Data and the framing up to the next chunk alternate as texts; every other text is data.
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(wire)]
    sides = pa.BinaryArray.from_buffers(pa.binary(), 2 * count - 1, buffers)
    data = sides.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32))).buffers()[2]
    return memoryview(data).cast("B"), int(edges[-1]) + 2


def _sizes(
    text: npt.NDArray[np.uint8], lines: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the number before each line's end; 0, which no plain chunk has, if there is none."""
    digits = lines.copy()
    digits[1:] -= ends[:-1] + 2
    sizes = np.zeros(len(lines), np.int64)
    proper = (digits > 0) & (digits <= _DIGITS)
    for place in range(min(int(digits.max()), _DIGITS)):
        inside = digits > place
        values = _VALUES.take(text.take(lines - (1 + place), mode="clip")).astype(np.int64)
        proper &= (values != _NO_DIGIT) | ~inside
        sizes += (values * inside) << (4 * place)
    return sizes * proper


def last_border(wire: Piece, begin: int) -> tuple[int, bool]:
    """Return the end of the last whole plain chunk from a size line on, and whether another may begin there."""
    while (line := _SIZE_LINE.match(wire, begin)) is not None:
        size = int(line[1], 16)
        end = line.end() + size + 2
        if not size or end > len(wire):
            return begin, bool(size)
        begin = end
    return begin, _CUT_SIZE_LINE.fullmatch(wire, begin) is not None

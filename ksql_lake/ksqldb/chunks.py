"""HTTP chunks taken apart with array operations: many at once, and without Python's lock.

A server that sends one chunk per row sends millions of them. Each chunk tells where the next one begins, so a
size line can only be trusted after the one before it: here the borders are guessed from the carriage returns,
and kept as far as every size fits its guess, which proves them from the first one on. It steps aside, and never
fails, where something else than a plain chunk stands: an extension, the last chunk, a carriage return in the
data, damage.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_CUT_SIZE_LINE = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_RETURN, _NEWLINE = b"\r\n"
_DIGITS = 7
"""Most digits of a size that is read here; Arrow's positions end at 2 GB."""
_NO_DIGIT = 255
_VALUES = np.full(256, _NO_DIGIT, np.uint8)
for _text in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _VALUES[list(_text)] = range(16)


def whole_chunks(wire: bytes, begin: int = 0) -> tuple[memoryview, int]:
    """Give the data of the plain chunks from a position on, and the position behind the last of them.

    Args:
        wire: Bytes as received.
        begin: Where a chunk's size line begins.
    """
    text = np.frombuffer(wire, np.uint8, offset=begin)
    returns = np.flatnonzero(text == _RETURN)
    count = len(returns) // 2
    if count and returns[2 * count - 1] + 1 == len(text):
        count -= 1
    if not count:
        return memoryview(b""), begin
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
            return memoryview(b""), begin
        edges = edges[: 2 * count]
    # Data and the framing up to the next chunk in turns are texts side by side; every other one is wanted.
    sides = pa.BinaryArray.from_buffers(
        pa.binary(), 2 * count - 1, [None, pa.py_buffer(edges), pa.py_buffer(memoryview(wire)[begin:])]
    )
    return memoryview(sides.take(_every_other(count)).buffers()[2]), begin + int(edges[-1]) + 2


def _sizes(
    text: npt.NDArray[np.uint8], lines: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Read the number before each line's end; 0, which is no plain chunk's, where there is none."""
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


def chunks_end(wire: bytes, begin: int) -> int | None:
    """Walk from a size line over chunks that need not all be there; give where the last one ends.

    That is before the end of the bytes if a size line is cut there, and None if something else than a plain
    chunk stands in the way.
    """
    while begin < len(wire):
        line = _SIZE_LINE.match(wire, begin)
        if line is None:
            return begin if _CUT_SIZE_LINE.fullmatch(wire, begin) else None
        size = int(line[1], 16)
        if not size:
            return None
        begin = line.end() + size + 2
    return begin


@lru_cache(maxsize=4)
def _even_numbers(count: int) -> pa.Array:
    return pa.array(np.arange(0, 2 * count, 2, dtype=np.int32))


def _every_other(count: int) -> pa.Array:
    return _even_numbers(1 << count.bit_length()).slice(0, count)

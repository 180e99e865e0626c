"""Where the values of plain rows begin and end, found with array operations over the bytes.

Takes a block of lines `{"row":{"columns":[...]}},` and proves, without parsing, that every line is such a frame
around the same number of values. The proof rests on two facts: a valid JSON string holds no raw control
character, and outside of strings every quotation mark, comma and line end is structure. Which commas are inside
of strings is only asked when there are more commas than values; whoever reads the values sees to it that every
mark is the first or the last byte of a value. It refuses blocks it cannot prove this of; that does not mean
they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.decode.brackets import Brackets
from ksql_lake.decode.spans import BACKSLASH, COMMA, NEWLINE, QUOTE, Block, Bytes, Mask, Positions

_START = b'{"row":{"columns":['
_END = b"]}}"
_SEAM = np.frombuffer(_END + b",\n" + _START, "<u8")  # 24 bytes: three words to compare at each line end
_FRAME_MARKS = _START.count(b'"')
_FROM_COMMA = len(_START) + 2  # from the comma at a row's end to the next row's first value
LEVEL = 3
"""How many brackets are open around a row's values."""
_LONGEST = 2**31 - 1024  # positions are 32 bits wide

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
"""What stands behind the backslash of an escape sequence, and what the sequence means."""
_STAND_INS = np.zeros(256, np.uint8)
_STAND_INS[ord("/")] = ord("/")
_GAP = 0x1F
_UNESCAPE = bytearray(range(256))
"""A translation table from the one-byte stand-ins of `without_escapes` to the characters they stand for."""
for _code, (_behind, _meant) in enumerate(_ESCAPES.items(), 1):
    _STAND_INS[ord(_behind)] = _code
    _UNESCAPE[_code] = ord(_meant)


def without_escapes(data: bytes) -> bytes:
    """Replace every escape sequence by a one-byte stand-in that valid JSON text cannot hold.

    Raises:
        ValueError: There are control characters already, or escapes by code point.
    """
    if BACKSLASH not in data:
        return data
    text = np.frombuffer(data, np.uint8).copy()
    if np.count_nonzero(text < ord(" ")) != np.count_nonzero(text == NEWLINE):
        raise ValueError("a raw control character")
    backslashes = np.flatnonzero(text == BACKSLASH)
    # In a run of backslashes every other one begins a sequence.
    number = np.arange(len(backslashes))
    begins_run = np.diff(backslashes, prepend=-2) != 1
    place = number - np.maximum.accumulate(np.where(begins_run, number, 0))
    sequences = backslashes[place % 2 == 0]
    if sequences[-1] == len(text) - 1:
        raise ValueError("an escape that is cut")
    codes = _STAND_INS[text[sequences + 1]]
    if not codes.all():
        raise ValueError("an escape that has no stand-in")
    text[sequences] = codes
    text[sequences + 1] = _GAP
    return text.tobytes().replace(bytes((_GAP,)), b"")


def with_escapes(texts: pa.StringArray) -> pa.StringArray:
    """Put the characters meant by the stand-ins of `without_escapes` into their places."""
    valid, offsets, data = texts.buffers()
    if data is None or (np.frombuffer(data, np.uint8) >= ord(" ")).all():
        return texts
    meant = pa.py_buffer(data.to_pybytes().translate(_UNESCAPE))
    return pa.StringArray.from_buffers(len(texts), offsets, meant, valid, offset=texts.offset)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values of a block lie.

    Attributes:
        block: The bytes.
        start: Position of each value's first byte, column by column.
        end: Position after each value's last byte.
        quotes: How many quotation marks the values have.
        brackets: What is inside of them, where nested values were asked for.
    """

    block: Block
    start: Positions
    end: Positions
    quotes: int
    brackets: Brackets | None = None


def layout(data: bytes, columns: int, *, escaped: bool, nested: bool) -> Layout:
    """Find the values of a block without escapes.

    Args:
        data: The lines; neither a comma nor a newline at the end.
        columns: How many values each row must have.
        escaped: Whether control characters are stand-ins of `without_escapes`; else there must be none.
        nested: Whether there may be brackets in the values.

    Raises:
        ValueError: The block is not plainly made of such rows.
    """
    if not data.startswith(_START) or not data.endswith(_END) or len(data) > _LONGEST:
        raise ValueError("not a plain frame")
    block = Block(data, escaped=escaped)
    found = block.text == NEWLINE if escaped else block.text < ord(" ")
    rows = int(np.count_nonzero(found)) + 1
    np.equal(block.text, QUOTE, out=found)
    quotes = int(np.count_nonzero(found)) - _FRAME_MARKS * rows
    if nested:
        brackets = Brackets(block, inside_strings(found))
        marks = brackets.level(LEVEL)
        if len(marks.opens) != rows or (marks.closes - marks.opens != columns).any():
            raise ValueError("rows of different lengths")
        place = np.ascontiguousarray(marks.place.reshape(rows, columns + 1).T)
        _require_frames(block, place[-1])
        if (place[0, 1:] - place[-1, :-1] != _FROM_COMMA + len(_END) - 1).any():
            raise ValueError("not a plain frame")
        return Layout(block, place[:-1] + 1, place[1:], quotes, brackets)
    commas = _commas(block.text, found, rows, columns)
    start = np.empty_like(commas)
    np.add(commas[:-1], 1, out=start[1:])
    np.add(commas[-1, :-1], _FROM_COMMA, out=start[0, 1:])
    start[0, 0] = len(_START)
    commas[-1] -= len(_END)
    _require_frames(block, commas[-1])
    return Layout(block, start, commas, quotes)


def _commas(text: Bytes, marks: Mask, rows: int, columns: int) -> Positions:
    """Find the comma after each value, column by column; at a row's end it is the frame's.

    Args:
        text: The block.
        marks: Where its quotation marks are.
        rows: How many rows there are.
        columns: How many values each row must have.
    """
    expected = rows * columns - 1  # none stands behind the last row
    found = text == COMMA
    if np.count_nonzero(found) != expected:
        found &= ~inside_strings(marks)
        if np.count_nonzero(found) != expected:
            raise ValueError("rows of different lengths, or a string without end")
    places = np.empty(expected + 1, np.int64)
    places[:-1] = np.flatnonzero(found)
    places[-1] = len(text)
    return np.ascontiguousarray(places.reshape(rows, columns).T)


def inside_strings(marks: Mask) -> Mask:
    """Tell which bytes are inside of a string; the opening mark is, the closing one is not.

    Args:
        marks: Where the quotation marks are.
    """
    packed = np.packbits(marks, bitorder="little")
    words = np.zeros(-(-len(packed) // 8), np.uint64)
    words.view(np.uint8)[: len(packed)] = packed
    return np.unpackbits(_odd(words).view(np.uint8), count=len(marks), bitorder="little").view(np.bool_)


def _require_frames(block: Block, ends: Positions) -> None:
    """Check what stands between the rows, given where the values of each end."""
    for number, word in enumerate(_SEAM):
        if (block.longs[ends[:-1] + 8 * number] != word).any():
            raise ValueError("not a plain frame")


def _odd(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Set each bit to the parity of the number of set bits up to and including it."""
    parity = bits.copy()
    shifted = np.empty_like(parity)
    for distance in (1, 2, 4, 8, 16, 32):
        np.left_shift(parity, np.uint64(distance), out=shifted)
        np.bitwise_xor(parity, shifted, out=parity)
    carry = np.bitwise_xor.accumulate((parity >> np.uint64(63)).astype(np.uint8))
    parity[1:] ^= np.uint64(0) - carry[:-1].astype(np.uint64)
    return parity

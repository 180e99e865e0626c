"""Where the values of plain rows begin and end, found with array operations over the bytes.

Takes a block of lines `{"row":{"columns":[...]}},` and proves, without parsing, that every line is such a frame
around the same number of values. The proof rests on two facts: a valid JSON string holds no raw control
character, and outside of strings every quotation mark, comma and line end is structure. It refuses blocks it
cannot prove this of; that does not mean they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_START = b'{"row":{"columns":['
_END = b"]}}"
_SEAM = np.frombuffer(_END + b",\n" + _START, "<u8")  # 24 bytes: three words to compare at each line end
_FRAME_MARKS = _START.count(b'"')
_PADDING = 64  # whole words of bits, and room to look beyond the end

QUOTE, COMMA, NEWLINE, BACKSLASH, BRACE = b'",\n\\}'

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
"""What stands behind the backslash of an escape sequence, and what the sequence means."""
_STAND_INS = np.zeros(256, np.uint8)
_STAND_INS[ord("/")] = ord("/")
_GAP = 0x1F
UNESCAPE = bytearray(range(256))
"""A translation table from the one-byte stand-ins of `without_escapes` to the characters they stand for."""
for _code, (_behind, _meant) in enumerate(_ESCAPES.items(), 1):
    _STAND_INS[ord(_behind)] = _code
    UNESCAPE[_code] = ord(_meant)


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes of a block and where its values are.

    Attributes:
        text: The block with each frame turned into one more value before and one after the row's own.
        size: How many bytes of `text` count; the rest is padding.
        starts: Position of each value's first byte, one array per column.
        ends: Position after each value's last byte.
        inside: Whether a byte is inside a string (1) or not (0); the opening mark is, the closing one is not.
        quotes: How many quotation marks the values have.
    """

    text: Bytes
    size: int
    starts: Positions
    ends: Positions
    inside: Bytes
    quotes: int


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


def layout(data: bytes, columns: int, *, controls: bool) -> Layout:
    """Find the values of a block without escapes.

    Args:
        data: The lines; neither a comma nor a newline at the end.
        columns: How many values each row must have.
        controls: Whether control characters are stand-ins of `without_escapes`; else there must be none.

    Raises:
        ValueError: The block is not plainly made of such rows.
    """
    size = len(data)
    text = np.zeros((size + len(_SEAM) * 8 + _PADDING) // _PADDING * _PADDING, np.uint8)
    text[:size] = np.frombuffer(data, np.uint8)
    text[size] = COMMA
    mark = text == QUOTE
    odd = _odd(np.packbits(mark, bitorder="little").view("<u8"))
    inside = np.unpackbits(odd.view(np.uint8), bitorder="little")
    # Outside of strings: a comma after each value but the last, and one after each frame.
    commas = np.flatnonzero((text == COMMA).view(np.uint8) > inside)
    rows, rest = divmod(len(commas), columns)
    if rest or not rows or commas[-1] != size or not data.startswith(_START):
        raise ValueError("rows of different lengths, or a string without end")
    table = np.ascontiguousarray(commas.reshape(rows, columns).T)
    newlines = table[-1] + 1
    text[size + 1] = NEWLINE
    _cut_frames(text, newlines)
    breaks = text[: size + 2] == NEWLINE if controls else text[: size + 2] < ord(" ")
    if np.count_nonzero(breaks) != rows:
        raise ValueError("a raw control character")
    starts = np.empty_like(table)
    np.add(table[:-1], 1, out=starts[1:])
    np.add(newlines[:-1], 1 + len(_START), out=starts[0, 1:])
    starts[0, 0] = len(_START)
    table[-1] -= len(_END)
    marks = int(np.count_nonzero(mark)) - _FRAME_MARKS * rows
    return Layout(text, size + 2, starts, table, inside, marks)


def _cut_frames(text: Bytes, newlines: Positions) -> None:
    """Check the frame of every line, and make each a value of its own before and after the row's."""
    ends = newlines - 1 - len(_END)
    if text[ends[-1] : newlines[-1] - 1].tobytes() != _END:
        raise ValueError("not a plain frame")
    words = np.ndarray((len(text) - 7,), "<u8", text.data, strides=(1,))
    for number, word in enumerate(_SEAM):
        if (words[ends[:-1] + 8 * number] != word).any():
            raise ValueError("not a plain frame")
    # `...]}},` and `{"row":{"columns":[...` become `...,}}}` and `{"row":{"columns":,...`
    text[ends] = COMMA
    text[newlines - 1] = BRACE
    text[newlines[:-1] + len(_START)] = COMMA
    text[len(_START) - 1] = COMMA


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

"""Find where the values of plain rows begin and end, with array operations over the bytes."""

# The proof uses two facts: a valid JSON string holds no raw control character, and outside strings every
# quotation mark, comma and line end is structure. Whether a comma is inside a string is checked only if there
# are more commas than values. A block that is refused here may still be right.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.decode.brackets import Brackets
from ksql_lake.decode.spans import BACKSLASH, COMMA, NEWLINE, QUOTE, Block, Bytes, Mask, Positions, Spans, Text

_START = b'{"row":{"columns":['
_END = b"]}}"
_SEAM = np.frombuffer(_END + b",\n" + _START, "<u8")  # 24 bytes: three words to compare at each line end
_TO_BREAK = len(_END) + 1
_FRAME_MARKS = _START.count(b'"')
_FROM_COMMA = len(_START) + 2  # from the comma at a row's end to the next row's first value
LEVEL = 3
"""How many brackets are open around a row's values."""
_WRAPPER = int.from_bytes(b'{"V"', "little")
_NULL = int.from_bytes(b"null", "little")
_COLON, _CLOSE = b":}"
_LONGEST = 2**31 - 1024  # positions are 32 bits wide

_ESCAPES = {"\\": "\\", '"': '"', "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
"""The character after the backslash of an escape sequence -> the character that it means."""
_STAND_INS = np.zeros(256, np.uint8)
_STAND_INS[ord("/")] = ord("/")
_GAP = 0x1F
_UNESCAPE = bytearray(range(256))
"""A translation table from the one-byte stand-ins of `without_escapes` to the characters that they mean."""
for _code, (_behind, _meant) in enumerate(_ESCAPES.items(), 1):
    _STAND_INS[ord(_behind)] = _code
    _UNESCAPE[_code] = ord(_meant)


def without_escapes(data: Text) -> Text:
    """Replace every escape sequence by a one-byte stand-in that valid JSON text cannot hold.

    Raises:
        ValueError: There are control characters already, or escapes by code point.
    """
    text = np.frombuffer(data, np.uint8)
    if not (text == BACKSLASH).any():
        return data
    text = text.copy()
    if np.count_nonzero(text < ord(" ")) != np.count_nonzero(text == NEWLINE):
        raise ValueError("a raw control character")
    backslashes = np.flatnonzero(text == BACKSLASH)
    # In a run of backslashes every other one begins an escape sequence.
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
    """Replace the stand-ins of `without_escapes` by the characters that they mean."""
    valid, offsets, data = texts.buffers()
    if data is None or (np.frombuffer(data, np.uint8) >= ord(" ")).all():
        return texts
    meant = pa.py_buffer(data.to_pybytes().translate(_UNESCAPE))
    return pa.StringArray.from_buffers(len(texts), offsets, meant, valid, offset=texts.offset)


@dataclass(frozen=True, slots=True)
class Layout:
    """The positions of the values of a block.

    Attributes:
        spans: The values; of wrapped ones the inside of the wrapper.
        quotes: How many quotation marks they have.
        brackets: Their brackets, if nested values are allowed.
        unwrapped: Per wrapped column, which values have a wrapper; the others are null.
    """

    spans: Spans
    quotes: int
    brackets: Brackets | None = None
    unwrapped: Mask | None = None


def layout(
    data: Text,
    columns: int,
    *,
    nested: bool,
    escaped: bool = False,
    breaks: Positions | None = None,
    wrapped: Sequence[int] = (),
) -> Layout:
    """Find the values of a block without escapes.

    Args:
        data: The lines; neither a comma nor a newline at the end.
        columns: How many values each row must have.
        nested: Whether there may be brackets in the values.
        escaped: Whether control characters are stand-ins of `without_escapes`; else there must be none.
        breaks: Positions of the newlines, if they are proven to be the only control characters, each inside a
            seam.
        wrapped: Columns whose values are each in a STRUCT of one field, `V`.

    Raises:
        ValueError: The block is not certainly made of such rows.
    """
    if data[: len(_START)] != _START or data[-len(_END) :] != _END or len(data) > _LONGEST:
        raise ValueError("not a plain frame")
    block = Block(data, escaped=escaped)
    if breaks is None:
        rows = 1 + int(np.count_nonzero(block.text == NEWLINE if escaped else block.text < ord(" ")))
    else:
        rows = 1 + len(breaks)
    found = block.text == QUOTE
    quotes = int(np.count_nonzero(found)) - _FRAME_MARKS * rows
    brackets = Brackets(block, inside_strings(found)) if nested else None
    start, end = (
        _in_brackets(brackets, rows, columns) if brackets else _in_commas(block.text, found, rows, columns)
    )
    _require_seams(block, start[1:, 0], end[:-1, -1], breaks)
    unwrapped = _unwrap(block, start, end, list(wrapped)) if wrapped else None
    if unwrapped is not None:
        quotes -= 2 * int(np.count_nonzero(unwrapped))
    return Layout(Spans.of_rows(block, start, end), quotes, brackets, unwrapped)


def _unwrap(block: Block, start: Positions, end: Positions, wrapped: list[int]) -> Mask:
    """Move the ends of wrapped values inside their wrappers, and return which have one; null stays."""
    begin, last = start[:, wrapped], end[:, wrapped] - 1
    words = block.words[begin]
    inside: Mask = words == _WRAPPER
    wrapped_up = inside & (block.text[begin + 4] == _COLON) & (block.text[last] == _CLOSE)
    if not (wrapped_up | (words == _NULL) & (last - begin == len("null") - 1)).all():
        raise ValueError("a value without its wrapper")
    start[:, wrapped] = begin + len('{"V":') * inside
    end[:, wrapped] = last + 1 - inside
    return inside


def _in_brackets(brackets: Brackets, rows: int, columns: int) -> tuple[Positions, Positions]:
    """Return the starts and ends of each row's values, which may have brackets in them."""
    marks = brackets.level(LEVEL)
    if len(marks.opens) != rows or (marks.closes - marks.opens != columns).any():
        raise ValueError("rows of different lengths")
    place = marks.place.reshape(rows, columns + 1)
    return place[:, :-1] + 1, place[:, 1:]


def _in_commas(text: Bytes, marks: Mask, rows: int, columns: int) -> tuple[Positions, Positions]:
    """Return the starts and ends of each row's values, which have no brackets in them.

    Args:
        text: The block.
        marks: Which of its bytes are quotation marks.
        rows: How many rows there are.
        columns: How many values each row must have.
    """
    found = np.ones(len(text) + 1, np.bool_)  # as if a comma followed the last row too
    np.equal(text, COMMA, out=found[:-1])
    commas = np.flatnonzero(found)
    if len(commas) != rows * columns:
        found[:-1] &= ~inside_strings(marks)
        commas = np.flatnonzero(found)
        if len(commas) != rows * columns:
            raise ValueError("rows of different lengths, or a string without end")
    end = commas.reshape(rows, columns)
    start = np.empty_like(end)
    np.add(commas[:-1], 1, out=start.reshape(-1)[1:])
    # The comma after a row's last value is the one after its frame.
    start[1:, 0] += _FROM_COMMA - 1
    start[0, 0] = len(_START)
    end[:, -1] -= len(_END)
    return start, end


def inside_strings(marks: Mask) -> Mask:
    """Return which bytes are inside a string; the opening mark counts, the closing one does not.

    Args:
        marks: Which bytes are quotation marks.
    """
    packed = np.packbits(marks, bitorder="little")
    words = np.zeros(-(-len(packed) // 8), np.uint64)
    words.view(np.uint8)[: len(packed)] = packed
    return np.unpackbits(_odd(words).view(np.uint8), count=len(marks), bitorder="little").view(np.bool_)


def _require_seams(block: Block, start: Positions, end: Positions, breaks: Positions | None) -> None:
    """Check the bytes between rows, given the ends of all but the last and the starts of all but the first."""
    if (start - end != 8 * len(_SEAM)).any():
        raise ValueError("not a plain frame")
    if breaks is not None:
        proven = bool((end + _TO_BREAK == breaks).all())
    else:
        proven = all((block.longs[end + 8 * number] == word).all() for number, word in enumerate(_SEAM))
    if not proven:
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

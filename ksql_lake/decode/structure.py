"""Where the values of plain rows begin and end, found with array operations over the bytes.

Takes a block of lines `{"row":{"columns":[...]}},` and proves, without parsing, that every line is such a frame
around the same number of values. The proof rests on two facts: a valid JSON string holds no raw control
character, and outside of strings every quotation mark, comma and line end is structure. Which commas are inside
of strings is only asked when there are more commas than values; `proof` sees to it that every mark is the first
or the last byte of a value. It refuses blocks it cannot prove this of; that does not mean they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_START = b'{"row":{"columns":['
_END = b"]}}"
_SEAM = np.frombuffer(_END + b",\n" + _START, "<u8")  # 24 bytes: three words to compare at each line end
_FRAME_MARKS = _START.count(b'"')
_PADDING = 64  # whole words of bits, and room to look beyond the end
_FROM_COMMA = len(_START) + 2  # from the comma at a row's end to the next row's first value

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


class Workspace:
    """Arrays that are used anew for every block, because fresh memory costs as much as the work done in it."""

    def __init__(self) -> None:
        self._bytes: dict[str, Bytes] = {}

    def bytes(self, name: str, size: int) -> Bytes:
        """Give an array of that name and size, its content whatever it was."""
        known = self._bytes.get(name)
        if known is None or len(known) < size:
            known = self._bytes[name] = np.zeros(size + size // 4, np.uint8)
        return known[:size]

    def mask(self, name: str, size: int) -> Mask:
        """The same for truth values."""
        return self.bytes(name, size).view(np.bool_)


@dataclass(frozen=True, slots=True)
class Fields:
    """One column's values as bytes: where they are, what they begin and end with.

    Attributes:
        text: The block.
        before: Position of the comma before each value.
        after: Position of the comma after each value.
        lead: How many bytes lie between the comma before and the value, the comma included.
        trail: How many bytes lie between the value and the comma after.
        first: The first byte of each value.
        last: The last byte of each value.
    """

    text: Bytes
    before: Positions
    after: Positions
    lead: int
    trail: int
    first: Bytes
    last: Bytes

    @property
    def start(self) -> Positions:
        """Position of each value's first byte."""
        return self.before + self.lead

    @property
    def end(self) -> Positions:
        """Position after each value's last byte."""
        return self.after - self.trail

    @property
    def length(self) -> Positions:
        """How many bytes each value has."""
        return self.after - self.before - (self.lead + self.trail)


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes of a block and where its values are.

    Attributes:
        text: The block with each frame turned into one more value before the row's own; a padding follows.
        size: How many bytes of `text` count.
        rows: How many rows there are.
        columns: The values, column by column.
        quotes: How many quotation marks the values have.
    """

    text: Bytes
    size: int
    rows: int
    columns: list[Fields]
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


def layout(data: bytes, columns: int, *, controls: bool, space: Workspace) -> Layout:
    """Find the values of a block without escapes.

    Args:
        data: The lines; neither a comma nor a newline at the end.
        columns: How many values each row must have.
        controls: Whether control characters are stand-ins of `without_escapes`; else there must be none.
        space: What the result lives in; it is good until the next use.

    Raises:
        ValueError: The block is not plainly made of such rows.
    """
    size = len(data)
    if not data.startswith(_START) or not data.endswith(_END):
        raise ValueError("not a plain frame")
    whole = space.bytes("text", size + 4 * _PADDING)
    text = whole[1:]  # so that there is a byte before the first one
    text[:size] = np.frombuffer(data, np.uint8)
    text[size:] = 0
    text[size] = COMMA
    found = space.mask("found", size + 1)
    np.less(text[: size + 1], ord(" "), out=found)
    if controls:
        np.equal(text[: size + 1], NEWLINE, out=found)
    rows = int(np.count_nonzero(found)) + 1
    np.equal(text[: size + 1], QUOTE, out=found)
    marks = int(np.count_nonzero(found))
    commas = _commas(text, size, rows * columns, space)
    ends = commas[columns - 1 :: columns]
    _cut_frames(text, ends)
    firsts = text[1:].take(commas, mode="clip", out=space.bytes("first", len(commas)))
    lasts = whole.take(commas, mode="clip", out=space.bytes("last", len(commas)))
    return Layout(
        text=text,
        size=size - len(_END) + 1,
        rows=rows,
        columns=_fields(text, commas.reshape(rows, columns), firsts, lasts),
        quotes=marks - _FRAME_MARKS * rows,
    )


def _commas(text: Bytes, size: int, expected: int, space: Workspace) -> Positions:
    """Find the comma after each value: those between values, and the one of the frame at each row's end."""
    found = space.mask("found", size + 1)
    np.equal(text[: size + 1], COMMA, out=found)
    if np.count_nonzero(found) != expected:
        np.greater(found.view(np.uint8), inside_strings(text, size + 1), out=found.view(np.bool_))
        if np.count_nonzero(found) != expected:
            raise ValueError("rows of different lengths, or a string without end")
    return np.flatnonzero(found)


def inside_strings(text: Bytes, size: int) -> Bytes:
    """Tell which bytes are inside of a string (1) or not (0); the opening mark is, the closing one is not."""
    padded = -(-size // _PADDING) * _PADDING
    odd = _odd(np.packbits(text[:padded] == QUOTE, bitorder="little").view("<u8"))
    return np.unpackbits(odd.view(np.uint8), bitorder="little")[:size]


def _fields(text: Bytes, commas: Positions, firsts: Bytes, lasts: Bytes) -> list[Fields]:
    rows, columns = commas.shape
    first, last = (np.ascontiguousarray(codes.reshape(commas.shape).T) for codes in (firsts, lasts))
    ends = commas[:, -1]
    before = np.empty(rows, np.int64)  # of the first column: the end of the row before
    before[0] = len(_START) - _FROM_COMMA
    before[1:] = ends[:-1]
    opening = text.take(before + _FROM_COMMA, mode="clip")
    closing = text.take(ends - (len(_END) + 1), mode="clip")
    return [
        Fields(
            text=text,
            before=commas[:, number - 1] if number else before,
            after=commas[:, number],
            lead=1 if number else _FROM_COMMA,
            trail=len(_END) if number == columns - 1 else 0,
            first=first[number - 1] if number else opening,
            last=closing if number == columns - 1 else last[number],
        )
        for number in range(columns)
    ]


def _cut_frames(text: Bytes, commas: Positions) -> None:
    """Check the frame of every line, and make it one value of its own before the next row's.

    Args:
        text: The block.
        commas: Position of the comma after each line.
    """
    ends = commas - len(_END)
    if text[ends[-1] : commas[-1]].tobytes() != _END:
        raise ValueError("not a plain frame")
    words = np.ndarray((len(text) - 7,), "<u8", text.data, strides=(1,))
    for number, word in enumerate(_SEAM):
        if (words[ends[:-1] + 8 * number] != word).any():
            raise ValueError("not a plain frame")
    # `...]}},` `{"row":{"columns":[...` on two lines becomes `...` `}}}}{"row":{"columns":,...`
    text[ends] = NEWLINE
    text[commas] = BRACE
    text[commas[:-1] + 1] = BRACE
    text[commas[:-1] + (_FROM_COMMA - 1)] = COMMA
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

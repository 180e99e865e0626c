"""Find the matching brackets and commas of a block with array operations over its bytes."""

# Every mark has a level: the number of brackets open around it, its own pair included. At one level the marks
# of a pair are neighbours, so one array holds all pairs of a level. The bytes between the marks are not checked
# here.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ksql_lake.decode.spans import COMMA, Block, Bytes, Mask, Positions

OPEN, CLOSE, LIST = b"{}["
_SPACE = 0x20  # the bit that turns a square bracket into a curly one


@dataclass(frozen=True, slots=True)
class Level:
    """The marks of all pairs of brackets that are nested equally deep.

    Attributes:
        place: Position of each mark in the block.
        opens: Which of the marks open a pair; the commas of the pair follow it.
        closes: Which of the marks close a pair, in the order of `opens`.
    """

    place: Positions
    opens: Positions
    closes: Positions


class Brackets:
    """The brackets and commas of a block.

    Args:
        block: The bytes.
        inside: Which bytes are inside strings.

    Raises:
        ValueError: The brackets do not close, or close before they open.
    """

    def __init__(self, block: Block, inside: Mask) -> None:
        self._block = block
        curly: Bytes = block.text | np.uint8(_SPACE)
        found = curly == OPEN
        found |= curly == CLOSE
        found |= block.text == COMMA
        found &= ~inside
        self._place = np.flatnonzero(found)
        self._code: Bytes = curly[self._place]
        closing = (self._code == CLOSE).view(np.int8)
        # The level changes by one per mark, so an overflow of the byte shows as a negative level.
        depth = np.cumsum((self._code == OPEN).view(np.int8) - closing, dtype=np.int8)
        if not len(depth) or depth[-1] != 0 or depth.min() < 0:
            raise ValueError("brackets that do not close")
        self._level = depth + closing
        self._known: dict[int, Level] = {}

    def level(self, number: int) -> Level:
        """Return the marks of one level, counted from 1."""
        if number not in self._known:
            marks = np.flatnonzero(self._level == number)
            place, code = self._place[marks], self._code[marks]
            opens, closes = np.flatnonzero(code == OPEN), np.flatnonzero(code == CLOSE)
            self._known[number] = Level(place, opens, closes)
        return self._known[number]

    def pairs(self, number: int, start: Positions, end: Positions, opening: int) -> Level:
        """Return the marks of a level, with only those pairs that are exactly the given values.

        Args:
            number: The level.
            start: Position of each value's first byte, in ascending order.
            end: Position after each value's last byte.
            opening: The opening bracket that each value must have.

        Raises:
            ValueError: A value is not exactly one pair of such brackets at that level.
        """
        level, text = self.level(number), self._block.text
        # The codes of a closing and an opening bracket differ by two, for curly and square ones alike.
        if (text[start] != opening).any() or (text[end - 1] != opening + 2).any():
            raise ValueError("a nested value of another kind")
        which = np.searchsorted(level.place[level.opens], start)
        if len(which) and which[-1] >= len(level.opens):
            raise ValueError("a bracket of another level")
        opens, closes = level.opens[which], level.closes[which]
        if (level.place[opens] != start).any() or (level.place[closes] != end - 1).any():
            raise ValueError("a bracket that does not end its value")
        return Level(level.place, opens, closes)

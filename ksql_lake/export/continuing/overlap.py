"""Prove that a continued query begins where the last one ended: the record before the mark must come again.

Pure.
"""

# A token states how many records a batch has per partition, not which row is whose. So the hashes of all rows
# that may be a partition's last record are kept, and as many of them must come again as partitions sent
# something.

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ksql_lake.ksqldb.tokens import Span
from ksql_lake.lake.commit.continued import SinkMark

Hashes = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_UNSENT = "not sent are records with a NULL key or value, markers of transactions, and what Kafka deleted"
_SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


class BrokenBatchError(Exception):
    """The rows of a batch disagree with its token, so the batch does not count."""


class OverlapError(Exception):
    """The record before a mark did not come again: the mark is of another log, or of a deleted part of it."""


def row_hashes(partitions: Numbers, offsets: Numbers, times: Numbers) -> Hashes:
    """Return a hash for each row, of its place in the source and its time."""
    mixed = np.zeros(len(offsets), np.uint64)
    with np.errstate(over="ignore"):
        for values, seed in zip((partitions, offsets, times), _SEEDS, strict=True):
            mixed = (mixed ^ values.astype(np.uint64)) * np.uint64(seed)
            mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


class _Group:
    """Rows that include the last records of some partitions."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.left = Counter[int]()
        self.found = 0


class SinkRows:
    """Follows the partitions of the derived stream's topic over one reading.

    Args:
        marks: Where the last reading ended, per partition.
        groups: Hashes of rows, as `Continued.groups` holds them.
    """

    def __init__(self, marks: Sequence[SinkMark], groups: Sequence[str]) -> None:
        held = [_Group(np.frombuffer(base64.b64decode(text), np.uint32)) for text in groups]
        self._next = [mark.next for mark in marks]
        self._group = [held[mark.group] if mark.group >= 0 else None for mark in marks]
        self._begun: list[int] = []
        self._asked: list[_Group | None] = []
        self._at: list[int] = []

    def begin(self) -> list[int]:
        """Start a query over at the last good token; return the offsets to ask for."""
        self._asked = [
            group if position > 0 else None for group, position in zip(self._group, self._next, strict=True)
        ]
        for group in {id(group): group for group in self._asked if group is not None}.values():
            group.left, group.found = Counter(group.hashes.tolist()), 0
        self._begun = [
            position - (group is not None) for group, position in zip(self._asked, self._next, strict=True)
        ]
        self._at = list(self._begun)
        return list(self._begun)

    def check(self, span: Span, rows: int) -> None:
        """Compare a batch with its token and the token before.

        Raises:
            BrokenBatchError: They do not fit together.
        """
        if len(span.start) != len(self._at):
            raise BrokenBatchError(f"a token is of {len(span.start)} partitions, not {len(self._at)}")
        if list(span.start) != self._at:
            raise BrokenBatchError(
                f"a batch begins at {list(span.start)}, and the one before ended at {self._at}"
            )
        if span.records != rows:
            what = f"a batch of {span.records:,} records came with {rows:,} rows"
            raise BrokenBatchError(f"{what} ({_UNSENT})" if rows < span.records else what)
        self._at = list(span.end)

    def take(self, span: Span, hashes: Hashes, nowhere: Flags) -> Flags:
        """Return which rows of a checked batch are the records before the marks.

        Args:
            span: The batch's token.
            hashes: The batch's rows.
            nowhere: Which rows have no offset of the source, so that only this shows whether they are known.

        Raises:
            OverlapError: The records did not come, or a row may or may not be one of them.
        """
        again = np.zeros(len(hashes), np.bool_)
        for group in self._waiting(span):
            begun = [
                number
                for number, other in enumerate(self._asked)
                if other is group and span.end[number] > self._begun[number]
            ]
            for row in np.flatnonzero(np.isin(hashes, group.hashes)).tolist():
                number = int(hashes[row])
                if group.found < len(begun) and group.left[number] > 0:
                    group.left[number] -= 1
                    group.found += 1
                    again[row] = True
            if group.found < len(begun):
                raise OverlapError(
                    f"the record before the mark did not come again in one of the partitions {begun[:8]} of "
                    "the derived stream's topic"
                )
        if any(self._known(number) for number in hashes[nowhere & ~again].tolist()):
            raise OverlapError(
                "a row without an offset of the source came that may be one of those before the marks"
            )
        self._move(span, hashes)
        return again

    @property
    def satisfied(self) -> bool:
        """Whether the record before every mark has come again."""
        return all(
            group is None or at > begun
            for group, at, begun in zip(self._asked, self._at, self._begun, strict=True)
        )

    @property
    def marks(self) -> tuple[list[SinkMark], list[str]]:
        """Where the next reading has to begin."""
        kept = {id(group): group for group in self._group if group is not None}
        places = {key: place for place, key in enumerate(kept)}
        groups = [base64.b64encode(group.hashes.tobytes()).decode() for group in kept.values()]
        pairs = zip(self._next, self._group, strict=True)
        return [SinkMark(at, -1 if group is None else places[id(group)]) for at, group in pairs], groups

    def _known(self, number: int) -> bool:
        """Whether a row may be one of those that include the records before the marks."""
        return any(group is not None and group.left[number] > 0 for group in self._asked)

    def _waiting(self, span: Span) -> list[_Group]:
        """Return the groups of which a partition sends its first record with this batch."""
        found = {
            id(group): group
            for number, group in enumerate(self._asked)
            if group is not None and span.start[number] == self._begun[number] < span.end[number]
        }
        return list(found.values())

    def _move(self, span: Span, hashes: Hashes) -> None:
        beyond = [number for number in span.moved if span.end[number] > self._next[number]]
        # The rows of one partition come in its order, so that the last of them is its last record.
        group = _Group(hashes[-1:] if len(span.moved) == 1 else hashes)
        for number in beyond:
            self._group[number] = group
        self._next = [max(known, end) for known, end in zip(self._next, span.end, strict=True)]

"""The known rows of the source: per partition a prefix without gaps, and the offsets known beyond it. Pure."""

# A derived stream repartitions the rows, so rows of one partition of the source arrive in any order.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from ksql_lake.errors import ProtocolError, TopicRecreatedError
from ksql_lake.ksqldb.offsets import LogOffsets
from ksql_lake.lake.commit.continued import Gap, SourceMark

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_MOST_AHEAD = 1 << 31
"""How far beyond its prefix a row of a partition may be: a byte of memory each."""


_NOTHING = SourceMark(0, 0)


class _Partition:
    """One partition; `bits` holds whether each offset from `next` on is known."""

    def __init__(self, mark: SourceMark) -> None:
        self.start = mark.start
        self.next = mark.next
        self.last, self.time = mark.last, mark.time
        self.bits: Flags = np.zeros(0, np.bool_)
        for first, end in mark.ahead:
            self._room(end)
            self.bits[first - self.next : end - self.next] = True

    def take(self, offsets: Numbers, times: Numbers) -> Flags:
        """Return which rows were not known, each offset once, and mark them as known."""
        fresh = offsets >= self.next
        ahead = offsets[fresh] - self.next
        if ahead.size:
            self._room(int(ahead.max()) + 1 + self.next)
            new = ~self.bits[ahead]
            first = np.zeros(len(ahead), np.bool_)
            first[np.unique(ahead, return_index=True)[1]] = True
            fresh[np.flatnonzero(fresh)] = new & first
            self.bits[ahead] = True
            self._advance()
        highest = int(np.argmax(offsets))
        if offsets[highest] > self.last:
            self.last, self.time = int(offsets[highest]), int(times[highest])
        return fresh

    def missing(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges below `end` that are not known."""
        if end <= self.next:
            return
        bits = np.ones(end - self.next, np.bool_)
        inside = min(len(self.bits), len(bits))
        bits[:inside] = ~self.bits[:inside]
        yield from self._runs(bits)

    def fill(self, first: int, end: int) -> None:
        """Mark offsets as known."""
        self._room(end)
        self.bits[first - self.next : end - self.next] = True
        self._advance()

    @property
    def mark(self) -> SourceMark:
        return SourceMark(self.start, self.next, self.last, self.time, list(self._runs(self.bits)))

    def _runs(self, bits: Flags) -> Iterator[tuple[int, int]]:
        """Yield the ranges of offsets whose bits are set."""
        steps = np.diff(bits.view(np.int8), prepend=np.int8(0), append=np.int8(0))
        for first, end in zip(
            np.flatnonzero(steps > 0).tolist(), np.flatnonzero(steps < 0).tolist(), strict=True
        ):
            yield self.next + first, self.next + end

    def _room(self, end: int) -> None:
        wanted = end - self.next
        if wanted > len(self.bits):
            # Twice as much as is needed, so that growing row by row stays cheap.
            grown = np.zeros(max(wanted, 2 * len(self.bits)), np.bool_)
            grown[: len(self.bits)] = self.bits
            self.bits = grown

    def _advance(self) -> None:
        if len(self.bits) and self.bits[0]:
            known = len(self.bits) if self.bits.all() else int(np.argmin(self.bits))
            self.next += known
            self.bits = self.bits[known:].copy() if known > len(self.bits) // 2 else self.bits[known:]


class SourceRows:
    """Follows the rows of one source.

    Args:
        marks: What was known before, by partition.
        ends: Where the source's partitions begin and end.
        before: What an earlier reading knew whose marks are not used; the source is recognised by it.
        gaps: Offsets accepted as never to come.

    Attributes:
        gaps: The gaps given, without offsets that came after all.
        going_on: Whether this reading begins at the marks.
        doubtful: A gap of which an offset came that the lake may or may not hold; None while there is none.

    Raises:
        TopicRecreatedError: A partition ends before the offset up to which it was read.
    """

    def __init__(
        self,
        marks: Mapping[int, SourceMark],
        ends: Mapping[int, LogOffsets],
        *,
        before: Mapping[int, SourceMark] | None = None,
        gaps: Sequence[Gap] = (),
    ) -> None:
        self.going_on = before is None
        # Other readings may have landed rows of a gap meanwhile.
        self.gaps = (
            list(gaps) if self.going_on else [msgspec.structs.replace(gap, compared=True) for gap in gaps]
        )
        self.doubtful: Gap | None = None
        self._ends = dict(ends)
        self._before = dict(before or marks)
        for number, mark in self._before.items():
            end = ends[number].end if number in ends else 0
            if end <= mark.last:
                raise recreated(
                    f"partition {number} of the source ends at {end}, but was read up to {mark.last} before"
                )
        begins = {number: self._begin(number, end.start) for number, end in ends.items()}
        self._parts = {number: _Partition(mark) for number, mark in {**begins, **marks}.items()}

    def take(self, partitions: Numbers, offsets: Numbers, times: Numbers) -> Flags:
        """Return which rows were not known, each once; rows of a negative partition have no place and are none.

        Raises:
            TopicRecreatedError: A row differs from the row that was read at its offset.
            ProtocolError: An offset is impossible.
        """
        fresh = np.zeros(len(offsets), np.bool_)
        for number in np.unique(partitions[partitions >= 0]).tolist():
            inside = partitions == number
            mine, when = offsets[inside], times[inside]
            self._recognise(number, mine, when)
            part = self._parts.get(number)
            if part is None:
                # The source has gained a partition since its ends were requested.
                part = self._parts[number] = _Partition(SourceMark(0, 0))
            if mine.min() < 0 or mine.max() - part.next > _MOST_AHEAD:
                raise ProtocolError(
                    f"a row says that it is at offset {int(mine.max())} of partition {number} of the source",
                    hint="Do the feed's `positions` name the columns with ROWPARTITION and ROWOFFSET?",
                )
            new = part.take(mine, when)
            fresh[inside] = new | self._late(number, mine, new)
        return fresh

    @property
    def reached(self) -> bool:
        """Whether every partition is known without a gap up to its end."""
        return all(self._parts[number].next >= end.end for number, end in self._ends.items())

    def missing(self) -> list[tuple[int, int, int]]:
        """Return what is missing below the ends: partition, first offset, offset after the last."""
        return [
            (number, first, behind)
            for number, end in sorted(self._ends.items())
            for first, behind in self._parts[number].missing(end.end)
        ]

    def recall(self) -> None:
        """Mark what an earlier reading knew as known too."""
        for number, mark in self._before.items():
            part = self._parts.setdefault(number, _Partition(mark))
            part.start = min(part.start, mark.start)
            for first, end in [(mark.start, mark.next), *mark.ahead]:
                if end > part.next:
                    part.fill(max(first, part.next), end)

    def accept(self, *, seen_at: str) -> list[Gap]:
        """Accept what is missing below the ends as never to come; offsets that come after all are new."""
        found = [
            Gap(
                number,
                first,
                end,
                seen_at,
                some=not self.going_on and first < self._before.get(number, _NOTHING).next,
                compared=not self.going_on,
            )
            for number, first, end in self.missing()
        ]
        named = {(gap.partition, gap.first, gap.end) for gap in self.gaps}
        for gap in found:
            self._parts[gap.partition].fill(gap.first, gap.end)
            if (gap.partition, gap.first, gap.end) not in named:
                self.gaps.append(gap)
        return found

    @property
    def marks(self) -> dict[int, SourceMark]:
        """What is known now."""
        return {number: self._parts[number].mark for number in sorted(self._parts)}

    @property
    def numbers(self) -> str:
        """How far each partition was read, in words."""
        shown = [
            f"{number}: {self._parts[number].next:,} of {end.end:,}"
            for number, end in sorted(self._ends.items())[:8]
        ]
        return ", ".join(shown) + (f" and {len(self._ends) - 8} more" if len(self._ends) > 8 else "")

    def _begin(self, number: int, start: int) -> SourceMark:
        """Return the mark from which a partition is required: never beyond what is known of it."""
        before = self._before.get(number)
        first = start if before is None else min(start, before.next)
        return SourceMark(first, first)

    def _late(self, number: int, offsets: Numbers, new: Flags) -> Flags:
        """Return which rows are of offsets accepted as never to come, each once; they leave the gaps."""
        late: Flags = np.zeros(len(offsets), np.bool_)
        for gap in [gap for gap in self.gaps if gap.partition == number]:
            inside = np.flatnonzero((offsets >= gap.first) & (offsets < gap.end) & ~late)
            if self.going_on and gap.compared and not new[inside].all():
                self.doubtful = gap
            elif inside.size and not gap.some:
                came, first = np.unique(offsets[inside], return_index=True)
                late[inside[first]] = True
                self._narrow(gap, came)
        return late

    def _narrow(self, gap: Gap, came: Numbers) -> None:
        """Replace a gap with what is left of it."""
        edges = [gap.first - 1, *came.tolist(), gap.end]
        left = [
            msgspec.structs.replace(gap, first=before + 1, end=behind)
            for before, behind in pairwise(edges)
            if before + 1 < behind
        ]
        place = self.gaps.index(gap)
        self.gaps[place : place + 1] = left

    def _recognise(self, number: int, offsets: Numbers, times: Numbers) -> None:
        mark = self._before.get(number)
        if mark is None or mark.last < 0:
            return
        other = times[(offsets == mark.last) & (times != mark.time)]
        if other.size:
            raise recreated(
                f"offset {mark.last} of partition {number} of the source has the time {int(other[0])}, "
                f"not {mark.time}"
            )


def bounded(gaps: Sequence[Gap], most: int) -> list[Gap]:
    """Keep the newest gaps, and the older ones of each partition as one."""
    older, newest = gaps[: max(len(gaps) - most, 0)], gaps[max(len(gaps) - most, 0) :]
    together: dict[int, Gap] = {}
    for gap in older:
        held = together.get(gap.partition)
        together[gap.partition] = (
            gap
            if held is None
            else Gap(
                gap.partition,
                min(held.first, gap.first),
                max(held.end, gap.end),
                max(held.seen_at, gap.seen_at),
                some=True,
                compared=True,
            )
        )
    return [*together.values(), *newest]


def recreated(what: str) -> TopicRecreatedError:
    """Make the error of a source whose offsets belong to other rows."""
    return TopicRecreatedError(
        f"the source's topic is not the one that was read before: {what}",
        hint="It was deleted and recreated, or cut back. To go on with it, export once with --new-topic: rows "
        "are then known by offset and time together, and offsets are kept from there on.",
    )

"""The marks of a `continue` feed's commit: up to where the derived stream was read. Pure."""

# Offsets of the derived stream's own topic say where the next reading begins; offsets of the source say which
# rows the lake holds. Both are in the manifest beside the rows. After a commit by any other reading the marks
# only start a comparison from the stream's first row.

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from ksql_lake.lake.soundness import UnsoundError, check_days, check_moments, check_numbers


class SinkMark(msgspec.Struct, frozen=True):
    """How far the export has read one partition of the derived stream's topic.

    Attributes:
        next: The offset after the last record that was read.
        group: Index in `Continued.groups` of the rows to which that record belongs; -1 if not known.
    """

    next: int
    group: int = -1


class SourceMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which rows of one partition of the source the lake holds.

    Attributes:
        start: The first offset whose rows are known.
        next: The end (exclusive) of the range from `start` in which every row is known.
        last: The highest offset that was read; -1 before the first.
        time: ROWTIME of that row, epoch ms; identifies the row when it is read again.
        ahead: Ranges of known offsets beyond `next`; their ends are exclusive.
    """

    start: int
    next: int
    last: int = -1
    time: int = 0
    ahead: list[tuple[int, int]] = []


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Offsets of the source whose rows never came, although the derived stream's query had read past them.

    Attributes:
        partition: The partition of the source.
        first: The first of the offsets.
        end: The offset after the last one.
        seen_at: When the gap was found, ISO 8601 UTC.
        some: Some offsets of the range may have come: several old gaps were joined, or the rows may have
            landed.
        compared: The lake may hold rows of the gap, so a row of it that comes later is compared by value.
    """

    partition: int
    first: int
    end: int
    seen_at: str
    some: bool = False
    compared: bool = False

    @property
    def text(self) -> str:
        """The gap in words."""
        if self.some:
            return f"perhaps some of the offsets {self.first} to {self.end - 1} of partition {self.partition}"
        if self.end - self.first == 1:
            return f"offset {self.first} of partition {self.partition}"
        return f"offsets {self.first} to {self.end - 1} of partition {self.partition}"


class Continued(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The marks of a `continue` feed.

    Attributes:
        query: Id of the query that writes the derived stream.
        sink: A mark per partition of the derived stream's topic, from 0 on.
        groups: Hashes of the last rows that were read of some partitions, 32 bits each, in base64.
        source: A mark per partition of the source's topic.
        gaps: Offsets whose rows never came: the newest gaps one by one, older ones joined.
        since: The feed's first day; rows before it were read and did not land.
        clock: The event time that decided a row's day.
        awaited: The first day whose rows came before the day had begun, and did not land; empty for none.
        out: Why the marks are no longer valid; empty while they are.
        check: Digest of all other fields but `out`.
    """

    query: str
    sink: list[SinkMark]
    groups: list[str] = []
    source: dict[int, SourceMark] = {}
    gaps: list[Gap] = []
    since: str = ""
    clock: str = ""
    awaited: str = ""
    out: str = ""
    check: str = ""

    def sealed(self) -> Continued:
        """Return these marks with their digest."""
        return msgspec.structs.replace(self, check=self._digest())

    @property
    def sound(self) -> bool:
        """Whether the digest belongs to these marks."""
        return self.check == self._digest()

    def outdated(self, why: str, *, lost: bool = False) -> Continued:
        """Return these marks as no longer valid; the first reason stays.

        Args:
            why: The reason.
            lost: The lake lost rows, so the marks do not say which rows it holds.
        """
        return msgspec.structs.replace(self, out=self.out or why, check="" if lost else self.check)

    def _digest(self) -> str:
        bare = msgspec.structs.replace(self, source=dict(sorted(self.source.items())), out="", check="")
        return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()[:32]


class Continuation(msgspec.Struct, frozen=True):
    """What one reading of a `continue` feed hands to its commit.

    Attributes:
        marks: The feed's marks after the reading.
        base: `FeedState.reading` when this reading began; it is void if another reading has been committed
            since.
        fresh: Whether all of its rows are new because it began at the marks.
    """

    marks: Continued
    base: Any = None
    fresh: bool = False


def check_continued(marks: Continued) -> None:
    """Raise if marks cannot be true; the digest is not checked here (see `sound`).

    Raises:
        UnsoundError: Names the number.
    """
    check_numbers(*(mark.next for mark in marks.sink), *(len(group) for group in marks.groups))
    for mark in marks.sink:
        if not -1 <= mark.group < len(marks.groups):
            raise UnsoundError(f"{mark.group} is no group of rows")
    for number, source in marks.source.items():
        check_numbers(number, source.start, source.next)
        _check_ranges(source.ahead, beyond=source.next)
    for gap in marks.gaps:
        check_numbers(gap.partition, gap.first, gap.end)
        check_moments(gap.seen_at)
    check_days(day for day in (marks.since, marks.awaited) if day)


def _check_ranges(ranges: Iterable[tuple[int, int]], *, beyond: int) -> None:
    for first, end in ranges:
        if not beyond < first < end:
            raise UnsoundError(f"{first} to {end} is no range of offsets beyond {beyond}")
        beyond = end

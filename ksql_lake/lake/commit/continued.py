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
    """How far one partition of the derived stream's topic was read.

    Attributes:
        next: The offset behind the last record that was read.
        group: The rows among which that record is, by their place in `Continued.groups`; -1 if not known.
    """

    next: int
    group: int = -1


class SourceMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one partition of the source.

    Attributes:
        start: The offset from which on its rows are known.
        next: Every row from there up to here, not included, is known.
        last: The highest offset that was read; -1 before the first.
        time: ROWTIME of the row there, epoch ms, by which it is recognised.
        ahead: Ranges of known offsets beyond `next`, each with its end not included.
    """

    start: int
    next: int
    last: int = -1
    time: int = 0
    ahead: list[tuple[int, int]] = []


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Offsets of the source that never came although the derived stream's query had read past them.

    Attributes:
        partition: Of the source.
        first: The first of them.
        end: The offset behind the last of them.
        seen_at: When that was found, ISO 8601 UTC.
        some: Offsets between them came, as far as is known: it is several old gaps in one, or may have landed.
        compared: The lake may hold rows of them, so that one that comes after all has to be compared.
    """

    partition: int
    first: int
    end: int
    seen_at: str
    some: bool = False
    compared: bool = False

    @property
    def text(self) -> str:
        """The gap for people."""
        if self.some:
            return f"perhaps some of the offsets {self.first} to {self.end - 1} of partition {self.partition}"
        if self.end - self.first == 1:
            return f"offset {self.first} of partition {self.partition}"
        return f"offsets {self.first} to {self.end - 1} of partition {self.partition}"


class Continued(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a `continue` feed stands.

    Attributes:
        query: Id of the query that writes the derived stream.
        sink: Per partition of the derived stream's topic, from 0 on.
        groups: Hashes of the rows that were read last of some partitions, 32 bits each, in base64.
        source: Per partition of the source's topic.
        gaps: What never came: the newest gaps each, older ones together.
        since: The feed's first day; rows before it came and did not land.
        clock: What decided on which day a row lands.
        awaited: The first day of which rows came before it had begun, and did not land; empty for none.
        out: Why the marks hold no longer; empty while they do.
        check: Digest of the rest but `out`.
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
        """These marks with their digest."""
        return msgspec.structs.replace(self, check=self._digest())

    @property
    def sound(self) -> bool:
        """Whether the digest is that of these marks."""
        return self.check == self._digest()

    def outdated(self, why: str, *, lost: bool = False) -> Continued:
        """These marks as a memory; the first reason stays.

        Args:
            why: The reason.
            lost: The lake lost rows, so that the marks do not tell which it holds.
        """
        return msgspec.structs.replace(self, out=self.out or why, check="" if lost else self.check)

    def _digest(self) -> str:
        bare = msgspec.structs.replace(self, source=dict(sorted(self.source.items())), out="", check="")
        return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()[:32]


class Continuation(msgspec.Struct, frozen=True):
    """What one reading of a `continue` feed hands to its commit.

    Attributes:
        marks: Where the feed stands after it.
        base: What the lake's state said of readings when it began; a reading committed since makes it void.
        fresh: All of its rows are new, because it began at the marks.
    """

    marks: Continued
    base: Any = None
    fresh: bool = False


def check_continued(marks: Continued) -> None:
    """Refuse marks that cannot be true; a wrong digest is no such thing, but a reason not to believe them.

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

"""The Kafka offsets up to which the lake holds a stream's days, left by a push query's commit. Pure."""

# A mark belongs to a day and a Kafka partition: every row of that partition in that day up to the offset is in
# the lake. A day that is read in any other way loses its marks, and its rows are then compared by value once.

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from ksql_lake.lake.commit.continued import Continuation, Continued


class Mark(msgspec.Struct, frozen=True):
    """The last row of a Kafka partition: its offset, and its ROWTIME in epoch ms, which identifies it later."""

    offset: int
    time: int


Marks = dict[int, Mark]
"""Kafka partition -> its mark; all rows of a partition without a mark are new."""


class DayMarks(msgspec.Struct, frozen=True):
    """Days that have the same marks."""

    days: list[str]
    marks: Marks


class KnownDays(msgspec.Struct, frozen=True):
    """The days of a window whose rows are known by offset.

    Attributes:
        names: Day -> name of its marks; rows of other days are compared by value.
        marks: Name -> marks.
        newest: Kafka partition -> the furthest mark of any day, in the window or not.
        continued: The marks of a `continue` feed; None before its first reading.
        base: `FeedState.reading` of the feed.
        marked: `FeedState.marked` when the reading began; None if its commit sets no marks.
    """

    names: Mapping[str, str] = {}
    marks: Mapping[str, Marks] = {}
    newest: Marks = {}
    continued: Continued | None = None
    base: Any = None
    marked: Mapping[str, str] | None = None

    def of(self, day: str) -> Marks | None:
        """Return the marks of a day; None when its rows are not known by offset."""
        return self.marks[self.names[day]] if day in self.names else None

    def groups(self, days: Iterable[str]) -> dict[str, list[str]]:
        """Return the days by the name of their marks; days without marks are under an empty name."""
        found: dict[str, list[str]] = {}
        for day in days:
            found.setdefault(self.names.get(day, ""), []).append(day)
        return found

    def moved(self, days: Iterable[str], seen: Marks) -> list[DayMarks]:
        """Return the days' marks after rows up to `seen` have landed."""
        moved: list[DayMarks] = []
        for name, group in self.groups(days).items():
            marks = furthest([self.marks.get(name, {}), seen])
            if marks:
                moved.append(DayMarks(group, marks))
        return moved


class Pushed(msgspec.Struct, frozen=True):
    """How a push query was read.

    Attributes:
        rows: Rows received, including those that did not land.
        judged_by: `offsets`, `positions` or `silence`.
        caught_up: `judged_by` as a sentence, with numbers.
        seen: Kafka partition -> the furthest row that came.
        new_topic: Whether all earlier marks belong to a topic that no longer exists.
        outside: Reason -> how many received rows belong to no day of the feed.
        continuation: What the reading of a `continue` feed hands to its commit; None for other feeds.
    """

    rows: int = 0
    judged_by: str = ""
    caught_up: str = ""
    seen: Marks = {}
    new_topic: bool = False
    outside: dict[str, int] = {}
    continuation: Continuation | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts that the manifest records under `read`."""
        return {
            "rows": self.rows,
            "extraction": "continue" if self.continuation else "push",
            "judged_by": self.judged_by,
            "caught_up": self.caught_up,
            "outside": self.outside,
        }


def furthest(many: Iterable[Marks]) -> Marks:
    """Return the mark with the highest offset of each Kafka partition."""
    found: Marks = {}
    for marks in many:
        for partition, mark in marks.items():
            if partition not in found or found[partition].offset < mark.offset:
                found[partition] = mark
    return dict(sorted(found.items()))


def known_days(marks: Mapping[str, Marks], marked: Mapping[str, str], days: Collection[str]) -> KnownDays:
    """Return which days of a window are known by offset, and their marks.

    Args:
        marks: Name -> marks.
        marked: Day -> name of its marks.
        days: The window.
    """
    names = {day: marked[day] for day in days if day in marked}
    held = {name: marks[name] for name in names.values()}
    return KnownDays(names, held, furthest(marks.values()), marked=marked)

"""The figures of a crash run, and the short table that shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ksql_lake_tests.lake.crashing.traps import POINTS

AT_RANDOM = "at random"
_SHOWN = 1_500
"""Characters of a finding that are shown, its last ones."""
BAD = ("torn", "double", "missing", "unsound", "failed")
"""Kinds of findings; every one of them must be 0."""


@dataclass(slots=True)
class Figures:
    """What happened in a run.

    Attributes:
        points: Where processes may have been caught.
        kills: Processes killed, by the point at which it happened or `at random`.
        stops: How often a process was stopped for a while and continued.
        commits: Commits of all feeds.
        lost: How often a writer lost a commit number to another one and planned again.
        conflicts: How often a writer found its staging cleared and read again.
        rows: Rows in the source, and so in each stream's lake.
        read: What the reader counted.
        findings: What must not be: torn and double files or rows, missing ones, findings of the doctor, and
            errors of writers other than conflicts.
        seconds: How long it took.
    """

    points: tuple[str, ...] = POINTS
    kills: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    commits: int = 0
    lost: int = 0
    conflicts: int = 0
    rows: int = 0
    read: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in BAD})
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.findings.values())

    def lines(self) -> list[str]:
        """The table, a line per figure, and the first findings if there are any."""
        armed = self.kills.total() - self.kills[AT_RANDOM]
        rows: list[tuple[str, object]] = [
            ("kills", f"{self.kills.total()}: {self.kills[AT_RANDOM]} at random, {armed} at armed points"),
            *((f"  {point}", self.kills[point]) for point in self.points),
            ("stopped and continued", self.stops),
            ("commits", self.commits),
            ("numbers lost to another writer", self.lost),
            ("stagings found cleared", self.conflicts),
            ("rows in the source", self.rows),
            ("reader: polls", self.read["polls"]),
            ("  files read", self.read["files"]),
            ("  polls with files gone when opened", self.read["interrupted polls"]),
            ("  polls that saw rows twice in a merge", self.read["polls that saw rows twice"]),
            *((kind, len(self.findings[kind])) for kind in BAD),
            ("seconds", f"{self.seconds:.1f}"),
        ]
        width = max(len(name) for name, _ in rows)
        shown = [f"{kind}: {text[-_SHOWN:]}" for kind, texts in self.findings.items() for text in texts[:5]]
        return [f"{name:<{width}}  {value}" for name, value in rows] + shown

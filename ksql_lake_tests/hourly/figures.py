"""What simulated days of exports left behind, and whether it is flat."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean, median

FLAT = 1.2
"""By how much what an export costs may grow from the first third of the days to the last."""

_ENOUGH = 6
"""The fewest days whose thirds can be compared."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One export, and the merge after it.

    Attributes:
        seconds: How long both took.
        received: Rows that the server sent.
        added: Rows that were new.
        opened: Files of the lake that were opened to compare or merge.
        commits: Commits it made.
        manifests: Bytes of the manifests of these commits.
        files: Files of the day it belongs to, afterwards.
    """

    seconds: float
    received: int
    added: int
    opened: int
    commits: int
    manifests: int
    files: int


@dataclass(slots=True)
class Figures:
    """The exports of each day, and what is there at its end.

    Attributes:
        days: The exports, day by day.
        closed: Files of each day at the end of the run.
        metadata: Bytes under `metadata/` at the end of each day.
        derived: Bytes of `_metadata.json` and the checkpoint at the end of each day.
        findings: What must not be.
    """

    days: list[list[Turn]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    metadata: list[int] = field(default_factory=list)
    derived: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def most_files(self) -> int:
        """The most files that any day had at any time."""
        return max(turn.files for day in self.days for turn in day)

    def judge(self, *, compacted: bool) -> None:
        """Find what grows: files of a day, files opened, commits and bytes of manifests of an export.

        Args:
            compacted: Files were merged, so that each day but the last two is to have one.
        """
        if compacted and any(count > 1 for count in self.closed[:-2]):
            self.findings.append(f"closed days have {max(self.closed[:-2])} files at most, and should have one")
        third = len(self.days) // 3
        if len(self.days) < _ENOUGH:
            return
        early, late = self.days[1 : 1 + third], self.days[-third:]
        for name in ("files", "opened", "commits", "manifests"):
            before, after = ([getattr(turn, name) for day in days for turn in day] for days in (early, late))
            # One more file or commit now and then is no growth.
            if mean(after) > FLAT * mean(before) + (0 if name == "manifests" else 1):
                self.findings.append(f"{name} of an export grew from {mean(before):,.1f} to {mean(after):,.1f}")

    def lines(self) -> list[str]:
        """The figures as a table, days as rows."""
        found = [_row("", "", "files:", "", "metadata", "derived", "rows", "files", "manifest", "")]
        found.append(
            _row("day", "exports", "most", "at last", "kB", "kB", "received", "opened", "kB", "seconds")
        )
        for number, day in enumerate(self.days):
            numbers = (
                f"{self.metadata[number] / 1000:,.1f}",
                f"{self.derived[number] / 1000:,.1f}",
                f"{mean(turn.received for turn in day):,.0f}",
                f"{mean(turn.opened for turn in day):.1f}",
                f"{mean(turn.manifests for turn in day) / 1000:.2f}",
                f"{median(turn.seconds for turn in day):.3f}",
            )
            most = max(turn.files for turn in day)
            found.append(_row(number + 1, len(day), most, self.closed[number], *numbers))
        return [*found, *(f"FINDING: {text}" for text in self.findings)]


def _row(*cells: object) -> str:
    return "  ".join(str(cell).rjust(8) for cell in cells)

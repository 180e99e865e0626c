"""The kinds of faults that doctor finds, and the remedy of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Problem(StrEnum):
    """A kind of finding."""

    MANIFEST_MISSING = "manifest missing"
    MANIFEST_DAMAGED = "manifest damaged"
    FILE_MISSING = "file missing"
    FILE_DAMAGED = "file damaged"
    FILE_UNREADABLE = "file unreadable"
    FILE_FOREIGN = "foreign file"
    FILE_UNNAMED = "file not in the log"
    FILE_DOUBLED = "rows doubled"
    FILE_UNPUBLISHED = "file not published"
    FILE_NOT_REMOVED = "file not removed"
    FOOTER_DIFFERS = "footer differs"
    ROW_OUTSIDE_DAY = "row outside its day"
    NAN_LEFT_OUT = "NaN left out"
    SUMMARY_STALE = "summary stale"
    CHECKPOINT_DAMAGED = "checkpoint damaged"
    STAGING_LEFT = "staging left over"
    INDEX_STALE = "index stale"
    COMMIT_AHEAD = "commit in the future"


class Remedy(StrEnum):
    """How a finding is repaired.

    `REPAIR` derives missing files from existing ones and loses nothing. `APPLY` takes a file out of the lake,
    so it needs a request; the file moves to the feed's quarantine folder and is never deleted. `MANUAL` needs a
    person.
    """

    REPAIR = "repair"
    APPLY = "apply"
    MANUAL = "manual"


REMEDIES: dict[Problem, Remedy] = {
    Problem.MANIFEST_MISSING: Remedy.REPAIR,
    Problem.MANIFEST_DAMAGED: Remedy.REPAIR,
    Problem.FILE_MISSING: Remedy.APPLY,
    Problem.FILE_DAMAGED: Remedy.APPLY,
    Problem.FILE_UNREADABLE: Remedy.MANUAL,
    Problem.FILE_FOREIGN: Remedy.APPLY,
    Problem.FILE_UNNAMED: Remedy.APPLY,
    Problem.FILE_DOUBLED: Remedy.APPLY,
    Problem.FILE_UNPUBLISHED: Remedy.REPAIR,
    Problem.FILE_NOT_REMOVED: Remedy.REPAIR,
    Problem.FOOTER_DIFFERS: Remedy.MANUAL,
    Problem.ROW_OUTSIDE_DAY: Remedy.MANUAL,
    Problem.NAN_LEFT_OUT: Remedy.MANUAL,
    Problem.SUMMARY_STALE: Remedy.REPAIR,
    Problem.CHECKPOINT_DAMAGED: Remedy.REPAIR,
    Problem.STAGING_LEFT: Remedy.REPAIR,
    Problem.INDEX_STALE: Remedy.REPAIR,
    Problem.COMMIT_AHEAD: Remedy.MANUAL,
}

ACTIONS: dict[Problem, str] = {
    Problem.MANIFEST_MISSING: "rewrite it from the Parquet footers",
    Problem.MANIFEST_DAMAGED: "rewrite it from the Parquet footers; the damaged one goes to quarantine",
    Problem.FILE_MISSING: "forget it; the next export of a stream reads its day again",
    Problem.FILE_DAMAGED: "quarantine and forget it; the next export of a stream reads its day again",
    Problem.FILE_UNREADABLE: "none; look at its permissions, and at the disk",
    Problem.FILE_FOREIGN: "move it to quarantine",
    Problem.FILE_UNNAMED: "commit its rows in a new file, and move it to quarantine",
    Problem.FILE_DOUBLED: "move it to quarantine; rows that no other file holds go on in a new one",
    Problem.FILE_UNPUBLISHED: "publish it",
    Problem.FILE_NOT_REMOVED: "finish its removal, which is committed",
    Problem.FOOTER_DIFFERS: "none; please report this",
    Problem.ROW_OUTSIDE_DAY: "none; was the feed's time zone or event time changed?",
    Problem.NAN_LEFT_OUT: "ksql-lake compact FEED --nan rewrites it; for a table, the next version is right",
    Problem.SUMMARY_STALE: "rewrite it",
    Problem.CHECKPOINT_DAMAGED: "rewrite it",
    Problem.STAGING_LEFT: "remove it; nothing in it was committed",
    Problem.INDEX_STALE: "register the feed again",
    Problem.COMMIT_AHEAD: "none; set the clock right, and export the feed again, which reads those days again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: Its kind.
        key: The file or folder, relative to the lake's root.
        detail: The fault, one phrase.
        sequence: The commit that it concerns, if any.
    """

    problem: Problem
    key: str
    detail: str
    sequence: int | None = None

    @property
    def remedy(self) -> Remedy:
        """How it is repaired."""
        return REMEDIES[self.problem]

    @property
    def action(self) -> str:
        """The remedy in words."""
        return ACTIONS[self.problem]

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as data for JSON."""
        return {
            "problem": self.problem.value,
            "path": self.key,
            "detail": self.detail,
            "commit": self.sequence,
            "remedy": self.remedy.value,
            "action": self.action,
        }

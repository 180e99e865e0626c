"""What a report says of one check of a feed, as plain values; see `feed_model.py`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ksql_lake.feeds.model import Severity


@dataclass(frozen=True, slots=True)
class FailedPartitionFacts:
    """A day or version in which a check does not hold.

    Attributes:
        partition: The day or version.
        says: Why it does not hold.
        at: When that was judged.
    """

    partition: str
    says: str
    at: datetime


CheckState = Literal["passed", "failed", "not_evaluated"]


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """A check of the feed and its newest results.

    Attributes:
        name: The check.
        asks: What it asks, by the current feed file.
        severity: What a failure means: `warn`, `error` or `block`.
        state: `passed`, `failed` or `not_evaluated`.
        says: Why, in a sentence.
        at: When it was evaluated last; null when it never was.
        judged: Days or versions that have a result; 0 for a check of the whole feed.
        failed: Those in which it does not hold, oldest first; of a table replaced versions too.
        promised: Whether the feed file itself names it; every feed has the others.
    """

    name: str
    asks: str
    severity: Severity
    state: CheckState
    says: str
    at: datetime | None = None
    judged: int = 0
    failed: tuple[FailedPartitionFacts, ...] = ()
    promised: bool = False

    @property
    def grave(self) -> bool:
        """Whether the check does not hold and its severity is more than `warn`."""
        return self.state == "failed" and self.severity in ("error", "block")

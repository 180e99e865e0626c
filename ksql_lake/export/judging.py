"""After an export: its checks are evaluated once, and what they found is noted in the lake.

Shell and Dagster both call this, so that the report tells what Dagster shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.export.checks import CheckOutcome, check_export, checks_of
from ksql_lake.export.result import ExportResult
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import FeedLake
from ksql_lake.lake.commit.check_record import CheckFinding

GRAVE: frozenset[Severity] = frozenset({"error", "block"})
"""Severities that make an export's exit code 1 and a feed `failing`."""


@dataclass(frozen=True, slots=True)
class JudgedCheck:
    """A check's outcome after an export, and what a failure means.

    Attributes:
        outcome: What it found.
        severity: What a failure means for the feed.
    """

    outcome: CheckOutcome
    severity: Severity

    @property
    def failed(self) -> bool:
        """Whether it does not hold."""
        return not self.outcome.passed

    @property
    def grave(self) -> bool:
        """Whether it does not hold, and that is more than unusual."""
        return self.failed and self.severity in GRAVE

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON-ready data."""
        return {
            "check": self.outcome.name,
            "passed": self.outcome.passed,
            "severity": self.severity,
            "says": self.outcome.says,
            "failed": dict(self.outcome.failed),
        }


def judge_export(result: ExportResult, lake: FeedLake, retention: Retention | None = None) -> list[JudgedCheck]:
    """Evaluate the checks of an export and note their results in the lake; one per name of `checks_of`.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    asked = checks_of(result.feed, retention)
    outcomes = check_export(result, lake, retention)
    state = lake.state()
    commit = result.commit or state.sequence
    if commit:
        findings = [_finding(each, asked[each.name].asks, asked[each.name].severity) for each in outcomes]
        lake.record_checks(findings, commit=commit, held=state.partitions.keys())
    return [JudgedCheck(each, asked[each.name].severity) for each in outcomes]


def _finding(outcome: CheckOutcome, asks: str, severity: Severity) -> CheckFinding:
    return CheckFinding(
        name=outcome.name,
        asks=asks,
        severity=severity,
        passed=outcome.passed,
        says=outcome.says,
        judged=outcome.judged,
        failed=outcome.failed,
    )

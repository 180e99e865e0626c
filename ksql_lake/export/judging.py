"""After an export: evaluate its checks once, and note the results in the lake.

Shell and Dagster both call this, so that the report shows what Dagster shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ksql_lake.export.certification import Certification
from ksql_lake.export.checks import CheckOutcome, check_export, checks_of
from ksql_lake.export.result import ExportResult
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import FeedLake
from ksql_lake.lake.commit.check_record import CheckFinding, CheckNotes

GRAVE: frozenset[Severity] = frozenset({"error", "block"})
"""Severities that make an export's exit code 1 and a feed `failing`."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class JudgedCheck:
    """A check's outcome after an export, and what a failure means.

    Attributes:
        outcome: What it found.
        severity: What a failure means for the feed.
        failing: Partition -> why it does not hold there, for the whole feed: as each was judged last.
        recovered: Partitions of this export where it did not hold before and now does.
    """

    outcome: CheckOutcome
    severity: Severity
    failing: Mapping[str, str] = field(default_factory=dict)
    recovered: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the check does not hold."""
        return not self.outcome.passed

    @property
    def grave(self) -> bool:
        """Whether the check does not hold and its severity is more than `warn`."""
        return self.failed and self.severity in GRAVE

    def as_dict(self) -> dict[str, object]:
        """Return the check as JSON-ready data."""
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
    outcomes = check_export(result, lake, retention)
    return note_outcomes(outcomes, lake, retention, commit=result.commit)


def note_outcomes(
    outcomes: Sequence[CheckOutcome],
    lake: FeedLake,
    retention: Retention | None = None,
    *,
    commit: int | None = None,
) -> list[JudgedCheck]:
    """Note the outcomes of checks in the lake; return each with the results of all partitions.

    A check that the feed has switched off is neither noted nor returned.

    Args:
        outcomes: The outcomes.
        lake: The feed's lake.
        retention: How long the topic keeps records, if that is checked.
        commit: The commit that was judged; None means the newest.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    asked = checks_of(lake.feed, retention)
    outcomes = [each for each in outcomes if each.name in asked]
    state, before = lake.state(), lake.checks()
    commit, now = commit or state.sequence, before
    if commit:
        findings = [_finding(each, asked[each.name].asks, asked[each.name].severity) for each in outcomes]
        now = lake.record_checks(findings, commit=commit, held=state.partitions.keys())
    return [_judged(each, asked[each.name].severity, before, now) for each in outcomes]


def note_certification(found: Certification, lake: FeedLake) -> list[JudgedCheck]:
    """Note in the lake what reading a day again found, as a result of the check `certificate`.

    Nothing where the feed has switched that check off. The next export of the day judges it again.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    day, says = str(found.day), f"{found.day}, read again from the server: {certified_text(found)}"
    rows = {day: {"source_rows": found.source_rows, "lake_rows": found.lake_rows}}
    failed = {} if found.whole else {day: says}
    return note_outcomes([CheckOutcome("certificate", found.whole, says, (day,), failed, rows)], lake)


def certified_text(found: Certification) -> str:
    """Return what reading a day again found, one line per hour that differs."""
    if found.questioned:
        return f"the certificate cannot be trusted: {found.questioned}."
    if found.as_certified is False:
        return f"the {found.lake_rows:,} rows of the lake differ from those that were certified."
    if found.equal:
        but = f", without what cannot be compared: {', '.join(found.unseen)}" if found.unseen else ""
        return f"the {found.lake_rows:,} rows of the lake equal those of the source{but}."
    more = len(found.differences) - _SHOWN
    lines = [hour.text for hour in found.differences[:_SHOWN]]
    return "\n".join([*lines, *([f"... and {more} more hours"] if more > 0 else [])])


def _judged(outcome: CheckOutcome, severity: Severity, before: CheckNotes, now: CheckNotes) -> JudgedCheck:
    # If the results could not be noted, the lake still holds those of before.
    noted, judged = now.checks.get(outcome.name), set(outcome.judged)
    others = {key: each.says for key, each in noted.failing.items() if key not in judged} if noted else {}
    known = before.checks.get(outcome.name)
    failed_before = known.failed if known is not None else {}
    recovered = tuple(key for key in outcome.judged if key in failed_before and key not in outcome.failed)
    return JudgedCheck(outcome, severity, {**others, **outcome.failed}, recovered)


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

"""The results of a feed's checks, compared with what its feed file promises now. Pure.

A promise without a result is reported as not evaluated, never as passed. The current feed file decides how
grave a failure is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from ksql_lake.feeds import Feed
from ksql_lake.feeds.promises import CheckAsked, promises
from ksql_lake.lake.commit.check_record import CheckNotes, CheckRecord, FailedPartition
from ksql_lake.quantities import count_text
from ksql_lake.report.check_model import CheckFacts, CheckState, FailedPartitionFacts

_WHOLE = frozenset({"schema_unchanged", "files_match", "topic_retention", "freshness"})
"""Checks of a feed as a whole, which judge no day and no version."""

_NEVER = "no export has evaluated it"


def check_facts(feed: Feed, notes: CheckNotes, *, last_export: int, last_commit: int) -> tuple[CheckFacts, ...]:
    """Return a feed's checks with their newest results, in the order in which they are evaluated.

    Args:
        feed: The feed as its file is now.
        notes: What the lake keeps of its checks.
        last_export: Number of the last export's commit; 0 before the first.
        last_commit: Number of the last commit of any kind.
    """
    asked = dict(promises(feed))
    for name, record in notes.checks.items():
        # A check that needs the server (how long a topic keeps records) is known by its result alone.
        if name == "topic_retention" and feed.checks.severity.get("topic_retention") != "off":
            severity = feed.checks.severity.get("topic_retention", record.severity)
            asked[name] = CheckAsked(record.asks, severity)
    named = promised_in_file(feed)
    return tuple(
        _facts(name, check, _result(notes, name, last_commit), last_export=last_export, promised=name in named)
        for name, check in asked.items()
    )


def _result(notes: CheckNotes, name: str, last_commit: int) -> CheckRecord | None:
    """Return the result of a check; none of a commit that a restored lake does not have."""
    record = notes.checks.get(name)
    return record if record is not None and record.commit <= last_commit else None


def _facts(
    name: str, asked: CheckAsked, record: CheckRecord | None, *, last_export: int, promised: bool
) -> CheckFacts:
    made = partial(CheckFacts, name, asked.asks, asked.severity, promised=promised)
    if record is None or record.asks != asked.asks:
        why = _NEVER if record is None else "the feed file has changed what it asks since it was evaluated"
        return made("not_evaluated", why)
    at = datetime.fromisoformat(record.at).astimezone(UTC)
    failed = _failed(record.failed)
    state: CheckState = "passed"
    says = record.says
    if not record.holds:
        state, says = "failed", _says(record, failed)
    elif not record.judged and name not in _WHOLE:
        state, says = "not_evaluated", f"nothing to judge yet: {record.says}"
    elif record.commit < last_export:
        state, says = "not_evaluated", f"the last export was not checked; before it: {record.says}"
    return made(state, says, at, record.count, failed)


def _failed(found: Mapping[str, FailedPartition]) -> tuple[FailedPartitionFacts, ...]:
    return tuple(
        FailedPartitionFacts(key, why.says, datetime.fromisoformat(why.at).astimezone(UTC))
        for key, why in found.items()
    )


def _says(record: CheckRecord, failed: Sequence[FailedPartitionFacts]) -> str:
    if not failed:
        return record.says
    newest = failed[-1].says.splitlines()[0]
    before = len(failed) - 1
    return f"{newest}; and {count_text(before, 'earlier day')}" if before else newest


def promised_in_file(feed: Feed) -> frozenset[str]:
    """Return the checks that the feed file itself names; every feed has the others."""
    named = {
        name for name in ("min_records", "not_null", "unique") if getattr(feed.checks, name) not in (None, ())
    }
    return frozenset(named | set(feed.checks.severity))

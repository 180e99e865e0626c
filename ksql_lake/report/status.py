"""A feed's status in one word, and why. Pure. Of several that apply the first one in `Status` counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from ksql_lake.feeds import Feed
from ksql_lake.lake import Failure, FeedState
from ksql_lake.lake.closing import in_the_future, questioned_days
from ksql_lake.lake.days import day_ranges
from ksql_lake.quantities import age_text, count_text
from ksql_lake.report.check_model import CheckFacts
from ksql_lake.report.feed_model import Coverage, Freshness, Status
from ksql_lake.report.lake_facts import FeedMetadata
from ksql_lake.report.wording import moment_text, ranges_text


@dataclass(frozen=True, slots=True)
class Judgement:
    """A status, why it is that one, and what to do about it."""

    status: Status
    reason: str
    next_step: str = ""


def judge(  # noqa: PLR0913 - each is a separate fact
    feed: Feed,
    metadata: FeedMetadata | None,
    *,
    freshness: Freshness,
    coverage: Coverage | None,
    overdue: list[date],
    questioned: str = "",
    checks: Sequence[CheckFacts] = (),
) -> Judgement:
    """Decide the status of a feed.

    Args:
        feed: The feed.
        metadata: What the lake knows about it; None when it knows nothing.
        freshness: Age of the last export against the target.
        coverage: Complete, open and missing days of a stream.
        overdue: Open days that ended long enough ago to count.
        questioned: Why the times in the lake cannot be trusted; empty where they can.
        checks: What the feed's checks found.
    """
    export = f"ksql-lake export --{feed.kind} {feed.name}"
    if not feed.enabled:
        return Judgement(Status.DISABLED, "its file says enabled: false")
    failed = _failed(metadata, export) if metadata is not None else None
    if failed is not None:
        return failed
    if metadata is None or metadata.state is None or not metadata.state.last_export:
        return _never_ran(metadata, export, coverage)
    if broken := [check for check in checks if check.grave]:
        return _check_failed(feed, broken, export)
    state = metadata.state
    if current_records(state) == 0:
        return Judgement(Status.EMPTY, _empty_reason(state), f"Does {feed.source} have rows at all?")
    if questioned:
        return Judgement(Status.INCOMPLETE, questioned, f"Set the clock right, then: {export}")
    if freshness.met is False:
        if (freshness.age_hours or 0) <= (freshness.target_hours or 0):
            reason = f"the last export is dated {metadata.state.last_export}, by a clock that was ahead"
            return Judgement(Status.STALE, reason, f"Is the clock right now? Then: {export}")
        reason = f"last export {age_text(freshness.age_hours)} ago, target {age_text(freshness.target_hours)}"
        return Judgement(Status.STALE, reason, f"Is its schedule on? By hand: {export}")
    if coverage is not None and (coverage.missing or overdue):
        return Judgement(Status.INCOMPLETE, _gap_reason(coverage, overdue), export)
    return Judgement(Status.HEALTHY, _healthy_reason(state, coverage))


def doubt(state: FeedState, *, now: datetime) -> str:
    """Return why a lake's times cannot be trusted: they are in the future; empty where they are not."""
    days = questioned_days(state.looked, now=now)
    if days:
        shown = f"{count_text(len(days), 'day')} ({ranges_text(day_ranges(days))})"
        return f"the reading of {shown} is dated {state.looked[str(days[-1])]}, by a clock that is ahead"
    if state.last_read is not None and in_the_future(state.last_read.read_at, now):
        return f"the last export is dated {state.last_read.read_at}, by a clock that is ahead"
    return ""


def current_records(state: FeedState) -> int:
    """Return the rows of a table's newest version, or of all days of a stream."""
    if state.kind == "stream":
        return state.records
    newest = state.partitions.get(f"v{state.latest_version}")
    return newest.records if newest is not None else 0


def last_failure(metadata: FeedMetadata) -> Failure | None:
    """Return the newest failure, unless an export landed after it."""
    failure = metadata.failures.last
    if failure is None or metadata.state is None or not metadata.state.last_export:
        return failure
    # A success removes the note. If that failed, the times still show it.
    landed = datetime.fromisoformat(metadata.state.last_export)
    return failure if datetime.fromisoformat(failure.at) >= landed else None


def _failed(metadata: FeedMetadata, export: str) -> Judgement | None:
    if metadata.problem is not None:
        return Judgement(Status.FAILING, metadata.problem.message, "ksql-lake doctor")
    failure = last_failure(metadata)
    attempt = metadata.attempt
    if attempt is not None and not attempt.alive:
        since = moment_text(attempt.written_at)
        if failure is None or datetime.fromisoformat(failure.at) < attempt.written_at:
            reason = f"an export was killed; its last sign of life is from {since}"
            return Judgement(Status.FAILING, reason, f"{export}   (clears what it left)")
    if failure is None:
        return None
    often = count_text(metadata.failures.count, "failed export")
    when = moment_text(datetime.fromisoformat(failure.at).astimezone(UTC))
    return Judgement(Status.FAILING, f"{often}, the last {when}: {failure.message}", failure.hint or export)


def _check_failed(feed: Feed, broken: Sequence[CheckFacts], export: str) -> Judgement:
    first = broken[0]
    says, _, _ = first.says.partition("\nWhat to do: ")  # the next step says it
    reason = f"check {first.name} does not hold: {says}"
    if len(broken) > 1:
        reason += f"; nor do {', '.join(check.name for check in broken[1:])}"
    if any(check.name == "files_match" for check in broken):
        # Only an export evaluates the check again; after a repair doctor finds nothing, and it still fails.
        step = f"Repair what `ksql-lake doctor {feed.name}` finds, then: {export}"
        return Judgement(Status.FAILING, reason, step)
    step = "Correct the source and export the day again, or change checks in the feed file"
    return Judgement(Status.FAILING, reason, f"{step}: ksql-lake feeds show {feed.name}")


def _never_ran(metadata: FeedMetadata | None, export: str, coverage: Coverage | None) -> Judgement:
    if metadata is not None and metadata.attempt is not None:
        return Judgement(Status.NEVER_RAN, "its first export is running")
    if coverage is not None and coverage.first > coverage.last:
        step = "Wait, or correct start_date in the feed file"
        return Judgement(Status.NEVER_RAN, f"start_date {coverage.first} is in the future", step)
    return Judgement(Status.NEVER_RAN, "no export was tried yet", export)


def _empty_reason(state: FeedState) -> str:
    if state.kind == "table" and state.latest_version:
        return f"v{state.latest_version} has no rows"
    return f"exported {moment_text(datetime.fromisoformat(state.last_export))}, and there was no row"


def _gap_reason(coverage: Coverage, overdue: list[date]) -> str:
    parts = []
    if coverage.missing:
        parts.append(f"{count_text(coverage.missing, 'day')} never read: {ranges_text(coverage.missing_days)}")
    if overdue:
        shown = ranges_text(day_ranges(overdue))
        parts.append(f"{count_text(len(overdue), 'day')} not read to the end: {shown}")
    return "; ".join(parts)


def _healthy_reason(state: FeedState, coverage: Coverage | None) -> str:
    if coverage is None:
        newest = state.partitions.get(f"v{state.latest_version}")
        lost = f", shrunk by {newest.shrunk * 100:.0f} %" if newest is not None and newest.shrunk else ""
        return f"v{state.latest_version} is the newest version{lost}"
    if not coverage.complete:
        return "no day has ended yet"
    return f"{count_text(coverage.complete, 'day')} read after their end"

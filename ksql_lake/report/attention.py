"""The points that a reader of the report should see first, worst first; the same in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ksql_lake.quantities import age_text, count_text, size_text
from ksql_lake.report.feed_model import FeedReport, Status
from ksql_lake.report.lake_model import KafkaGaps, Report
from ksql_lake.report.wording import days_in, moment_text, ranges_text

Level = Literal["alarm", "notice"]

_ALARMS = frozenset({Status.FAILING, Status.STALE})
_SHOWN = 5
"""How many disagreements are listed one by one; the rest is a number."""

_NAMED = 12
"""How many names a text lists; the rest is a number."""

_ALIKE = 3
"""How many feeds with one status and different reasons are listed one by one; more become a list of names."""

_UNWANTED = ("before start_date",)
"""Rows that are left out because the feed file says so."""

_AFTER_CHECKS = "Correct the source and export the days again, or change checks in the feed files"
_AFTER_REPAIR = "Repair what `ksql-lake doctor` finds, then: ksql-lake export --all"

QUIET = timedelta(days=2)
"""How long a stream's exports may bring no new row before the report mentions it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point that needs attention.

    Attributes:
        level: `alarm` where data is late, lost or doubtful, else `notice`.
        label: One or two words, a feed's status for instance.
        subject: The feed or feeds, or the server.
        text: The problem.
        next_step: What to do; may be empty.
        feeds: The feeds it is about.
    """

    level: Level
    label: str
    subject: str
    text: str
    next_step: str = ""
    feeds: tuple[str, ...] = ()


def attention(report: Report) -> tuple[Point, ...]:
    """Return the points, alarms first, each kind in the order of the report."""
    points = [
        *_statuses(report),
        *_files(report),
        *_disagreements(report),
        *_server(report),
        *_promises(report),
        *_rows(report),
        *_others(report),
    ]
    return tuple(sorted(points, key=lambda point: point.level))


def _statuses(report: Report) -> Iterator[Point]:
    for status in Status:
        found = [feed for feed in report.feeds if feed.status is status and not status.calm]
        for alike in _by_cause(found):
            yield _shared_cause(alike) if len(alike) > 1 else _one(alike[0])
    for feed in report.feeds:
        if feed.fell_back:
            text = f"read by pull query instead of on from its marks: {feed.fell_back}"
            yield Point(
                "notice", "pull query", feed.name, text, "ksql-lake feeds validate --server", (feed.name,)
            )


def _by_cause(feeds: Sequence[FeedReport]) -> list[list[FeedReport]]:
    """Group feeds of one status that failed alike or lack the same days.

    Where many have different reasons, they are one group.
    """
    groups = dict[str, list[FeedReport]]()
    for feed in feeds:
        failed = feed.status is Status.FAILING and feed.failures is not None and "failed export" in feed.reason
        cause = feed.failures.message if failed and feed.failures else ""
        lacks = feed.status is Status.INCOMPLETE and feed.next_step.startswith("ksql-lake export")
        cause = feed.reason if feed.failing_by_checks or lacks or _waits(feed) else cause
        groups.setdefault(cause or f"feed {feed.name}", []).append(feed)
    single = [group[0] for group in groups.values() if len(group) == 1 and not _waits(group[0])]
    if len(single) > _ALIKE and single[0].status in (Status.STALE, Status.NEVER_RAN, Status.EMPTY):
        return [*(group for group in groups.values() if len(group) > 1 or _waits(group[0])), single]
    return list(groups.values())


def _waits(feed: FeedReport) -> bool:
    """Return whether a feed never ran for a reason that no export would change."""
    return feed.status is Status.NEVER_RAN and not feed.next_step.startswith("ksql-lake export")


def _one(feed: FeedReport) -> Point:
    return Point(_level(feed), feed.status.label, feed.name, feed.reason, feed.next_step, (feed.name,))


def _shared_cause(alike: Sequence[FeedReport]) -> Point:
    first, names = alike[0], tuple(feed.name for feed in alike)
    listed = _names(names)
    texts = {
        Status.STALE: f"the last export is older than the target{_or_ahead(alike)}: {_aged(alike)}",
        Status.NEVER_RAN: f"no export was tried yet: {listed}",
        Status.EMPTY: f"exported, and there was no row: {listed}",
    }
    steps = {
        Status.STALE: "Are their schedules on? By hand: ksql-lake export --all",
        Status.NEVER_RAN: "ksql-lake export --all",
        Status.EMPTY: "Do their sources have rows at all?",
    }
    last = max((feed.failures.at for feed in alike if feed.failures), default=None)
    said = first.reason
    if first.status is Status.FAILING and first.failures and not first.failing_by_checks:
        said = f"{first.failures.message}; the last time {moment_text(last)}"
    text = f"{said}: {listed}" if _waits(first) else texts.get(first.status, f"{said}: {listed}")
    hint = first.failures.hint if first.status is Status.FAILING and first.failures else ""
    step = first.next_step if _waits(first) else steps.get(first.status, hint or "ksql-lake export --all")
    if first.failing_by_checks:
        damaged = any(check.grave and check.name == "files_match" for check in first.checks)
        step = _AFTER_REPAIR if damaged else _AFTER_CHECKS
    return Point(_level(first), first.status.label, count_text(len(alike), "feed"), text, step, names)


def _or_ahead(feeds: Sequence[FeedReport]) -> str:
    young = any((feed.freshness.age_hours or 0) <= (feed.freshness.target_hours or 0) for feed in feeds)
    return ", or dated in the future" if young else ""


def _aged(feeds: Sequence[FeedReport]) -> str:
    oldest = sorted(feeds, key=lambda feed: -(feed.freshness.age_hours or 0))
    return _names([f"{feed.name} ({age_text(feed.freshness.age_hours)})" for feed in oldest])


def _names(names: Sequence[str]) -> str:
    """List the first of many names."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _level(feed: FeedReport) -> Level:
    return "alarm" if feed.status in _ALARMS else "notice"


def _promises(report: Report) -> Iterator[Point]:
    for feed in report.feeds:
        for check in feed.failed_checks:
            # The feed's status reports a grave one, unless something worse decides the status.
            if not (check.grave and feed.failing_by_checks):
                level: Level = "alarm" if check.grave else "notice"
                yield Point(level, "check", feed.name, f"{check.name}: {check.says}", "", (feed.name,))
    unknown = [feed for feed in report.feeds if feed.enabled and feed.last_export and feed.promises_unevaluated]
    texts = [f"{feed.name} ({', '.join(feed.promises_unevaluated)})" for feed in unknown]
    if texts:
        text = f"no export has evaluated what the feed file promises: {_names(texts)}"
        subject = unknown[0].name if len(unknown) == 1 else count_text(len(unknown), "feed")
        names = tuple(feed.name for feed in unknown)
        yield Point("notice", "not checked", subject, text, "The next export evaluates it", names)


def _rows(report: Report) -> Iterator[Point]:
    for feed in report.feeds:
        if feed.outside is not None:
            rows, days = count_text(feed.outside.records, "row"), ranges_text(feed.outside.days)
            text = f"{rows} outside of its days, before start_date or after today: {days}"
            yield Point("notice", "outside", feed.name, text, f"ksql-lake feeds show {feed.name}", (feed.name,))
        lost = ", ".join(f"{count:,} {why}" for why, count in feed.left_out.items() if why not in _UNWANTED)
        if lost and feed.enabled:
            text = f"the last export saw rows that did not land, because no day of the feed has them: {lost}"
            step = "Correct what writes their times; rows of the future land when their day has begun"
            yield Point("notice", "left out", feed.name, text, step, (feed.name,))
    quiet = [feed for feed in report.feeds if _quiet(feed, report)]
    if quiet:
        since = _names([f"{feed.name} ({_since(feed)})" for feed in quiet])
        subject = quiet[0].name if len(quiet) == 1 else count_text(len(quiet), "feed")
        text, names = f"exported, but no new row came: {since}", tuple(feed.name for feed in quiet)
        yield Point("notice", "no new rows", subject, text, "Does anything still write to the source?", names)


def _quiet(feed: FeedReport, report: Report) -> bool:
    # The newest rows may be older than the exports that the report knows of.
    last = feed.recency.last_new_at or (feed.history_from if feed.records else None)
    if feed.kind != "stream" or not feed.enabled or not feed.recency.exports_without_new or last is None:
        return False
    return report.generated_at - last > QUIET


def _since(feed: FeedReport) -> str:
    last = feed.recency.last_new_at
    return f"since {moment_text(last)}" if last else f"since before {moment_text(feed.history_from)}"


def _files(report: Report) -> Iterator[Point]:
    for broken in report.broken_feeds:
        problems = "; ".join(broken.problems) or "it cannot be used"
        yield Point("alarm", "broken file", broken.name, problems, f"Correct {broken.path}")


def _disagreements(report: Report) -> Iterator[Point]:
    found = report.cross_check.disagreements
    for item in found[:_SHOWN]:
        yield Point("alarm", "disagreement", item.feed, f"{item.path}: {item.what}", "ksql-lake doctor")
    if len(found) > _SHOWN:
        rest = count_text(len(found) - _SHOWN, "more disagreement")
        yield Point("alarm", "disagreement", "the lake", rest, "ksql-lake doctor")


def _server(report: Report) -> Iterator[Point]:
    server = report.server
    # An outage that a feed's own failure reports is not reported again.
    known = any(feed.failures is not None and feed.failures.message in server.problem for feed in report.feeds)
    if server.problem and not known:
        yield Point("notice", "no answer", "the server", server.problem.removeprefix("server "))
    for gone in server.feeds_without_source:
        text = f"the server has no {gone.source}"
        yield Point("alarm", "no source", gone.feed, text, f"ksql-lake feeds archive {gone.feed}", (gone.feed,))
    for gaps in server.gaps:
        yield from _gaps(gaps)
    if server.sources_without_feed:
        count = count_text(len(server.sources_without_feed), "source")
        names = _names([source.name for source in server.sources_without_feed])
        yield Point("notice", "no feed", count, f"no feed exports {names}", "ksql-lake feeds discover")


def _gaps(gaps: KafkaGaps) -> Iterator[Point]:
    if gaps.lost:
        text = f"{count_text(days_in(gaps.lost), 'day')} Kafka no longer keeps: {ranges_text(gaps.lost)}"
        step = f"ksql-lake export --stream {gaps.feed}   (reads what is left, and closes the days)"
        yield Point("alarm", "lost days", gaps.feed, text, step, (gaps.feed,))
    if gaps.fading:
        text = (
            f"Kafka deletes {ranges_text(gaps.fading)} soon, or has begun to (it keeps rows {gaps.retention})"
        )
        yield Point(
            "alarm", "export now", gaps.feed, text, f"ksql-lake export --stream {gaps.feed}", (gaps.feed,)
        )


def _others(report: Report) -> Iterator[Point]:
    for other in report.others:
        if other.reason != "its feed is archived":
            held = f"{count_text(other.records, 'row')}, {size_text(other.bytes)}"
            yield Point("notice", "no feed", other.name, f"{held}: {other.reason}")

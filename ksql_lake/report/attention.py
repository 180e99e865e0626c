"""What a reader of the report should look at first, the worst first; the same points for every format.

It refuses to repeat a cause: a feed stands here once, with its status, and its other numbers stay in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ksql_lake.quantities import count_text, size_text
from ksql_lake.report.feed_model import FeedReport, Status
from ksql_lake.report.lake_model import KafkaGaps, Report
from ksql_lake.report.wording import days_in, ranges_text

Level = Literal["alarm", "notice"]

_ALARMS = frozenset({Status.FAILED, Status.STALE})
_SHOWN = 5
"""Disagreements told one by one; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to look at.

    Attributes:
        level: `alarm` where data is late, lost or doubtful, else `notice`.
        label: One or two words, a feed's status for instance.
        subject: What it is about.
        text: What is the matter.
        next_step: What to do; may be empty.
    """

    level: Level
    label: str
    subject: str
    text: str
    next_step: str = ""


def attention(report: Report) -> tuple[Point, ...]:
    """Gather the points, alarms first, each kind in the order of the report."""
    points = [*_feeds(report), *_files(report), *_disagreements(report), *_server(report), *_others(report)]
    return tuple(sorted(points, key=lambda point: point.level))


def _feeds(report: Report) -> Iterator[Point]:
    order = list(Status)
    for feed in sorted(report.feeds, key=lambda feed: order.index(feed.status)):
        if not feed.status.calm:
            yield Point(_level(feed), feed.status.label, feed.name, feed.reason, feed.next_step)
        if feed.fell_back:
            text = f"not continued, but read by pull query: {feed.fell_back}"
            yield Point("notice", "pull query", feed.name, text, "ksql-lake feeds validate --server")


def _level(feed: FeedReport) -> Level:
    return "alarm" if feed.status in _ALARMS else "notice"


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
    if server.problem:
        yield Point("notice", "no answer", "the server", server.problem)
    for gone in server.feeds_without_source:
        text = f"the server has no {gone.source}"
        yield Point("alarm", "no source", gone.feed, text, f"ksql-lake feeds archive {gone.feed}")
    for gaps in server.gaps:
        yield from _gaps(gaps)
    if server.sources_without_feed:
        count = count_text(len(server.sources_without_feed), "source")
        names = ", ".join(source.name for source in server.sources_without_feed)
        yield Point("notice", "no feed", count, f"nobody exports {names}", "ksql-lake feeds discover")


def _gaps(gaps: KafkaGaps) -> Iterator[Point]:
    if gaps.lost:
        text = f"{count_text(days_in(gaps.lost), 'day')} Kafka no longer keeps: {ranges_text(gaps.lost)}"
        step = f"ksql-lake export --stream {gaps.feed}   (reads what is left, and closes the days)"
        yield Point("alarm", "lost days", gaps.feed, text, step)
    if gaps.fading:
        text = f"Kafka is about to delete {ranges_text(gaps.fading)} (it keeps rows {gaps.retention})"
        yield Point("alarm", "export now", gaps.feed, text, f"ksql-lake export --stream {gaps.feed}")


def _others(report: Report) -> Iterator[Point]:
    for other in report.others:
        if other.reason != "its feed is archived":
            held = f"{count_text(other.records, 'row')}, {size_text(other.bytes)}"
            yield Point("notice", "no feed", other.name, f"{held}: {other.reason}")

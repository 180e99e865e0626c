"""Sources that no feed exports, sources that are gone, and days that Kafka can still deliver."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta

from ksql_lake.errors import KsqlError, KsqlLakeError, StatementError
from ksql_lake.feeds import Feeds, StreamFeed, streams_of
from ksql_lake.ksqldb import KsqlClient, describe, list_sources
from ksql_lake.ksqldb.inventory import Retention, topic_retention
from ksql_lake.ksqldb.reach import copied_sources
from ksql_lake.lake.closing import unread_rows
from ksql_lake.lake.days import Days, day_ranges
from ksql_lake.report.feed_model import FeedReport
from ksql_lake.report.lake_model import FeedWithoutSource, KafkaGaps, ServerSide, SourceWithoutFeed

Looked = Mapping[str, str]
"""Day -> when it was last read, ISO 8601 UTC."""


def ask_server(
    client: KsqlClient,
    feeds: Feeds,
    reports: Sequence[FeedReport],
    *,
    looked: Mapping[str, Looked],
    now: datetime,
) -> ServerSide:
    """Compare feeds and sources; a server that does not answer is part of the result.

    Args:
        client: The server.
        feeds: All feed files; an archived feed's source counts as one with a feed.
        reports: The active feeds' reports.
        looked: Stream feed -> when its days were last read.
        now: The present.
    """
    try:
        sources = {source.name: source for source in list_sources(client)}
        named = {file.feed.source for file in feeds.files}
        named |= copied_sources(client, feeds.offset_sources & sources.keys())
        streams = {feed.name: feed for feed in streams_of(feeds.enabled)}
        return ServerSide(
            asked=True,
            url=client.url,
            sources_without_feed=tuple(
                SourceWithoutFeed(source.name, source.kind)
                for source in sources.values()
                if source.name not in named
            ),
            feeds_without_source=tuple(
                FeedWithoutSource(feed.name, feed.source)
                for feed in sorted(feeds.enabled, key=lambda feed: feed.name)
                if feed.source not in sources
            ),
            gaps=tuple(
                _gaps(
                    streams[report.name],
                    _ask_retention(client, streams[report.name], sources),
                    wanted,
                    looked.get(report.name, {}),
                    now,
                )
                for report in reports
                if report.name in streams and (wanted := _unsure_days(report))
            ),
        )
    except KsqlError as error:
        return ServerSide(asked=True, url=client.url, problem=_one_line(error))


def _ask_retention(client: KsqlClient, feed: StreamFeed, sources: Collection[str]) -> Retention:
    if feed.topic_retention_hours is not None:
        return topic_retention(feed, "")
    if feed.source not in sources:
        return Retention(None, known=False, text="for an unknown time: the server has no such source")
    try:
        return topic_retention(feed, describe(client, feed.source).statement)
    except StatementError as error:
        return Retention(None, known=False, text=f"for an unknown time: {error.message}")


def _unsure_days(report: FeedReport) -> list[date]:
    """Return the days that have ended and are not complete; today will be read anyway."""
    if report.coverage is None:
        return []
    found = [*report.coverage.missing_days, *report.coverage.open_days]
    return sorted(day for days in found for day in days if day < report.coverage.last)


def _gaps(feed: StreamFeed, retention: Retention, days: list[date], looked: Looked, now: datetime) -> KafkaGaps:
    sorted_days: dict[str, list[date]] = {"deliverable": [], "fading": [], "lost": [], "unknown": []}
    for day in days:
        sorted_days[_fate(feed, retention, day, looked, now)].append(day)
    ranges: dict[str, tuple[Days, ...]] = {fate: day_ranges(found) for fate, found in sorted_days.items()}
    return KafkaGaps(feed.name, feed.source, retention.hours, retention.text, **ranges)


def _fate(feed: StreamFeed, retention: Retention, day: date, looked: Looked, now: datetime) -> str:
    if not retention.known:
        return "unknown"
    if retention.hours is None:
        return "deliverable"
    unread = unread_rows(looked, day, feed.zone, keeps=timedelta(hours=retention.hours), now=now)
    if unread is None:
        return "deliverable"
    # The report asks for an export as soon as the sensor alerts, not only when rows are gone.
    return "fading" if unread.fate == "urgent" else unread.fate


def _one_line(error: KsqlLakeError) -> str:
    return " ".join(f"{error.location}: {error.message}".split()) if error.where else error.message

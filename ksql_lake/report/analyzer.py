"""Build the report from a lake's metadata, the feed files and, on request, the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from ksql_lake.feeds import Feed, Feeds, StreamFeed
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import FeedState
from ksql_lake.lake.closing import in_the_future, read_to_end
from ksql_lake.lake.commit.check_record import CheckNotes
from ksql_lake.lake.day_zone import with_its_zone
from ksql_lake.lake.days import day_of, day_ranges
from ksql_lake.report.agreement import SAMPLE, cross_check
from ksql_lake.report.check_facts import check_facts
from ksql_lake.report.check_model import CheckFacts
from ksql_lake.report.feed_model import (
    ColumnPoint,
    Coverage,
    DayPoint,
    EvidenceFacts,
    ExportPoint,
    FailureFacts,
    FeedReport,
    Freshness,
    Status,
    VersionPoint,
)
from ksql_lake.report.lake_facts import FeedMetadata, MetadataReader
from ksql_lake.report.lake_model import FORMAT, BrokenFeed, OtherData, Report, ServerSide, Totals
from ksql_lake.report.recency import outside_days, recency
from ksql_lake.report.silence import ask_server
from ksql_lake.report.status import current_records, doubt, judge, last_failure

GRACE = timedelta(days=1)
"""How long an ended day may stay open before it counts against a feed: until the next daily export."""

EXPORTS = 100
"""How many of a feed's newest exports a report lists."""


def coverage(feed: StreamFeed, looked: Mapping[str, str], *, now: datetime) -> Coverage:
    """Sort a feed's days, from `start_date` to today in its zone.

    Args:
        feed: The feed.
        looked: Day -> when it was last read, ISO 8601.
        now: The present.
    """
    today = day_of(now, feed.zone)
    opened: list[date] = []
    missing: list[date] = []
    complete = 0
    day = feed.start_date
    while day < today:
        if day.isoformat() not in looked:
            missing.append(day)
        elif read_to_end(looked, day, feed.zone, now=now):
            complete += 1
        else:
            opened.append(day)
        day += timedelta(days=1)
    if feed.start_date <= today:
        opened.append(today)
    return Coverage(
        first=feed.start_date,
        last=today,
        timezone=feed.timezone,
        complete=complete,
        open=len(opened),
        missing=len(missing),
        open_days=day_ranges(opened),
        missing_days=day_ranges(missing),
    )


def overdue_days(found: Coverage, *, now: datetime) -> list[date]:
    """Return the open days that ended longer than `GRACE` ago."""
    limit = day_of(now - GRACE, ZoneInfo(found.timezone))
    return [day for days in found.open_days for day in days if day < limit]


class MetadataAnalyzer:
    """Makes reports of a lake.

    Args:
        reader: Reads the lake's metadata.
        feeds: The feed files.
        client: The server to ask; None leaves its part out.
        sample: Files of each feed whose footers are compared with the metadata; 0 for none.
        now: The present; for tests.
    """

    def __init__(
        self,
        reader: MetadataReader,
        feeds: Feeds,
        *,
        client: KsqlClient | None = None,
        sample: int = SAMPLE,
        now: datetime | None = None,
    ) -> None:
        self.reader = reader
        self.feeds = feeds
        self.client = client
        self.sample = sample
        self.now = now

    def generate_report(self) -> Report:
        """Read everything and return the report.

        Raises:
            LakeError: The lake's folder cannot be listed; a feed that cannot be read is part of the report.
        """
        now = self.now or datetime.now(UTC)
        metadata = self.reader.list_all_metadata(now=now)
        agreement = cross_check(
            self.reader.storage,
            self.reader.connection,
            metadata,
            per_feed=self.sample,
            turn=now.toordinal(),
        )
        known = {(one.layout.kind, one.name): one for one in metadata}
        reports = []
        for feed in sorted(self.feeds.active, key=lambda feed: feed.name):
            one = known.get((feed.kind, feed.name))
            ratio = agreement.ratios.get(one.layout) if one is not None else None
            reports.append(_feed_report(feed, one, ratio, now))
        return Report(
            format=FORMAT,
            generated_at=now,
            lake=self.reader.root,
            totals=totals_of(reports),
            feeds=tuple(reports),
            others=_others(self.feeds, metadata),
            broken_feeds=tuple(
                BrokenFeed(broken.name, str(broken.path), broken.error.problems)
                for broken in self.feeds.quarantined
                if not broken.archived
            ),
            cross_check=agreement.check,
            server=self._ask_server(reports, metadata, now),
        )

    def _ask_server(
        self, reports: Sequence[FeedReport], metadata: Sequence[FeedMetadata], now: datetime
    ) -> ServerSide:
        if self.client is None:
            return ServerSide(asked=False)
        looked = {one.name: one.state.looked for one in metadata if one.state and one.layout.kind == "stream"}
        return ask_server(self.client, self.feeds, reports, looked=looked, now=now)


def _feed_report(
    feed: Feed, metadata: FeedMetadata | None, parquet_ratio: float | None, now: datetime
) -> FeedReport:
    state = metadata.state if metadata is not None and metadata.state is not None else FeedState(kind=feed.kind)
    history = metadata.history if metadata is not None else None
    fresh, questioned = _freshness(feed, state, now), doubt(state, now=now)
    covered, overdue = _coverage(feed, state, now)
    late = history.late if history is not None else {}
    exports = history.exports if history is not None else []
    checks = _checks(feed, metadata)
    judgement = partial(judge, feed, metadata, freshness=fresh, coverage=covered, overdue=overdue)
    judged = judgement(questioned=questioned, checks=checks)
    keys = state.partition_keys()
    made = FeedReport(
        name=feed.name,
        kind=feed.kind,
        source=feed.source,
        description=feed.description,
        enabled=feed.enabled,
        status=judged.status,
        reason=judged.reason,
        next_step=judged.next_step,
        running=metadata is not None and metadata.attempt is not None and metadata.attempt.alive,
        records=state.records,
        current_records=current_records(state),
        bytes=state.bytes,
        files=sum(len(part.files) for part in state.partitions.values()),
        partitions=len(keys),
        first_partition=keys[0] if keys else None,
        last_partition=keys[-1] if keys else None,
        min_event_time=_moment(min(_events(state, "min_event"), default=None)),
        max_event_time=_moment(max(_events(state, "max_event"), default=None)),
        last_export=exports[-1] if exports else None,
        evidence=_evidence(state),
        freshness=fresh,
        failures=_failure_facts(metadata),
        coverage=covered,
        late_rows=history.late_rows if history is not None else 0,
        parquet_ratio=parquet_ratio,
        json_ratio=history.json_ratio if history is not None else None,
        days=_days(state, late),
        versions=_versions(state, metadata),
        exports=tuple(exports[-EXPORTS:]),
        history_from=history.first_at if history is not None else None,
        remarks=(*_remarks(metadata), *_outside(state), *_fell_back(state), *filter(None, [questioned])),
        fell_back=state.last_read.fell_back if state.last_read is not None else "",
        checks=checks,
    )
    return _described(made, feed, state, exports, now)


def _described(
    made: FeedReport, feed: Feed, state: FeedState, exports: Sequence[ExportPoint], now: datetime
) -> FeedReport:
    """Add how recent the rows are, and the facts of the feed itself."""
    return replace(
        made,
        recency=recency(made.max_event_time, exports, now=now),
        outside=outside_days(feed, state, now=now),
        owners=feed.owners,
        columns=tuple(ColumnPoint(each.name, each.type.text) for each in state.columns or ()),
        schedule=feed.schedule or DEFAULT_SCHEDULES[feed.kind],
        schedule_default=feed.schedule is None,
        left_out=_left_out(state),
    )


def _checks(feed: Feed, metadata: FeedMetadata | None) -> tuple[CheckFacts, ...]:
    notes = metadata.checks if metadata is not None else CheckNotes()
    exports = metadata.history.exports if metadata is not None else []
    # Of a lake that cannot be read all results count: the feed's status says that it cannot be read.
    state = metadata.state if metadata is not None else None
    last_commit = state.sequence if state is not None else notes.commit
    return check_facts(feed, notes, last_export=exports[-1].commit if exports else 0, last_commit=last_commit)


def _fell_back(state: FeedState) -> list[str]:
    """Return why a `continue` feed was not read on from its marks, or will not be next time."""
    if state.last_read is not None and state.last_read.fell_back:
        why = state.last_read.fell_back
        return [f"the last export read it by pull query instead of from its marks: {why}"]
    if state.continued is not None and state.continued.out:
        return [f"the next export reads the stream from its first row on, because of {state.continued.out}"]
    return []


def _evidence(state: FeedState) -> EvidenceFacts | None:
    found = state.last_read.evidence if state.last_read is not None else None
    if found is None:
        return None
    return EvidenceFacts(found.level, found.text, found.isolation, tuple(found.caveats))


def _freshness(feed: Feed, state: FeedState, now: datetime) -> Freshness:
    target = feed.checks.max_age_hours
    if not state.last_export:
        return Freshness(None, target, None)
    # A clock that is behind the clock of the commit makes no age negative.
    age = max(0.0, (now - datetime.fromisoformat(state.last_export)).total_seconds() / 3600)
    # A clock that was ahead would keep a feed fresh until then, even if no export starts any more.
    met = age <= target and not in_the_future(state.last_export, now) if target is not None else None
    return Freshness(age, target, met)


def _coverage(feed: Feed, state: FeedState, now: datetime) -> tuple[Coverage | None, list[date]]:
    if not isinstance(feed, StreamFeed):
        return None, []
    feed = with_its_zone(feed, state)
    found = coverage(feed, state.looked, now=now)
    return found, overdue_days(found, now=now)


def _failure_facts(metadata: FeedMetadata | None) -> FailureFacts | None:
    failure = last_failure(metadata) if metadata is not None else None
    if metadata is None or failure is None:
        return None
    at = datetime.fromisoformat(failure.at).astimezone(UTC)
    return FailureFacts(metadata.failures.count, at, failure.error, failure.message, failure.hint)


def _days(state: FeedState, late: dict[str, int]) -> tuple[DayPoint, ...]:
    if state.kind == "table":
        return ()
    parts = ((key, state.partitions[key]) for key in state.partition_keys())
    return tuple(
        DayPoint(date.fromisoformat(key), part.records, part.bytes, late.get(key, 0), state.evidence.get(key))
        for key, part in parts
    )


def _versions(state: FeedState, metadata: FeedMetadata | None) -> tuple[VersionPoint, ...]:
    if state.kind == "stream" or metadata is None:
        return ()
    points = {
        number: VersionPoint(number, point.records, point.bytes, point.committed_at, kept=False)
        for number, point in metadata.history.versions.items()
    }
    for key, part in state.partitions.items():
        number = int(key.removeprefix("v"))
        at = datetime.fromisoformat(part.committed_at)
        evidence = state.evidence.get(key)
        points[number] = VersionPoint(number, part.records, part.bytes, at, kept=True, evidence=evidence)
    return tuple(points[number] for number in sorted(points))


def _left_out(state: FeedState) -> dict[str, int]:
    return dict(state.last_read.outside) if state.last_read is not None else {}


def _outside(state: FeedState) -> tuple[str, ...]:
    found = _left_out(state)
    if not found:
        return ()
    text = ", ".join(f"{count:,} {why}" for why, count in found.items())
    return (f"the last export saw rows that belong to no day of the feed and did not land: {text}",)


def _remarks(metadata: FeedMetadata | None) -> tuple[str, ...]:
    remarks = []
    if metadata is not None and metadata.attempt is not None and metadata.attempt.alive:
        remarks.append("an export is running")
    if metadata is not None and metadata.history.first > 1:
        since = f"commit {metadata.history.first:,}"
        remarks.append(f"late rows, removed versions and the ratio to JSON are counted from {since} on")
    return tuple(remarks)


def totals_of(reports: Sequence[FeedReport]) -> Totals:
    """Sum up the feeds of a report."""
    counted = Counter(report.status for report in reports)
    covered = [report.coverage for report in reports if report.coverage is not None]
    return Totals(
        feeds=len(reports),
        statuses={status: counted[status] for status in Status if counted[status]},
        records=sum(report.records for report in reports),
        bytes=sum(report.bytes for report in reports),
        files=sum(report.files for report in reports),
        partitions=sum(report.partitions for report in reports),
        late_rows=sum(report.late_rows for report in reports),
        complete_days=sum(one.complete for one in covered),
        open_days=sum(one.open for one in covered),
        missing_days=sum(one.missing for one in covered),
    )


def _others(feeds: Feeds, metadata: Sequence[FeedMetadata]) -> tuple[OtherData, ...]:
    active = {(feed.kind, feed.name) for feed in feeds.active}
    archived = {(feed.kind, feed.name) for feed in feeds.archived}
    broken = {file.name for file in feeds.quarantined}
    others = []
    for one in metadata:
        key = (one.layout.kind, one.name)
        if key in active or one.state is None or one.state.sequence == 0:
            continue
        reason = "there is no feed file for it"
        if key in archived:
            reason = "its feed is archived"
        elif one.name in broken:
            reason = "its feed file cannot be used"
        others.append(OtherData(one.name, one.layout.kind, one.state.records, one.state.bytes, reason))
    return tuple(others)


def _events(state: FeedState, name: str) -> list[int]:
    values = (getattr(part, name) for part in state.partitions.values())
    return [value for value in values if value is not None]


def _moment(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a time outside the calendar

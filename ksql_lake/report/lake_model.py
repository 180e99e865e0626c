"""What the report says of the lake as a whole, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ksql_lake.lake.days import Days
from ksql_lake.report.feed_model import FeedReport, Kind, Status

FORMAT = 2
"""Version of the format; grows when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class OtherData:
    """Data in the lake that no active feed owns.

    Attributes:
        name: Its folder's name.
        kind: `stream` or `table`.
        records: Its rows.
        bytes: Their size.
        reason: Why it has no active feed.
    """

    name: str
    kind: Kind
    records: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class BrokenFeed:
    """A feed file that cannot be used.

    Attributes:
        name: Its name without `.json`.
        path: The file.
        problems: Everything wrong with it.
    """

    name: str
    path: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A place where files and metadata say different things.

    Attributes:
        feed: The feed.
        path: The file, relative to the lake.
        what: What each side says.
    """

    feed: str
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """The comparison of the metadata with Parquet footers and file sizes.

    Attributes:
        files: Files the lake holds.
        sampled: How many of them were checked.
        summaries: How many `_metadata.json` were compared with the manifests.
        disagreements: The differences.
    """

    files: int
    sampled: int
    summaries: int
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True)
class SourceWithoutFeed:
    """A stream or table of the server that no feed file names.

    Attributes:
        name: Its name.
        kind: `stream` or `table`.
    """

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class FeedWithoutSource:
    """A feed whose source the server does not have.

    Attributes:
        feed: The feed.
        source: What it names.
    """

    feed: str
    source: str


@dataclass(frozen=True, slots=True)
class KafkaGaps:
    """A stream's days that are not complete, by what Kafka can still deliver.

    Kafka deletes whole segments, by the time of their records, so days near the border may be either.

    Attributes:
        feed: The feed.
        source: Its source.
        retention_hours: How long the topic keeps records; null when unknown or without limit.
        retention: The same in words, and where it is known from.
        deliverable: Days Kafka still has.
        fading: Days of which Kafka has a part, or is about to delete it.
        lost: Days older than Kafka keeps.
        unknown: Days of which nothing is known, because the retention is unknown.
    """

    feed: str
    source: str
    retention_hours: float | None
    retention: str
    deliverable: tuple[Days, ...] = ()
    fading: tuple[Days, ...] = ()
    lost: tuple[Days, ...] = ()
    unknown: tuple[Days, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSide:
    """The comparison of the feeds with the server's sources.

    Attributes:
        asked: Whether it was asked at all.
        url: Its address; empty when it was not asked.
        problem: Why it gave no answer; empty when it did.
        sources_without_feed: Sources that no feed exports.
        feeds_without_source: Feeds that can no longer be exported.
        gaps: Days that are not complete, by what Kafka can still deliver.
    """

    asked: bool
    url: str = ""
    problem: str = ""
    sources_without_feed: tuple[SourceWithoutFeed, ...] = ()
    feeds_without_source: tuple[FeedWithoutSource, ...] = ()
    gaps: tuple[KafkaGaps, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """The report's sums.

    Attributes:
        feeds: Active feeds.
        statuses: How many of them have each status, in the order of severity; only those that occur.
        records: Rows of all active feeds.
        bytes: Size of their files.
        files: How many.
        partitions: Days and versions that have files.
        late_rows: Rows that came late.
        complete_days: Of all streams.
        open_days: Of all streams.
        missing_days: Of all streams.
    """

    feeds: int
    statuses: dict[Status, int]
    records: int
    bytes: int
    files: int
    partitions: int
    late_rows: int
    complete_days: int
    open_days: int
    missing_days: int


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report.

    Attributes:
        format: Version of this format.
        generated_at: When it was made.
        lake: The lake's folder.
        totals: The sums.
        feeds: The active feeds, by name.
        others: Data without an active feed.
        broken_feeds: Feed files that cannot be used.
        cross_check: Metadata against files.
        server: Sources without feeds, feeds without sources, and days Kafka still has.
    """

    format: int
    generated_at: datetime
    lake: str
    totals: Totals
    feeds: tuple[FeedReport, ...]
    others: tuple[OtherData, ...]
    broken_feeds: tuple[BrokenFeed, ...]
    cross_check: CrossCheck
    server: ServerSide

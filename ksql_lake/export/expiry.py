"""Find days of a stream whose rows Kafka deletes, or is about to delete, before an export has read them."""

# Judged by ROWTIME. Kafka deletes whole segments, so it may delete later than said here and never earlier.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ksql_lake.export.topology import Topology
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb.inventory import Retention, topic_retention
from ksql_lake.lake import FeedState
from ksql_lake.lake.closing import Fate, unread_rows
from ksql_lake.lake.days import Days, day_of, day_ranges
from ksql_lake.quantities import age_text

FATES: tuple[Fate, ...] = ("lost", "fading", "urgent")

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class DayAtRisk:
    """A day that was not read to its end.

    Attributes:
        day: The day.
        fate: `urgent` (its first unread rows will soon be deleted), `fading` (they may be gone already) or
            `lost` (all of them may be).
        until: When Kafka begins to delete its unread rows (UTC).
    """

    day: date
    fate: Fate
    until: datetime


def kept_retention(feed: StreamFeed, topology: Topology) -> Retention:
    """Return how long the topic of a feed keeps records, by the feed and the saved topology of the server."""
    known = topology.sources.get(feed.source)
    return topic_retention(feed, known.statement if known is not None else "")


def days_at_risk(
    feed: StreamFeed, state: FeedState, retention: Retention, *, now: datetime
) -> Iterator[DayAtRisk]:
    """Yield the days at risk, oldest first; none where the retention is unlimited or unknown.

    Lost days of a feed that was never exported are left out: no feed asked for them while Kafka had them.
    """
    if retention.hours is None:
        return
    keeps = timedelta(hours=retention.hours)
    day, today = feed.start_date, day_of(now, feed.zone)
    while day <= today:
        unread = unread_rows(state.looked, day, feed.zone, keeps=keeps, now=now)
        if unread is not None and unread.fate in FATES and (unread.fate != "lost" or state.sequence):
            yield DayAtRisk(day, unread.fate, unread.until)
        day += timedelta(days=1)


def days_read_late(
    feed: StreamFeed, basis: Mapping[str, str], read: Iterable[date], retention: Retention, *, now: datetime
) -> list[DayAtRisk]:
    """Return the days that an export has read after Kafka had begun to delete their rows.

    None of a feed that was never exported before: no feed asked for them while Kafka had them.

    Args:
        feed: The feed.
        basis: Day -> when it had last been read before the export, ISO 8601.
        read: The days that the export has read, oldest first.
        retention: How long the topic keeps records.
        now: When the export began.
    """
    if retention.hours is None or not basis:
        return []
    keeps = timedelta(hours=retention.hours)
    found = ((day, unread_rows(basis, day, feed.zone, keeps=keeps, now=now)) for day in read)
    return [
        DayAtRisk(day, unread.fate, unread.until)
        for day, unread in found
        if unread is not None and unread.fate in ("lost", "fading")
    ]


def late_text(feed: StreamFeed, days: list[DayAtRisk], retention: Retention) -> str:
    """Return which days were read late, and what that means; empty where none was."""
    if not days:
        return ""
    told = {
        "lost": "read after Kafka could delete all of it",
        "fading": "read after Kafka could delete some of it",
    }
    lines = [f"{_shown(ranges)}: {told[fate]}" for fate in told if (ranges := fate_ranges(days, fate))]
    lines.append(f"Kafka keeps {feed.source} {retention.text}. Rows that it had deleted are not in the lake.")
    return "\n".join(lines)


def risk_text(feed: StreamFeed, days: list[DayAtRisk], retention: Retention) -> str:
    """Return what is at risk and what to do; empty where nothing is."""
    if not days:
        return ""
    lines = [line for fate in FATES for line in _lines(fate, [day for day in days if day.fate == fate])]
    window = f"--from {days[0].day} --to {days[-1].day}"
    lines.append(f"Kafka keeps {feed.source} {retention.text}.")
    lines.append(f"What to do: ksql-lake export --stream {feed.name} {window}, or materialise these days.")
    return "\n".join(lines)


def fate_ranges(days: list[DayAtRisk], fate: str) -> tuple[Days, ...]:
    """Return the days of a fate as ranges."""
    return day_ranges(day.day for day in days if day.fate == fate)


def safe_text(retention: Retention) -> str:
    """Return why nothing is at risk."""
    if retention.hours is None:
        return f"Kafka keeps the records {retention.text}."
    return f"Kafka is about to delete no unread day; it keeps the records for {age_text(retention.hours)}."


def _lines(fate: str, days: list[DayAtRisk]) -> Iterator[str]:
    ranges = fate_ranges(days, fate)
    if not ranges:
        return
    shown = _shown(ranges)
    first = min(day.until for day in days)
    match fate:
        case "urgent":
            yield f"{shown}: not exported, and Kafka begins to delete it at {first:%Y-%m-%d %H:%M} UTC"
        case "fading":
            yield f"{shown}: not exported, and Kafka has been deleting it since {first:%Y-%m-%d %H:%M} UTC"
        case _:
            yield f"{shown}: not exported before Kafka could delete all of it"


def _shown(ranges: Sequence[Days]) -> str:
    shown = ", ".join(str(each) for each in ranges[-_SHOWN:])
    return shown if len(ranges) <= _SHOWN else f"{sum(map(len, ranges[:-_SHOWN]))} days before, {shown}"

"""Find days of a stream whose rows Kafka deletes, or is about to delete, before an export has read them."""

# Judged by ROWTIME. Kafka deletes whole segments, so it may delete later than said here and never earlier.

from __future__ import annotations

from collections.abc import Iterator
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
    return f"Every day was read before Kafka deletes it, {age_text(retention.hours)} after it came."


def _lines(fate: str, days: list[DayAtRisk]) -> Iterator[str]:
    ranges = fate_ranges(days, fate)
    if not ranges:
        return
    shown = ", ".join(str(each) for each in ranges[-_SHOWN:])
    if len(ranges) > _SHOWN:
        shown = f"{sum(len(each) for each in ranges[:-_SHOWN])} days before, {shown}"
    first = min(day.until for day in days)
    match fate:
        case "urgent":
            yield f"{shown}: not exported, and Kafka begins to delete it at {first:%Y-%m-%d %H:%M} UTC"
        case "fading":
            yield f"{shown}: not exported, and Kafka has been deleting it since {first:%Y-%m-%d %H:%M} UTC"
        case _:
            yield f"{shown}: not exported before Kafka could delete all of it"

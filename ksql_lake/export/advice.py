"""Advice on what would make a feed's exports cheaper, from what its lake holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.compaction_plan import OPEN_FILES, plan_compaction
from ksql_lake.lake.days import day_of
from ksql_lake.quantities import count_text

LONG = 1_000_000
"""Rows from which on a scan of a topic is worth advice: a running 8.0.7 took 7 s of CPU for as many."""

SHARE = 4
"""How many times the rows of the days to be read a scan must have to be worth advice."""


def advice(feed: Feed, state: FeedState, partitions: Collection[str], *, now: datetime) -> Iterator[str]:
    """Yield the advice for an export that is about to read some days of a stream; nothing for a table.

    Args:
        feed: The feed.
        state: What its lake holds.
        partitions: The days that would be read.
        now: The present.
    """
    if not isinstance(feed, StreamFeed):
        return
    if feed.extraction != "continue":
        yield from _long_topic(feed, state, partitions, now)
    elif state.last_read is not None and state.last_read.fell_back:
        why = state.last_read.fell_back
        yield f"{feed.name} was read by pull query the last time, because it could not be continued: {why}"
    opened = plan_compaction(feed, state, older_than=1, now=now, open_files=OPEN_FILES).open_days
    if opened:
        files = sum(len(state.files_of(day)) for day in opened)
        many = f"{files:,} files of {count_text(len(opened), 'day')} that exports still write to"
        yield f"{feed.name} has {many}; few are left after: ksql-lake compact {feed.name} --open"


def _long_topic(
    feed: StreamFeed, state: FeedState, partitions: Collection[str], now: datetime
) -> Iterator[str]:
    """Return what a scan costs where most of it is wasted, judged by the rows that the lake holds."""
    oldest = ""
    if feed.topic_retention_hours is not None:
        oldest = day_of(now - timedelta(hours=feed.topic_retention_hours), feed.zone).isoformat()
    scanned = sum(part.records for day, part in state.partitions.items() if day >= oldest)
    wanted = sum(state.partitions[day].records for day in partitions if day in state.partitions)
    if scanned < LONG or scanned < SHARE * wanted:
        return
    yield (
        f"{feed.name} scans its topic at every export, {scanned:,} rows at least if Kafka keeps what the lake "
        f"holds, for days of {wanted:,}. {ways_out(feed)}"
    )


def ways_out(feed: Feed) -> str:
    """Return what helps where a topic is long, the best first."""
    return (
        f"What helps, best first: ksql-lake feeds prepare {feed.name} --continue; a derived stream WITH "
        "(RETENTION_MS = ...), which loses late rows; fewer columns; fewer exports (docs/large-topics.md)"
    )

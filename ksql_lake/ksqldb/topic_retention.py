"""How long Kafka keeps the records of a source, as far as that can be known without asking Kafka.

ksqlDB does not tell a topic's configuration. What the source's own statement says (`RETENTION_MS`) was true
when the topic was made; Kafka tools may have changed it since, so what a feed says wins. Where both are silent,
nothing is claimed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.quantities import age_text

_RETENTION = re.compile(r"[(,]\s*RETENTION_MS\s*=\s*'?(-?\d{1,20})'?", re.IGNORECASE)
_COMPACTED = re.compile(r"[(,]\s*CLEANUP_POLICY\s*=\s*'compact'", re.IGNORECASE)

_FOR_GOOD = 1000 * 365 * 86_400_000
"""Milliseconds that no calendar here can go back, and no Kafka has existed for."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic keeps records: for good, for a while, or nobody knows."""

    hours: float | None
    known: bool
    text: str


def topic_retention(feed: StreamFeed, statement: str) -> Retention:
    """Tell how long the topic of a feed's source keeps records: by the feed, else by the source's statement."""
    hours = feed.topic_retention_hours
    if hours is not None:
        return Retention(hours, known=True, text=f"for {age_text(hours)}, by the feed")
    return retention_of(statement)


def retention_of(statement: str) -> Retention:
    """Read how long a source's topic keeps records from the statement that made it."""
    if _COMPACTED.search(statement):
        return Retention(None, known=True, text="whatever its age: the topic is compacted")
    found = _RETENTION.search(statement)
    if found is None:
        return Retention(
            None, known=False, text="for an unknown time: the source's statement names no RETENTION_MS"
        )
    milliseconds = int(found.group(1))
    if not 0 <= milliseconds <= _FOR_GOOD:
        return Retention(None, known=True, text="without limit, by the source's statement")
    hours = milliseconds / 3_600_000
    return Retention(hours, known=True, text=f"for {age_text(hours)}, by the source's statement")

"""Estimate what an export costs the server: records scanned, seconds, cheaper ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ksql_lake.errors import StatementError, UnauthorizedError
from ksql_lake.export.advice import LONG, ways_out
from ksql_lake.export.continuing.preconditions import Look, look_at
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe
from ksql_lake.ksqldb.offsets import LogOffsets, topic_ends
from ksql_lake.lake import FeedState
from ksql_lake.quantities import count_text


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of one export.

    Attributes:
        scanned: Records that the server scans; None where that is unknown.
        seconds: How long it will take, by the last export that was read in the same way; None without one.
        basis: What the number of records rests on, or why there is none; a phrase.
        received: Rows that the last export received; None without one.
        advice: What would make the export cheaper, the best first; empty where it is not needed.
    """

    scanned: int | None
    seconds: float | None
    basis: str
    received: int | None = None
    advice: str = ""


def estimate(plan: ExportPlan, state: FeedState, client: KsqlClient) -> Cost:
    """Estimate what an export will cost; it sends two or three statements, and no query.

    Args:
        plan: The export.
        state: What the lake holds of its feed.
        client: The server.

    Raises:
        KsqlError: The server cannot be asked, or its answer is unusable.
    """
    feed = plan.feed
    if not plan.partitions:
        return Cost(0, 0.0, "nothing to read")
    try:
        scanned, basis = _scanned(plan, state, client)
    except (StatementError, UnauthorizedError) as error:
        scanned, basis = None, error.message
    return Cost(scanned, _seconds(feed, state, scanned), basis, _received(state), _advice(feed, scanned))


def _scanned(plan: ExportPlan, state: FeedState, client: KsqlClient) -> tuple[int | None, str]:
    """Return how many records are scanned, and what that number rests on."""
    feed = plan.feed
    if feed.extraction == "continue":
        return _of_new_rows(state, look_at(client, feed.source))
    source = describe(client, feed.source)
    if feed.kind == "table" and feed.extraction == "pull":
        return _of_table(state)
    return _of_topic(source, topic_ends(client, source.topic, _readers(source)))


def _readers(source: SourceDescription) -> tuple[str, ...]:
    return tuple(sink for query in source.read_queries for sink in query.sinks)


def _of_table(state: FeedState) -> tuple[int | None, str]:
    held = state.partitions.get(f"v{state.latest_version}")
    if held is None:
        return None, "the lake holds no version yet"
    return held.records, f"all rows of the table, as many as v{state.latest_version} has"


def _of_new_rows(state: FeedState, look: Look) -> tuple[int | None, str]:
    """Return what a feed that reads on has to read; on its first reading that is the whole derived stream."""
    if not look.ends:
        return None, "the server does not report where the derived stream's source ends"
    parts, held = count_text(len(look.ends), "partition"), state.continued
    if held is None or held.out or held.query != look.query:
        rows = sum(part.end - part.start for part in look.ends.values())
        return rows, f"all of the derived stream, as its source has it by Kafka's offsets ({parts})"
    marks = {number: mark.next for number, mark in held.source.items()}
    rows = sum(max(0, part.end - marks.get(number, part.start)) for number, part in look.ends.items())
    return rows, f"what is new in the source, by Kafka's offsets ({parts})"


def _of_topic(source: SourceDescription, ends: Mapping[int, LogOffsets]) -> tuple[int | None, str]:
    if not ends:
        return None, f"no query on the server reads {source.topic}, so its offsets are not reported"
    held = sum(part.end - part.start for part in ends.values())
    return held, f"all of {source.topic}, by Kafka's offsets ({count_text(len(ends), 'partition')})"


def _received(state: FeedState) -> int | None:
    return state.last_read.rows if state.last_read is not None else None


def _seconds(feed: Feed, state: FeedState, scanned: int | None) -> float | None:
    """Return how long it will take, by the last export that was read in the same way.

    A scan of a whole topic takes as long again, whatever it brings: the topic grows little from one export to
    the next. Reading on takes longer the more is new, and never less than waiting for the server takes.
    """
    read = state.last_read
    if read is None or (read.extraction or "pull") != feed.extraction:
        return None
    took = datetime.fromisoformat(state.last_export) - datetime.fromisoformat(read.read_at)
    seconds = took.total_seconds()
    if seconds < 0:
        return None  # the clock was set back in between
    if feed.extraction == "continue":
        return None if scanned is None else seconds * max(1.0, scanned / max(read.rows, 1))
    return seconds


def _advice(feed: Feed, scanned: int | None) -> str:
    if feed.kind != "stream" or feed.extraction == "continue" or scanned is None or scanned < LONG:
        return ""
    return ways_out(feed)

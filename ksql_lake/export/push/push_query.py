"""Start a push query from the first row on, and end it on the server."""

# The condition only saves traffic; `placing` decides which rows land.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime

from ksql_lake.errors import PropertyRefusedError, StatementError
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.push.beacon import Beacon
from ksql_lake.export.push.push_reading import PushReading, Sent
from ksql_lake.export.question import Question
from ksql_lake.export.statement import push_statement, window_condition
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient, Listening
from ksql_lake.ksqldb.offsets import topic_ends
from ksql_lake.lake.commit.marks import KnownDays, Marks
from ksql_lake.lake.days import Days

MOST_TERMS = 64
"""How many comparisons of offsets a condition may hold: ksqlDB compiles it into one Java method."""

_EARLIEST: dict[str, object] = {"auto.offset.reset": "earliest"}
_UNCACHED = ("cache.max.bytes.buffering", "statestore.cache.max.bytes")
"""The two names, old and new, of the store cache that would delay changes of a table."""


def positioned(
    feed: StreamFeed,
    days: Days,
    known: KnownDays,
    *,
    event_type: str,
    since: int,
    lasts: Mapping[int, int] | None = None,
) -> str:
    """Write the condition that leaves out rows the lake holds.

    Args:
        feed: The feed.
        days: The window.
        known: What the lake holds of the window.
        event_type: ksqlDB type of the event-time column.
        since: When the query begins, epoch ms: newer rows always come, because they show how far it is.
        lasts: Kafka partition -> offset of its last record when the query begins; rows from there on always
        come, because they prove that it was reached.
    """
    spans = list(_spans(days, known))
    if sum(len(marks) for _, marks in spans) > MOST_TERMS:
        spans = [(days, {})]
    wanted = []
    for span, marks in spans:
        inside = window_condition(feed, span, event_type=event_type)
        wanted.append(f"(({inside}) AND {_beyond(marks)})" if marks else f"({inside})")
    # The rows at the newest marks are asked for again: a recreated topic has other rows there.
    recognised = [
        f"(ROWPARTITION = {partition} AND ROWOFFSET = {mark.offset})"
        for partition, mark in list(known.newest.items())[:MOST_TERMS]
    ]
    proving = [
        f"(ROWPARTITION = {partition} AND ROWOFFSET >= {last})"
        for partition, last in list((lasts or {}).items())[:MOST_TERMS]
    ]
    return " OR ".join([*wanted, f"ROWTIME >= {since}", *recognised, *proving])


def _spans(days: Days, known: KnownDays) -> Iterator[tuple[Days, Marks]]:
    """Yield runs of days with the same marks; without marks all rows are wanted."""
    first: date = days.first
    keys = days.keys()
    for number, key in enumerate(keys):
        name = known.names.get(key)
        if number + 1 == len(keys) or known.names.get(keys[number + 1]) != name:
            last = date.fromisoformat(key)
            yield Days(first, last), known.of(key) or {}
            if number + 1 < len(keys):
                first = date.fromisoformat(keys[number + 1])


def _beyond(marks: Marks) -> str:
    each = [f"(ROWPARTITION = {number} AND ROWOFFSET > {mark.offset})" for number, mark in marks.items()]
    others = ", ".join(map(str, marks))
    return f"({' OR '.join(each)} OR ROWPARTITION NOT IN ({others}))"


@contextmanager
def listen(
    client: KsqlClient, question: Question, plan: ExportPlan, *, known: KnownDays, sighted: bool
) -> Iterator[PushReading]:
    """Start a push query; leaving ends it on the server.

    Args:
        client: The server.
        question: The query.
        plan: What the export reads.
        known: What the lake holds of a stream's days.
        sighted: Whether the server is known to report a query's positions, so that a condition can be sent.

    Raises:
        KsqlError: The server refused, or could not be reached.
    """
    feed, days = plan.feed, plan.days
    read_at = datetime.now(UTC)
    ends = topic_ends(client, question.topic, question.readers) if question.placed else {}
    sent = Sent(client, question, question.statement, read_at, ends)
    if isinstance(feed, StreamFeed) and days is not None and sighted and question.placed:
        lasts = {number: part.end - 1 for number, part in ends.items() if part.start < part.end}
        where = positioned(feed, days, known, event_type=question.event_type, since=sent.began, lasts=lasts)
        statement = push_statement(feed, question.columns, where=where, forms=question.forms)
        sent = Sent(client, question, statement, read_at, ends)
    table = not isinstance(feed, StreamFeed)
    with _started(sent, table=table) as listening, Beacon(client, feed) as beacon:
        yield PushReading(listening, sent, plan, known, beacon)


def _started(sent: Sent, *, table: bool) -> Listening:
    client, committed = sent.client, sent.question.committed
    if not table:
        return client.listen(sent.statement, properties=_EARLIEST, committed=committed)
    old, new = _UNCACHED
    try:
        return client.listen(sent.statement, properties={**_EARLIEST, old: 0}, committed=committed)
    except (StatementError, PropertyRefusedError) as error:
        if old not in error.message:
            raise
        return client.listen(sent.statement, properties={**_EARLIEST, new: 0}, committed=committed)

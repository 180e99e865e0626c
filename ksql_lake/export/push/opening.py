"""Starting a push query: from the first row on, with a condition where that is safe, ended on the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ksql_lake.errors import PropertyRefusedError, StatementError
from ksql_lake.export.plan import ExportPlan
from ksql_lake.export.push.beacon import Beacon
from ksql_lake.export.push.condition import positioned
from ksql_lake.export.push.reading import PushReading, Sent
from ksql_lake.export.question import Question
from ksql_lake.export.statement import push_statement
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient, Listening
from ksql_lake.ksqldb.offsets import topic_ends
from ksql_lake.lake.positions import KnownDays

_EARLIEST: dict[str, object] = {"auto.offset.reset": "earliest"}
_UNCACHED = ("cache.max.bytes.buffering", "statestore.cache.max.bytes")
"""The two names, old and new, of the store cache that would hold changes of a table back."""


@contextmanager
def listen(
    client: KsqlClient, question: Question, plan: ExportPlan, *, known: KnownDays, sighted: bool
) -> Iterator[PushReading]:
    """Start a push query; leaving ends it on the server.

    Args:
        client: The server.
        question: What to ask.
        plan: What the export reads.
        known: What the lake holds of a stream's days.
        sighted: The server is known to tell how far a query is, so it may be asked with a condition.

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

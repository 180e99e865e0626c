"""Choose how a derived stream is read: on from its marks, or from its first row."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ksql_lake.export.continuing.continued_reading import ContinuedReading
from ksql_lake.export.continuing.first_reading import entered
from ksql_lake.export.continuing.preconditions import FallBackError, Look, conditions, look_at
from ksql_lake.export.continuing.standing import clock_of, standing
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.question import Question
from ksql_lake.export.reading import Reading
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake.commit.continued import Continued
from ksql_lake.lake.commit.marks import KnownDays

_log = logging.getLogger(__name__)


@contextmanager
def continued(client: KsqlClient, question: Question, plan: ExportPlan, known: KnownDays) -> Iterator[Reading]:
    """Read a `continue` feed; leaving ends the query on the server.

    Args:
        client: The server.
        question: The query.
        plan: What the export reads.
        known: What the lake knows of the feed.

    Raises:
        FallBackError: A condition does not hold.
        TopicRecreatedError: The source was recreated.
        KsqlError: The server refused, or could not be reached.
    """
    feed, held = plan.feed, known.continued
    if not isinstance(feed, StreamFeed):
        raise TypeError("only streams are read on")
    look = look_at(client, feed.source)
    for condition in conditions(feed, client, look):
        if not condition.met:
            raise FallBackError(condition.text)
    why = outdated(feed, plan, look, held)
    current = standing(client, plan, look, held, going_on=not why, base=known.base)
    if held is None or why:
        _log.info("%s: %s; reading %s from its first row on", feed.name, why, feed.source)
        with entered(question, plan, current) as pushed:
            yield pushed
        return
    with closing(ContinuedReading(question, current, held)) as reading:
        yield reading


def outdated(feed: StreamFeed, plan: ExportPlan, look: Look, held: Continued | None) -> str:
    """Return why a feed cannot be read on from its marks and has to start over; empty where it can."""
    if held is None:
        return "nothing of it was read from a token yet"
    if held.out:
        return held.out
    if not held.sound:
        return "its marks do not have the digest that they should have"
    if held.query != look.query:
        return f"{feed.source} was recreated: {look.query} writes it, and before it was {held.query}"
    if len(held.sink) != look.source.partitions:
        return f"its topic has {look.source.partitions} partitions, and had {len(held.sink)}"
    if held.clock != clock_of(feed):
        return f"its days were by {held.clock}, and are by {clock_of(feed)} now"
    if held.since > feed.start_date.isoformat():
        return f"its start_date was {held.since}, and is {feed.start_date} now"
    if held.awaited and plan.window is not None and held.awaited <= plan.window.last.isoformat():
        return f"rows of {held.awaited} came before that day had begun"
    return ""

"""The condition of a push query: the window's rows beyond the marks, and what tells topics apart. Pure.

It only spares the server and the network rows that would be dropped here; what lands is decided by `placing`.
Where it would grow too long for the server it says less, and never too much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from ksql_lake.export.statement import window_condition
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.days import Days
from ksql_lake.lake.positions import KnownDays, Marks

MOST_TERMS = 64
"""How many comparisons of offsets a condition may hold: ksqlDB compiles it into one Java method."""


def positioned(
    feed: StreamFeed,
    days: Days,
    known: KnownDays,
    *,
    event_type: str,
    since: int,
    lasts: Mapping[int, int] | None = None,
) -> str:
    """Write the condition.

    Args:
        feed: The feed.
        days: The window.
        known: What the lake holds of it.
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
    # The rows at the newest marks are asked for again: a topic that was made anew has others there.
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
    """Give runs of days with the same marks; no marks means that all rows are wanted."""
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

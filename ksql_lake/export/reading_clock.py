"""The time at which a reading began: the earlier one of our clock and the server's."""

# A clock that is ahead would close days before their last rows came. Where the two differ by more than an
# hour, nothing is closed.

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.server_clock import ServerTime, server_time
from ksql_lake.lake import ReadFacts
from ksql_lake.lake.closing import Clock

REMARKABLE = timedelta(minutes=1)
"""A difference of clocks beyond this is logged as a warning."""

UNBELIEVABLE = timedelta(hours=1)
"""A difference beyond this closes no day."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """An instant, by our clock and by the machine's steady one, which is never set."""

    ours: datetime = field(default_factory=lambda: datetime.now(UTC))
    steady: float = field(default_factory=time.monotonic)

    def judged(self, theirs: ServerTime | None) -> tuple[Clock, timedelta]:
        """Return whose clock bounds this instant, and by how much ours was ahead of the other one."""
        if theirs is None:
            return "client", timedelta(0)
        ahead = self.ours - theirs.at(self.steady)
        return "disputed" if abs(ahead) > UNBELIEVABLE else theirs.origin, ahead


def timed(facts: ReadFacts, feed: Feed, client: KsqlClient, began: Beginning) -> ReadFacts:
    """Bound the time of a stream's reading by the server's clock, asked now; a table's is returned as it is."""
    if not isinstance(feed, StreamFeed):
        return facts
    clock, ahead = began.judged(server_time(client, feed.source))
    if abs(ahead) > REMARKABLE:
        _log.warning("%s: %s", feed.name, _difference(clock, ahead))
    read_at = datetime.fromisoformat(facts.read_at) - max(ahead, timedelta(0))
    return msgspec.structs.replace(
        facts,
        read_at=read_at.isoformat(timespec="milliseconds"),
        clock=clock,
        clock_ahead=round(ahead.total_seconds(), 3),
    )


def _difference(clock: Clock, ahead: timedelta) -> str:
    minutes = abs(ahead) / timedelta(minutes=1)
    far = f"{minutes:,.0f} minutes" if minutes < 120 else f"{minutes / 60:,.1f} hours"
    which = "ahead of" if ahead > timedelta(0) else "behind"
    whose = "the proxy's" if clock == "proxy" else "the server's"
    then = "days are closed by the earlier of the two"
    if clock == "disputed":
        then = "the rows land, but no day is closed before one of them is set right"
    return f"our clock is {far} {which} {whose}: {then}"

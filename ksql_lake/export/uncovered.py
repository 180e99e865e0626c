"""Sources of the server that no feed exports, and the feed file that would export each.

It refuses to decide for anybody: a proposal is a text for a person to look at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any

from ksql_lake.feeds import Feed, Feeds, feed_name, parse_feed
from ksql_lake.feeds.columns import needed_renames
from ksql_lake.feeds.model import EARLIEST
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe, list_sources
from ksql_lake.ksqldb.reach import Extraction, reach
from ksql_lake.ksqldb.topic_retention import retention_of

ASSUMED_DAYS = 7
"""How far back a proposed stream begins where nobody says how long its topic keeps records: Kafka's default."""


@dataclass(frozen=True, slots=True)
class UncoveredSource:
    """A source without a feed.

    Attributes:
        name: The source.
        kind: `stream` or `table`.
        feed: The name its feed would have.
        extraction: What kind of query can read it: `pull` or `push`.
        reason: Why no pull query can; empty for `pull`.
        first_day: The first day a stream's topic may still hold.
        rename: Names in the lake of the columns that cannot keep theirs.
    """

    name: str
    kind: str
    feed: str
    extraction: Extraction
    reason: str
    first_day: date
    rename: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        found = asdict(self)
        del found["first_day"]
        return found

    def feed_with(self, **keys: object) -> Feed:
        """Give the feed of this source with some keys set.

        Raises:
            FeedError: They do not fit.
        """
        raw = {"name": self.feed, "kind": self.kind, "source": self.name, **keys}
        if self.extraction == "push":
            raw["extraction"] = "push"
        if self.rename:
            raw["rename"] = dict(self.rename)
        return parse_feed(json.dumps(raw, default=str).encode())


def uncovered(client: KsqlClient, feeds: Feeds, *, today: date) -> list[UncoveredSource]:
    """Find the sources that no feed, active or archived, exports.

    Raises:
        KsqlError: The server cannot be asked.
    """
    exported = {file.feed.source for file in feeds.files}
    taken = {file.feed.name for file in feeds.files} | {broken.name for broken in feeds.quarantined}
    version = client.server_info().version
    found = []
    for source in list_sources(client):
        if source.name in exported:
            continue
        described = describe(client, source.name)
        how = reach(described, version)
        name = feed_name(source.name, taken=taken)
        taken.add(name)
        found.append(
            UncoveredSource(
                source.name,
                source.kind,
                name,
                how.extraction,
                how.reason,
                _first_day(described, today),
                needed_renames(source.kind, [column.name for column in described.columns]),
            )
        )
    return found


def _first_day(source: SourceDescription, today: date) -> date:
    hours = retention_of(source.statement).hours
    days = ASSUMED_DAYS if hours is None else int(hours // 24)
    return today - timedelta(days=min(days, (today - EARLIEST).days))

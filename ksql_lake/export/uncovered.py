"""List the server's sources that no feed exports, with a proposed feed file for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

from ksql_lake.feeds import Feed, Feeds, feed_name, parse_feed
from ksql_lake.feeds.feed_columns import needed_renames
from ksql_lake.feeds.model import EARLIEST
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe, list_sources
from ksql_lake.ksqldb.inventory import retention_of
from ksql_lake.ksqldb.reach import Carrier, Extraction, carrier, copied_sources, reach

HOW: Mapping[str, str] = {
    "pull": "read by pull query",
    "push": "read by push query",
    "continue": "read on from where the last export ended",
}
"""What an extraction does, in words."""

ASSUMED_DAYS = 7
"""Days before today at which a proposed stream begins if the topic's retention is unknown: Kafka's default."""


@dataclass(frozen=True, slots=True)
class UncoveredSource:
    """A source without a feed.

    Attributes:
        name: The source.
        kind: `stream` or `table`.
        feed: The name its feed would have.
        extraction: How it can be read: `pull`, `push`, or `continue`.
        reason: Why no pull query can read it, or what continuing rests on; empty for `pull`.
        first_day: The first day a stream's topic may still hold.
        rename: New names in the lake for the columns that cannot keep theirs.
        positions: The columns of a derived stream that carry its source's offsets; empty elsewhere.
        columns: The columns to export, if not all of them; empty for all.
    """

    name: str
    kind: str
    feed: str
    extraction: Extraction | Literal["continue"]
    reason: str
    first_day: date
    rename: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        found = asdict(self)
        del found["first_day"]
        return found

    def feed_with(self, **keys: object) -> Feed:
        """Return the feed of this source with some keys set.

        Raises:
            FeedError: They do not fit.
        """
        raw = {"name": self.feed, "kind": self.kind, "source": self.name, **keys}
        if self.extraction != "pull":
            raw["extraction"] = self.extraction
        for key in ("rename", "positions", "columns"):
            if proposed := getattr(self, key):
                raw[key] = proposed if key == "columns" else dict(proposed)
        return parse_feed(json.dumps(raw, default=str).encode())


def uncovered(client: KsqlClient, feeds: Feeds, *, today: date) -> list[UncoveredSource]:
    """Find the sources that no feed, active or archived, exports, nor a copy of theirs with their offsets.

    Raises:
        KsqlError: The server cannot be asked.
    """
    listed = list_sources(client)
    exported = {file.feed.source for file in feeds.files}
    # A file with a mistake is to export its source again once it is corrected.
    exported |= {broken.gleaned["source"] for broken in feeds.quarantined if "source" in broken.gleaned}
    # A source whose copy is exported counts as exported: `feeds prepare` puts the copy in its place.
    exported |= copied_sources(client, feeds.offset_sources & {source.name for source in listed})
    taken = {file.feed.name for file in feeds.files} | {broken.name for broken in feeds.quarantined}
    version = client.server_info().version
    found = []
    for source in listed:
        if source.name in exported:
            continue
        described = describe(client, source.name)
        how = reach(described, version)
        name = feed_name(source.name, taken=taken)
        taken.add(name)
        one = UncoveredSource(
            source.name,
            source.kind,
            name,
            how.extraction,
            how.reason,
            _first_day(described, today),
            needed_renames(source.kind, [column.name for column in described.columns]),
        )
        carried = carrier(described, version) if how.extraction == "pull" else None
        found.append(replace(one, **carrying_keys(described, carried), reason=carried.says) if carried else one)
    return found


def carrying_keys(stream: SourceDescription, carried: Carrier) -> dict[str, Any]:
    """Return the keys of a feed on a derived stream that carries its source's offsets.

    Args:
        stream: The derived stream.
        carried: What it carries.
    """
    keys: dict[str, Any] = {"positions": {"partition": carried.partition, "offset": carried.offset}}
    if not carried.obstacle:
        keys["extraction"] = "continue"
    if carried.made_key:
        # The key was made of the two columns and holds nothing that they do not.
        keys["columns"] = tuple(column.name for column in stream.columns if column.name != carried.made_key)
    return keys


def _first_day(source: SourceDescription, today: date) -> date:
    hours = retention_of(source.statement).hours
    days = ASSUMED_DAYS if hours is None else int(hours // 24)
    return today - timedelta(days=min(days, (today - EARLIEST).days))

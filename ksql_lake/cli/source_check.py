"""What the server says about the sources that feeds name, or could name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ksql_lake.errors import ConfigError, ServerUnavailableError
from ksql_lake.export import Days, ExportPlan, extract
from ksql_lake.feeds import Feed, Feeds, StreamFeed, feed_name
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.ksqldb import KsqlClient, SourceSummary, describe, list_sources


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """A source without a feed.

    Attributes:
        name: The source.
        kind: `stream` or `table`.
        feed: The name its feed would have.
        exportable: Whether a feed could export it.
        reason: Why not.
        fix: What would help.
    """

    name: str
    kind: str
    feed: str
    exportable: bool
    reason: str
    fix: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return asdict(self)


def reachable(client: KsqlClient) -> bool:
    """Tell whether the server answers."""
    try:
        client.server_info()
    except ServerUnavailableError:
        return False
    return True


def find_source(client: KsqlClient, name: str) -> SourceSummary:
    """Find a source by its exact name.

    Raises:
        ConfigError: The server has none; says which ones come close.
    """
    sources = {source.name: source for source in list_sources(client)}
    if name not in sources:
        hint = did_you_mean(name, sources) or "See what it has: ksql-lake feeds discover"
        raise ConfigError(f"the server has no stream or table {name!r}", hint=hint, server=client.url)
    return sources[name]


def check_feed(feed: Feed, client: KsqlClient) -> None:
    """Hold a feed against its source: kind, columns, event time, whether a pull query can read it.

    Raises:
        ConfigError: The feed does not fit the source.
        NotQueryableError: No pull query can read the source.
    """
    if isinstance(feed, StreamFeed):
        plan = ExportPlan(feed, days=Days(feed.start_date, feed.start_date))
    else:
        plan = ExportPlan(feed, version=1)
    # Writing the query of an export finds everything that would keep the export from being read.
    _ = extract(plan, client).question


def unexported(client: KsqlClient, feeds: Feeds) -> list[SourceCheck]:
    """Find the sources that no feed, active or archived, exports."""
    exported = {file.feed.source for file in feeds.files}
    taken = {file.feed.name for file in feeds.files} | {broken.name for broken in feeds.quarantined}
    found = []
    for source in list_sources(client):
        if source.name in exported:
            continue
        described = describe(client, source.name)
        name = feed_name(source.name, taken=taken)
        taken.add(name)
        found.append(
            SourceCheck(source.name, source.kind, name, described.queryable, described.reason, described.fix)
        )
    return found

"""What the server says about the sources that feeds name, or could name."""

from __future__ import annotations

from ksql_lake.errors import ConfigError, ServerUnavailableError
from ksql_lake.export import Days, ExportPlan, extract
from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.ksqldb import KsqlClient, SourceSummary, list_sources


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

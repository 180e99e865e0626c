"""Checks of feeds and their sources against the server."""

from __future__ import annotations

from ksql_lake.errors import ConfigError, ServerUnavailableError
from ksql_lake.export import Days, ExportPlan, extract
from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.ksqldb import KsqlClient, SourceSummary, describe, list_sources
from ksql_lake.ksqldb.reach import Reach, reach


def reachable(client: KsqlClient) -> bool:
    """Return whether the server answers."""
    try:
        client.server_info()
    except ServerUnavailableError:
        return False
    return True


def find_source(client: KsqlClient, name: str) -> SourceSummary:
    """Find a source by its exact name.

    Raises:
        ConfigError: The server has no such source; the hint names similar ones.
    """
    sources = {source.name: source for source in list_sources(client)}
    if name not in sources:
        hint = did_you_mean(name, sources) or "List its sources: ksql-lake feeds discover"
        raise ConfigError(f"the server has no stream or table {name!r}", hint=hint, server=client.url)
    return sources[name]


def how_read(name: str, client: KsqlClient) -> Reach:
    """Return what kind of query can read a source.

    Raises:
        ConfigError: The server has no source of this name.
        KsqlError: The server cannot be asked.
    """
    source = find_source(client, name)
    return reach(describe(client, source.name), client.server_info().version)


def writer_of(name: str, client: KsqlClient) -> str:
    """Return the name of the query that writes a source; empty for one that no query writes.

    Raises:
        KsqlError: The server cannot be asked.
    """
    return next((query.id for query in describe(client, name).write_queries), "")


def check_feed(feed: Feed, client: KsqlClient) -> None:
    """Check a feed against its source: kind, columns, event time, and whether its kind of query can read it.

    Raises:
        ConfigError: The feed does not fit the source.
        NotQueryableError: The feed says pull, and no pull query can read the source.
    """
    if isinstance(feed, StreamFeed):
        plan = ExportPlan(feed, days=Days(feed.start_date, feed.start_date))
    else:
        plan = ExportPlan(feed, version=1)
    # Building the query of an export finds every reason why the server could not run it.
    _ = extract(plan, client).question

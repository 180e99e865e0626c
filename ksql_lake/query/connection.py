"""A DuckDB connection to the whole lake, one view per feed.

The views are those of one moment: what was committed when the connection was made. It refuses to write to the
lake, and to know how a view is made.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.query.view import Committed, View
from ksql_lake.query.views import lake_views, quoted, text
from ksql_lake.settings import load_settings


def connect(root: str | Path | None = None, feeds: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Give a DuckDB connection, in memory, with one view per feed: a table's is its latest version.

    Args:
        root: The lake's folder; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.
    """
    settings = load_settings()
    lake = Lake(root or settings.lake_root)
    store = FeedStore(Path(feeds) if feeds is not None else settings.feeds_root).load()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for feed in store.active:
        create_views(connection, lake_views(Committed.of(lake.feed(feed))))
    return connection


def create_views(connection: duckdb.DuckDBPyConnection, views: list[View]) -> None:
    """Make views in a connection."""
    for view in views:
        connection.execute(f"CREATE OR REPLACE VIEW {quoted(view.name)} AS {view.sql}")
        connection.execute(f"COMMENT ON VIEW {quoted(view.name)} IS {text(view.comment)}")

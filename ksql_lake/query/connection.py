"""A DuckDB connection to the whole lake, one view per feed.

The views are those of one moment: what was committed and in place when the connection was made. It refuses to
write to the lake, and to let one feed that cannot be read take the others along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed
from ksql_lake.lake.equality import sql_name, sql_text
from ksql_lake.lake.storage import Storage
from ksql_lake.query.holdings import Holdings
from ksql_lake.query.view import Committed, View
from ksql_lake.query.views import base_views, derived_views

_log = logging.getLogger(__name__)


def connect(root: str | Path | None = None, feeds: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Give a DuckDB connection, in memory, with one view per feed.

    A stream `NAME` is the view `NAME`. A table is `NAME`, its latest version, and `NAME_versions`, all that are
    kept. Path columns are typed; a feed that was never exported has an empty view. The views do not change
    under the connection; connect again for what was exported since. Times are shown in UTC.

    Args:
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`. Data of a feed whose file is archived or
            gone has its view as well.

    Raises:
        ConfigError: The lake cannot be read at all.
    """
    holdings = Holdings.open(root, feeds)
    connection = blank_connection(holdings.lake.storage)
    populate(connection, holdings)
    return connection


def blank_connection(storage: Storage) -> duckdb.DuckDBPyConnection:
    """Give a connection that can read the lake's files and shows times in UTC, without views."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    storage.attach(connection)
    return connection


def populate(
    connection: duckdb.DuckDBPyConnection,
    holdings: Holdings,
    *,
    wanted: Callable[[Feed], bool] = lambda _feed: True,
) -> dict[str, KsqlLakeError]:
    """Make the views of the wanted feeds; gives, and logs, why a feed has none.

    A feed's own name is worth more than a name made of it: where a feed is called `users_versions`, the table
    `users` goes without the view of that name.
    """
    problems: dict[str, KsqlLakeError] = {}
    views: dict[str, View] = {}
    derived: list[View] = []
    for feed in filter(wanted, holdings.feeds):
        try:
            committed = Committed.of(holdings.lake.feed(feed))
            own, *more = base_views(committed)
            views[own.name] = own
            derived += [*more, *derived_views(committed)]
        except KsqlLakeError as error:
            problems[feed.name] = error
            _log.warning("no view of feed %s: %s", feed.name, error.message)
    taken = {feed.name for feed in holdings.feeds}
    create_views(connection, views.values())
    create_views(connection, (view for view in derived if view.name not in taken))
    return problems


def create_views(connection: duckdb.DuckDBPyConnection, views: Iterable[View]) -> None:
    """Make views, each with its comment; one of the same name is replaced."""
    for view in views:
        connection.execute(f"CREATE OR REPLACE VIEW {sql_name(view.name)} AS {view.sql}")
        connection.execute(f"COMMENT ON VIEW {sql_name(view.name)} IS {sql_text(view.comment)}")

"""Updates after each commit: table-format indexes and catalog files."""

from __future__ import annotations

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import CATALOGS
from ksql_lake.register import keep_fresh


def update_followers(lake: Lake, feed: Feed) -> None:
    """Update a feed's indexes and its views in the lake's catalogs; raises nothing.

    An update that fails is logged; the commit is not affected.
    """
    keep_fresh(lake.storage, lake.feed(feed).layout)
    if not _may_have_catalogs(lake):
        return
    from ksql_lake.query.sql.followed_catalogs import keep_catalogs  # noqa: PLC0415 - it waits for DuckDB

    keep_catalogs(lake, feed)


def _may_have_catalogs(lake: Lake) -> bool:
    try:
        return lake.storage.size(CATALOGS) is not None
    except KsqlLakeError:
        return True  # reading the record reports the problem

"""One feed as SQL views: pure text, made from the feed and what is committed of it.

A base view is exactly the rows of one commit. Views derived from these (what changed between versions) name the
base views and no files. It refuses to read anything itself.
"""

from __future__ import annotations

from ksql_lake.lake.scan import committed_rows
from ksql_lake.query.changes import CHANGE_VIEWS, change_views, followed
from ksql_lake.query.view import Builder, Committed, View

DERIVED: tuple[Builder, ...] = (change_views,)
"""Makers of views over a feed's base views, `NAME` and for a table `NAME_versions`, which their SQL names.

Each is asked for every feed that was ever exported and gives no views for feeds that it has none for.
"""


def lake_views(committed: Committed) -> list[View]:
    """Give a feed's views, base views first; before its first export they are empty.

    A stream `NAME` has the view `NAME`. A table has `NAME`, its latest version, and `NAME_versions`, all.
    """
    return [*base_views(committed), *derived_views(committed)]


def base_views(committed: Committed) -> list[View]:
    """Give the views that name files."""
    feed, state, address = committed.feed, committed.state, committed.address
    about = feed.description or f"{feed.kind} {feed.source}"
    if feed.kind == "stream":
        return [View(feed.name, committed_rows(state, address), about)]
    newest = state.partition_keys()[-1:]
    return [
        View(feed.name, committed_rows(state, address, partitions=newest), f"{about} (the latest version)"),
        View(f"{feed.name}_versions", committed_rows(state, address), f"{about} (all kept versions)"),
    ]


def derived_views(committed: Committed) -> list[View]:
    """Give the views that are made of the base views; none before the first export."""
    if committed.state.columns is None:
        return []
    return [view for build in DERIVED for view in build(committed)]


def listed_views(committed: Committed) -> list[tuple[str, str]]:
    """Give the names of a feed's views with their comments, without making their SQL."""
    about = committed.feed.description or f"{committed.feed.kind} {committed.feed.source}"
    name = committed.feed.name
    if committed.feed.kind == "stream":
        return [(name, about)]
    found = [(name, f"{about} (the latest version)"), (f"{name}_versions", f"{about} (all kept versions)")]
    if committed.state.columns is not None and followed(committed.state):
        found += [(f"{name}{ending}", f"{about} ({what})") for ending, what in CHANGE_VIEWS.items()]
    return found

"""The time zone of the days that a lake holds."""

from __future__ import annotations

from typing import TypeVar

from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake.commit.state import FeedState

Zoned = TypeVar("Zoned", bound=Feed)


def with_its_zone(feed: Zoned, state: FeedState) -> Zoned:
    """Return a feed with the time zone of the days that the lake holds.

    Without its feed file a feed has none, and a feed file may have been edited.
    """
    pinned = state.meaning.timezone if state.meaning else ""
    if not isinstance(feed, StreamFeed) or pinned in {"", feed.timezone}:
        return feed
    return feed.model_copy(update={"timezone": pinned})

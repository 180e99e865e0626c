"""What a view is, and what the makers of views are given: a feed at one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ksql_lake.feeds.model import Feed
from ksql_lake.lake import FeedLake, FeedState


@dataclass(frozen=True, slots=True)
class View:
    """A view to be: its name, the SELECT it stands for, and one line of what it is."""

    name: str
    sql: str
    comment: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A feed at one commit.

    Attributes:
        feed: The feed.
        state: What is committed and in place.
        address: Where a reader finds a file that is given relative to the dataset folder.
        read_at: When the reading of a table's version began.
    """

    feed: Feed
    state: FeedState
    address: Callable[[str], str]
    read_at: Callable[[str], datetime]

    @classmethod
    def of(cls, lake: FeedLake) -> Committed:
        """Read what is committed of a feed."""
        state = lake.published()
        return cls(lake.feed, state, lake.address, lambda version: lake.read_at(state, version))


Builder = Callable[[Committed], list[View]]

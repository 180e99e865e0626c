"""What a view is, and what the makers of views are given: a feed at one commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ksql_lake.errors import LakeError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.timeline import Timeline, narrowed


@dataclass(frozen=True, slots=True)
class View:
    """A view to be: its name, the SELECT it stands for, and one line of what it is."""

    name: str
    sql: str
    comment: str


@dataclass(frozen=True, slots=True)
class Macro:
    """A table macro to be: its name, its parameter, the SELECT it stands for, and one line of what it is."""

    name: str
    parameter: str
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
    def of(cls, lake: FeedLake, commit: int | None = None) -> Committed:
        """Read what is committed of a feed, by now or at a commit.

        Raises:
            LakeError: Files of that commit were merged since with later ones, or are gone.
        """
        state = lake.published()
        if commit is not None and commit < state.sequence:
            state = _earlier(lake, state, commit)
        return cls(lake.feed, state, lake.address, lambda version: lake.read_at(state, version))


def _earlier(lake: FeedLake, now: FeedState, commit: int) -> FeedState:
    timeline = Timeline(lake.log, now)
    then = timeline.state(commit)
    if lake.feed.kind == "table" or not then.partitions:
        return then
    found = timeline.find(then.files(), then)
    if found.pieces:
        raise LakeError(
            "its files were merged with later ones since the connection was made",
            hint="Connect again; or read_stream(commit=...) for that moment.",
            feed=lake.feed.name,
        )
    return msgspec.structs.replace(
        then, shapes=now.shapes, forms=now.forms, partitions=narrowed(now, found.whole).partitions
    )


Builder = Callable[[Committed], list[View]]

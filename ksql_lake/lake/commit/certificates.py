"""Certify the days that had ended when an export read them: what the lake holds of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.closing import has_ended
from ksql_lake.lake.commit.manifest import DayCertificate, FileEntry, ReadFacts
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.checksum_sums import combined
from ksql_lake.lake.files.writer import StagedFile


def certificates(
    feed: StreamFeed,
    read: ReadFacts,
    state: FeedState,
    days: Sequence[str],
    fresh: Mapping[str, StagedFile],
    received: Mapping[str, int],
) -> list[DayCertificate]:
    """Return certificates of the days that had ended when they were read; none if the clock is disputed.

    Args:
        feed: The feed.
        read: How the rows were read.
        state: The feed's state before this commit.
        days: The window, in order.
        fresh: Day -> its new rows.
        received: Day -> rows received.
    """
    read_at = datetime.fromisoformat(read.read_at)
    found = []
    for day in days if read.clock != "disputed" else ():
        if not has_ended(date.fromisoformat(day), feed.zone, read_at):
            break
        parts: list[FileEntry | StagedFile] = [*state.files_of(day)]
        if day in fresh:
            parts.append(fresh[day])
        events = [edge for part in parts for edge in (part.min_event, part.max_event) if edge is not None]
        found.append(
            DayCertificate(
                partition=day,
                read=received.get(day, 0),
                rows=sum(part.records for part in parts),
                checksum=combined(part.checksum for part in parts),
                min_event=min(events, default=None),
                max_event=max(events, default=None),
                clock=read.clock,
            )
        )
    return found

"""Whether a table's snapshot may replace the version before it although it has fewer rows.

A version that lost more rows than the feed lets pass is read twice. What both readings show lands, marked; what
is below the feed's floor never does.
"""

from __future__ import annotations

from ksql_lake.errors import IncompleteResponseError, SnapshotRefusedError
from ksql_lake.feeds.model import TableFeed
from ksql_lake.lake import FeedState


class SmallSnapshotError(Exception):
    """A snapshot is suspiciously small for the first time; it is read once more."""


def lost_share(feed: TableFeed, state: FeedState, rows: int, *, seen: int | None) -> float:
    """Return the share of rows that a snapshot has lost, for it to be marked; 0 where that is within bounds.

    Args:
        feed: The feed.
        state: What the lake holds of it.
        rows: Rows of the snapshot.
        seen: Rows of the reading just before it, if that was suspiciously small.

    Raises:
        SmallSnapshotError: It is suspicious, and seen once only.
        IncompleteResponseError: Two readings do not show the same loss.
        SnapshotRefusedError: It is smaller than the feed allows, and was read twice.
    """
    # Not always the latest there ever was: doctor may have taken that one out.
    newest = (state.partition_keys() or [""])[-1]
    previous = state.partitions[newest].records if newest else 0
    lost = 1 - rows / previous if previous else 0.0
    allowed = feed.min_ratio_to_previous == 0 and previous > 0
    refused = rows < max(previous * feed.min_ratio_to_previous, 1) and not allowed
    if not refused and lost <= feed.max_shrinkage:
        return 0.0
    if seen is None:
        before = f" after {previous} in {newest}" if newest else ""
        raise SmallSnapshotError(f"the snapshot has {rows} rows{before}")
    if previous == 0:
        return 0.0
    if refused:
        raise SnapshotRefusedError(
            f"the snapshot has {rows} rows, {newest} has {previous}: less than "
            f"{feed.min_ratio_to_previous:.0%}, read twice",
            hint="A restarting server answers like this. If the table really shrank, set a lower "
            "`min_ratio_to_previous` in the feed file (0 accepts anything) and export again.",
            feed=feed.name,
        )
    if abs(rows - seen) > max(previous * feed.max_shrinkage, 1):
        raise IncompleteResponseError(
            f"two readings of the table do not agree: {seen} rows, then {rows}, after {previous} in {newest}",
            hint="Nothing was kept. Is a node starting or stopping? Export again when all of them run.",
            feed=feed.name,
        )
    return lost


def shrunk_text(share: float) -> str:
    """Return the mark of a version that has lost rows; empty where it has not."""
    return f"shrunk by {share * 100:.0f} %" if share else ""

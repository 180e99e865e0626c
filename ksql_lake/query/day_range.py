"""The days of a stream that a reader asks for, and whether the lake holds all of them. It reads no files."""

# A day that was not read, or was read before it ended, must not look like an empty or small day.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from ksql_lake.errors import LakeError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import FeedState
from ksql_lake.lake.closing import read_to_end
from ksql_lake.lake.days import Days, day_ranges


def days_between(state: FeedState, first: str | None, last: str | None) -> list[date]:
    """Return the days from `first` to `last`; by default from the oldest to the newest day that was read."""
    known = sorted({*state.looked, *state.partitions})
    begin, end = first or (known[0] if known else last), last or (known[-1] if known else first)
    if begin is None or end is None or begin > end:
        return []
    return list(Days(date.fromisoformat(begin), date.fromisoformat(end)))


def unread_days(state: FeedState, days: Iterable[date]) -> list[date]:
    """Return the days that no export has read, or whose rows were lost since."""
    # A day that lost one of its files has rows of the others: they are a part of it.
    return [day for day in days if day.isoformat() not in state.looked]


def open_days(feed: StreamFeed, state: FeedState, days: Iterable[date]) -> list[date]:
    """Return the days that were read before they had ended; more rows may have arrived since."""
    return [
        day
        for day in days
        if day.isoformat() in state.looked
        and not read_to_end(state.looked, day, feed.zone, now=datetime.now(UTC))
    ]


def check_read(feed: StreamFeed, state: FeedState, days: Iterable[date]) -> None:
    """Check that exports have read all days.

    Raises:
        LakeError: Some days were not read; the message names them and the export that reads them.
    """
    unread = unread_days(state, days)
    if unread:
        export = export_command(feed, unread)
        raise LakeError(
            f"{days_text(unread)} {be(unread)} never read, so the rows are unknown",
            hint=f"Run: {export}. Or say allow_missing=True to read the other days.",
            feed=feed.name,
        )


def check_closed(feed: StreamFeed, state: FeedState, days: Iterable[date]) -> None:
    """Check that all days were read after they had ended.

    Raises:
        LakeError: Some days were not; the message names them and the export that reads them again.
    """
    opened = open_days(feed, state, days)
    if opened:
        export = export_command(feed, opened)
        raise LakeError(
            f"{days_text(opened)} {be(opened)} read before the day had ended, so rows may be missing",
            hint=f"Run {export} after the day's end. Or say allow_open=True to read their rows so far.",
            feed=feed.name,
        )


def days_text(days: Sequence[date]) -> str:
    """Return days as short ranges; after three ranges only a count."""
    ranges = list(map(str, day_ranges(days)))
    return ", ".join(ranges[:3]) + (f" and {len(ranges) - 3} more ranges of days" if len(ranges) > 3 else "")


def be(days: Sequence[date]) -> str:
    """Return the verb for one or several days: was, or were."""
    return "was" if len(days) == 1 else "were"


def export_command(feed: StreamFeed, days: Sequence[date]) -> str:
    """Return the command that reads ascending days, and all days between them."""
    dates = f"--date {days[0]}" if len(days) == 1 else f"--from {days[0]} --to {days[-1]}"
    return f"ksql-lake export --stream {feed.name} {dates}"

"""Choose the files of a day that are merged, by what the manifests say. Pure."""

# Of an open day only files that together are about as large as its largest are merged, so that no row is
# written many times.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.days import day_of

OPEN_FILES = 8
"""The least number of small files of an open day that are merged."""

_FEW = 10
"""Late files of a closed day wait if its largest file has at least this many times their rows."""

_LARGE = 128_000_000
"""Files of this many bytes or more are not merged until their day is closed."""


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """The days that would be merged, and how many files and bytes they have now.

    Attributes:
        days: Closed days whose files would be merged into one.
        files: Files in all of the days, open ones too.
        bytes: Their size.
        open_days: Open days of which some files would be merged.
    """

    days: tuple[str, ...]
    files: int
    bytes: int
    open_days: tuple[str, ...] = ()


def plan_compaction(
    feed: StreamFeed,
    state: FeedState,
    *,
    older_than: int,
    now: datetime,
    misleading: Callable[[str], object] | None = None,
    open_files: int | None = None,
) -> CompactionPlan:
    """List the days with files to merge that ended at least `older_than` days ago, and open days on request.

    Args:
        feed: The feed.
        state: Its state.
        older_than: Full days between the end of a day and today; 0 takes every day before today.
        now: The present.
        misleading: Says whether a day has files to be rewritten; None means that no day has any.
        open_files: The least number of small files of a younger day that are merged; None leaves younger days
            alone. A closed day that still gets a few late rows then counts as a younger one, so that its large
            file is not rewritten for each of them.
    """
    newest = day_of(now, feed.zone) - timedelta(days=older_than)
    keys = state.partition_keys()
    closed = [day for day in keys if date.fromisoformat(day) < newest]
    days = [day for day in closed if mergeable(state, day) or (misleading and misleading(day))]
    opened: list[str] = []
    if open_files is not None:
        gets_rows = [day for day in days if _few_late_rows(state, day, now)]
        days = [day for day in days if day not in gets_rows]
        opened = [day for day in (*gets_rows, *keys[len(closed) :]) if ripe(state, day, open_files)]
    files = [file for day in (*days, *opened) for file in state.files_of(day)]
    return CompactionPlan(tuple(days), len(files), sum(file.bytes for file in files), tuple(opened))


def _few_late_rows(state: FeedState, day: str, now: datetime) -> bool:
    """Whether a closed day got files within the last day that are small compared with its largest file."""
    records = sorted(file.records for file in mergeable(state, day))
    yesterday = (now - timedelta(days=1)).astimezone(UTC).isoformat(timespec="milliseconds")
    recent = state.partitions[day].committed_at > yesterday
    return recent and sum(records[:-1]) * _FEW < sum(records[-1:])


def ripe(state: FeedState, day: str, least: int) -> list[FileEntry]:
    """Return the most small files of an open day of which all but the largest hold as many rows as the largest.

    Each merge then makes a file with at least twice the rows of any file that it replaces. So a row of a day of
    N rows is rewritten at most log2(N) times, and at most `least` + log2(N) files remain. Files with other
    columns than the newest, or of another form, wait until the day is closed.
    """
    files = state.files_of(day)
    if len(files) < least or not state.shapes:
        return []
    newest = (state.shapes[-1][1], max(state.form(file) for file in files))
    alike = [file for file in files if (state.shape_text(file), state.form(file)) == newest]
    small = sorted((file for file in alike if file.bytes < _LARGE), key=lambda file: file.records)
    rows, count = 0, 0
    for number, file in enumerate(small, 1):
        if number >= max(least, 2) and file.records <= rows:
            count = number
        rows += file.records
    return small[:count]


def mergeable(state: FeedState, day: str) -> list[FileEntry]:
    """Return the day's largest group of two or more files with the same columns, read in the same form."""
    files, groups = state.files_of(day), dict[tuple[str, int], list[FileEntry]]()
    if len(files) < 2:
        return []
    for file in files:
        groups.setdefault((state.shape(file).text, state.form(file)), []).append(file)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []

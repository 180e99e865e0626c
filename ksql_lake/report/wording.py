"""Numbers, sizes, times and days as people read them, the same in every format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ksql_lake.lake.days import Days
from ksql_lake.quantities import count_text
from ksql_lake.report.feed_model import FeedReport

_RANGES_SHOWN = 4


def short_count(number: float) -> str:
    """Return a count in few characters: 950, 12.3k, 4.1M."""
    if number < 10_000:
        return f"{number:,.0f}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.5:
            return f"{number:.1f}{unit}" if number < 99.95 else f"{number:.0f}{unit}"
    return f"{number / 1000:.1f}T"


def seconds_text(seconds: float | None) -> str:
    """Return a duration: 0.04 s, 12.3 s, 4.0 min, 1.5 h."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio as `3.4x`, a dash where there is none."""
    return "-" if ratio is None else f"{ratio:.1f}x"


def size_change_text(ratio: float) -> str:
    """Return how many times smaller something is, or larger."""
    return f"{ratio:.1f}x smaller" if ratio >= 1 else f"{1 / ratio:.1f}x larger"


def moment_text(moment: datetime | None) -> str:
    """Return an instant to the minute, UTC."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def ranges_text(ranges: Sequence[Days]) -> str:
    """Return ranges of days, the newest ones when there are many."""
    shown = ", ".join(str(days) for days in ranges[-_RANGES_SHOWN:])
    hidden = sum(len(days) for days in ranges[:-_RANGES_SHOWN])
    return f"{shown} and {count_text(hidden, 'day')} before" if hidden else shown


def checks_text(feed: FeedReport) -> str:
    """Return in a word or two what a feed's checks found: `ok`, `2 fail`, `1 warns`, `not yet`."""
    grave = sum(check.grave for check in feed.checks)
    if grave:
        return f"{grave} fail" if grave > 1 else "1 fails"
    if warned := len(feed.failed_checks):
        return f"{warned} warn" if warned > 1 else "1 warns"
    if not feed.last_export or not feed.checks:
        return "-"
    return "ok" if any(check.state == "passed" for check in feed.checks) else "not yet"


def days_in(ranges: Sequence[Days]) -> int:
    """Count the days of ranges."""
    return sum(len(days) for days in ranges)

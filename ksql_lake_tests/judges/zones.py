"""A time zone in which it is day now, so that no test meets midnight."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def daytime_zone(now: datetime | None = None) -> ZoneInfo:
    """A zone in which it is between noon and one o'clock."""
    east = 12 - (now or datetime.now(UTC)).hour
    # The names of these zones count westwards.
    return ZoneInfo("UTC" if east == 0 else f"Etc/GMT{-east:+d}")

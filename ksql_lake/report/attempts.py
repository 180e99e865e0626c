"""Exports that are at work right now, or were killed at it: what their staging folders and the lock tell.

A killed process writes no note of its end, but it leaves its staging behind, under a number that is not taken.
It refuses to decide by the clock alone: while somebody holds the feed's lock, the attempt is alive.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ksql_lake.lake.layout import FeedLayout, attempt_parts
from ksql_lake.lake.storage import Storage

QUIET = timedelta(minutes=30)
"""An attempt without lock that has written nothing for this long is dead. The lock of one on another machine
may not be seen from here, and its rows may come slowly."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that has neither committed nor gone away: when it last wrote, and whether it is alive."""

    written_at: datetime
    alive: bool


def newest_attempt(storage: Storage, layout: FeedLayout, *, after: int, now: datetime) -> Attempt | None:
    """Give the last attempt at a commit number that is not taken, if there is one.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        after: The newest number that is taken.
        now: The present.
    """
    names = (name for name in storage.staged(layout.staging) if (attempt_parts(name) or (0, ""))[0] > after)
    folders = (f"{layout.staging}/{name}" for name in names)
    written = [when for when in map(storage.touched, folders) if when is not None]
    if not written:
        return None
    last = max(written)
    return Attempt(last, alive=now - last < QUIET or _held(storage.lock_file(layout.lock)))


def _held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no lock file, or a filesystem without locks: the clock alone must do
    return False

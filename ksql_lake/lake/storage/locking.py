"""One worker per feed and machine at a time, to save work: exports, doctor's repairs, compaction, retention.

Nothing's correctness rests on it. Where the filesystem knows no locks, or the other run takes too long, the
work goes ahead without it and says so; the commit protocol decides who was first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage

LOCK_SECONDS = 600.0
"""How long a run waits for another one of the same feed before it goes ahead without the lock."""

_log = logging.getLogger(__name__)


@contextmanager
def exclusive(
    storage: Storage, layout: FeedLayout, *, wait: float = LOCK_SECONDS, key: str = ""
) -> Iterator[None]:
    """Keep other runs that work on this feed on this machine waiting while the block lasts.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        wait: Seconds to wait for another run before going ahead without the lock.
        key: The lock's file, where it is not the one of the feed's work.

    Raises:
        WriteError: The feed's metadata folder cannot be made.
    """
    path = storage.lock_file(key or layout.lock)
    with storage.writing(layout.metadata):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError) as error:
        _log.warning("working on %s without the lock %s: %s", layout.name, path, error)
        yield
        return
    try:
        yield
    finally:
        lock.release()

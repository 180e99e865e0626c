"""One worker per feed and machine at a time, to save work. Correctness does not depend on it."""

# If the filesystem has no locks, or the other run takes too long, work goes on without the lock; the commit
# protocol decides.

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage

LOCK_SECONDS = 600.0
"""Seconds that a run waits for another run of the feed before it goes on without the lock."""

REMARKABLE_SECONDS = 1.0
"""A longer wait is logged."""

_log = logging.getLogger(__name__)


@contextmanager
def exclusive(
    storage: Storage, layout: FeedLayout, *, wait: float = LOCK_SECONDS, key: str = ""
) -> Iterator[None]:
    """Make other runs of this feed on this machine wait while the block lasts.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        wait: Seconds to wait for another run before going on without the lock.
        key: The lock's file, if it is not the feed's.

    Raises:
        WriteError: The feed's metadata folder cannot be made.
    """
    path = storage.lock_file(key or layout.lock)
    with storage.writing(layout.metadata):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        _acquire(lock, layout.name, wait)
    except (Timeout, OSError, NotImplementedError) as error:
        _log.warning("working on %s without the lock %s: %s", layout.name, path, error)
        yield
        return
    holder = _holder_file(path)
    _note_holder(holder)
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, feed: str, wait: float) -> None:
    """Acquire the lock, and log which process holds it and how long the wait took."""
    began = time.monotonic()
    try:
        lock.acquire(timeout=min(REMARKABLE_SECONDS, wait))
    except Timeout:
        if wait <= REMARKABLE_SECONDS:
            raise
        _log.warning("%s: waiting for the lock %s, held by %s", feed, lock.lock_file, _holder(lock.lock_file))
        lock.acquire(timeout=wait - REMARKABLE_SECONDS)
        _log.info("%s: waited %.0f s for another run of the feed", feed, time.monotonic() - began)


def _holder_file(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.holder")


def _note_holder(path: Path) -> None:
    """Record which process holds the lock, for the log of the processes that wait."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}", encoding="utf-8")
    except OSError as error:
        _log.debug("the holder of the lock cannot be recorded in %s: %s", path, error)


def _holder(lock: str) -> str:
    try:
        return _holder_file(Path(lock)).read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"

"""A private folder of this process on a local disk, for bytes on their way into or out of a store."""

# A spool is locked while its process lives; the next process removes unlocked spools. A spool never holds the
# only copy of a committed file.

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import uuid
import weakref
from pathlib import Path
from threading import Lock

from ksql_lake.errors import ConfigError


class Spool:
    """A folder for temporary files, made when it is first needed and gone with its process."""

    def __init__(self) -> None:
        self._making = Lock()
        self._folder: Path | None = None

    def folder(self) -> Path:
        """Return the folder.

        Raises:
            ConfigError: The folder above it belongs to another user.
            OSError: It cannot be made.
        """
        with self._making:
            if self._folder is None:
                base = spools()
                _sweep(base)
                self._folder = _make(base, self)
            return self._folder

    def fresh(self) -> Path:
        """Return a path in the folder at which nothing exists yet."""
        return self.folder() / uuid.uuid4().hex[:8]


def spools() -> Path:
    """Return the folder that holds the spools of this user on this machine.

    Raises:
        ConfigError: It belongs to another user, who could read and change the files in it.
        OSError: It cannot be made.
    """
    base = Path(tempfile.gettempdir()) / f"ksql-lake-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(
            "this folder for temporary files belongs to another user",
            hint="Set TMPDIR to a folder that you own.",
            path=str(base),
        )
    return base


def _make(base: Path, owner: Spool) -> Path:
    folder = base / f"spool-{uuid.uuid4().hex[:12]}"
    lock = _lock_of(folder)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # The lock comes before the folder, so that no other process finds the folder unlocked.
    fcntl.flock(handle, fcntl.LOCK_EX)
    folder.mkdir(mode=0o700)
    weakref.finalize(owner, _discard, folder, handle, os.getpid())
    return folder


def _discard(folder: Path, handle: int, pid: int) -> None:
    if os.getpid() == pid:  # a forked child inherits the spool, but does not own it
        shutil.rmtree(folder, ignore_errors=True)
        _lock_of(folder).unlink(missing_ok=True)
        os.close(handle)


def _sweep(base: Path) -> None:
    """Remove the spools of processes that are gone."""
    for folder in base.glob("spool-*[0-9a-f]"):
        if not folder.is_dir():
            continue
        try:
            handle = os.open(_lock_of(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)
        except OSError:
            continue  # its process is alive
        finally:
            os.close(handle)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")

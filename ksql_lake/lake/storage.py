"""The one boundary between the lake and where its bytes live.

`Storage` is what the commit protocol needs and nothing more; an object store can offer the same promises. Every
write is durable when its call returns, and a file is whole or absent, never half visible. `LocalStorage` keeps
these promises on a POSIX filesystem. Nothing here knows about feeds, Parquet or manifests.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from ksql_lake.errors import ConfigError, ConflictError, LakeError, WriteError

_TIMES_CLEARED = 20
"""How often a temporary file or a staging folder is tackled again when other runs work on it meanwhile."""


class Storage(Protocol):
    """What the commit protocol asks of a place for bytes; keys are relative and use `/`."""

    def read(self, key: str) -> bytes | None:
        """Give an object's bytes, or None when there is none."""

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        """Create an object whole and durably; False when the key is taken, which changes nothing."""

    def replace(self, key: str, data: bytes, *, temporary: str) -> None:
        """Put an object in place of whatever was there, whole and durably."""

    def names(self, folder: str) -> list[str]:
        """Give the sorted names directly inside a folder; empty when there is no such folder."""

    def walk(self, folder: str) -> Iterator[str]:
        """Give the keys of all objects below a folder, sorted."""

    def open(self, key: str) -> BufferedReader:
        """Open an object for reading; the caller closes it. One that cannot be opened is a `LakeError`."""

    def size(self, key: str) -> int | None:
        """Give an object's size in bytes, or None when there is none."""

    def begin(self, folder: str) -> None:
        """Make a folder for staged objects."""

    def local_file(self, key: str) -> Path:
        """Give a local path where a staged object may be written before `stage` makes it durable."""

    def stage(self, folder: str, names: list[str]) -> None:
        """Make the named local files of a staging folder durable."""

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        """Move a staged object into place, or also keep it staged; False when the source is gone."""

    def sync(self, folders: set[str]) -> None:
        """Make what was published into these folders durable."""

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens when it is gone already. Folders left empty go too."""

    def remove_folder(self, folder: str) -> None:
        """Remove a staging folder with all it holds."""

    def rename_folder(self, source: str, target: str) -> bool:
        """Rename a staging folder; False when it is gone."""

    def uri(self, key: str) -> str:
        """Give the address under which a reader finds the key."""

    def writing(self, key: str) -> AbstractContextManager[None]:
        """Turn what the operating system says while a key is written into a `WriteError`."""


class LocalStorage:
    """A folder on a POSIX filesystem with atomic rename and hard links.

    Args:
        root: The lake's folder; made on the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        self._settled: set[Path] = set()

    def _path(self, key: str) -> Path:
        return self.root / key

    def read(self, key: str) -> bytes | None:
        """Give a file's bytes, or None when there is none.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: The file is there and cannot be read.
        """
        with self._reading(key), suppress(FileNotFoundError):
            return self._path(key).read_bytes()
        return None

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        """Write and sync a temporary file, then hard-link it to its name: whole, durable, exclusive.

        Raises:
            ConflictError: The folder of `temporary` is gone: someone cleared this attempt's staging.
            WriteError: The disk or its permissions are in the way.
        """
        source, target = self._path(temporary), self._path(key)
        with self.writing(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_synced(source, data)
                os.link(source, target)
            except FileExistsError:
                return False
            except FileNotFoundError as error:
                raise staging_cleared(str(source.parent)) from error
            self._settle(target.parent)
            source.unlink(missing_ok=True)
        return True

    def replace(self, key: str, data: bytes, *, temporary: str) -> None:
        """Write and sync a temporary file, then rename it over its name.

        Raises:
            WriteError: The disk or its permissions are in the way; the old content stays.
        """
        source, target = self._path(temporary), self._path(key)
        with self.writing(key):
            for left in reversed(range(_TIMES_CLEARED)):
                target.parent.mkdir(parents=True, exist_ok=True)
                source.parent.mkdir(parents=True, exist_ok=True)
                try:
                    _write_synced(source, data)
                    source.replace(target)
                    break
                except FileNotFoundError:
                    # Another run cleared the folder of a slow process; what it held was only on its way.
                    if not left:
                        raise
                finally:
                    source.unlink(missing_ok=True)
            self._settle(target.parent)

    def names(self, folder: str) -> list[str]:
        """Give the sorted names directly inside a folder; empty when there is no such folder.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: The folder is there and cannot be listed.
        """
        with self._reading(folder), suppress(FileNotFoundError):
            return sorted(os.listdir(self._path(folder)))  # noqa: PTH208 - names only, no Path objects
        return []

    def walk(self, folder: str) -> Iterator[str]:
        """Give the keys of all files below a folder, sorted."""
        for path in sorted(self._path(folder).rglob("*")):
            if not path.is_dir():
                yield path.relative_to(self.root).as_posix()

    def open(self, key: str) -> BufferedReader:
        """Open a file for reading; the caller closes it.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: It is not there, or cannot be read.
        """
        with self._reading(key):
            return self._path(key).open("rb")

    def size(self, key: str) -> int | None:
        """Give a file's size in bytes, or None when there is none.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: One of the folders above it cannot be entered.
        """
        with self._reading(key), suppress(FileNotFoundError):
            return self._path(key).stat().st_size
        return None

    def begin(self, folder: str) -> None:
        """Make a folder, and those above it.

        Raises:
            WriteError: It cannot be made.
        """
        with self.writing(folder):
            self._path(folder).mkdir(parents=True, exist_ok=True)

    def local_file(self, key: str) -> Path:
        """Give the staged file's own path: on a filesystem staging is already where it belongs."""
        return self._path(key)

    def stage(self, folder: str, names: list[str]) -> None:
        """Sync the named files and their folder.

        Raises:
            ConflictError: The folder is gone: someone cleared this attempt's staging.
            WriteError: A sync failed; the data may not be on disk.
        """
        path = self._path(folder)
        with self.writing(folder):
            try:
                for name in names:
                    _sync(path / name)
                _sync(path)
                _sync(path.parent)
            except FileNotFoundError as error:
                raise staging_cleared(str(path)) from error

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        """Rename a staged file into place, or hard-link it there.

        Raises:
            WriteError: The rename failed for another reason than a missing source.
        """
        origin, destination = self._path(source), self._path(target)
        with self.writing(target):
            while True:
                try:
                    if keep:
                        os.link(origin, destination)
                    else:
                        origin.rename(destination)
                except FileExistsError:
                    return True
                except FileNotFoundError:
                    # Either the source is gone, or the folder is new, or a retention just removed it as empty.
                    if not origin.exists():
                        return False
                    destination.parent.mkdir(parents=True, exist_ok=True)
                else:
                    return True

    def sync(self, folders: set[str]) -> None:
        """Sync the folders and those above them, up to the root."""
        above = {self._path(folder) for folder in folders}
        for folder in list(above):
            above.update(parent for parent in folder.parents if parent.is_relative_to(self.root))
        for path in sorted(above, reverse=True):
            with self.writing(str(path)), suppress(FileNotFoundError):
                _sync(path)

    def _settle(self, folder: Path) -> None:
        """Sync a folder, and the first time also those above it, which may be new."""
        if folder in self._settled:
            _sync(folder)
        else:
            self.sync({folder.relative_to(self.root).as_posix()})
            self._settled.update((folder, *folder.parents))

    def remove(self, key: str) -> None:
        """Remove a file, and the folders above it that are empty then.

        Raises:
            WriteError: It is there and cannot be removed.
        """
        path = self._path(key)
        with self.writing(key):
            path.unlink(missing_ok=True)
            for parent in path.parents:
                # The feed's own folder stays: a reader of an emptied feed should find it.
                if len(parent.relative_to(self.root).parts) <= 2:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def remove_folder(self, folder: str) -> None:
        """Remove a folder with all it holds; nothing happens when it is gone already."""
        path = self._path(folder)
        with self.writing(folder):
            for left in reversed(range(_TIMES_CLEARED)):
                try:
                    shutil.rmtree(path)
                except OSError as error:
                    # Others clear it too, or the slow process it belongs to still adds to it.
                    if error.errno not in {errno.ENOENT, errno.ENOTEMPTY} or not left:
                        raise
                if not path.exists():
                    return

    def rename_folder(self, source: str, target: str) -> bool:
        """Rename a folder; False when it is gone."""
        with self.writing(target):
            try:
                self._path(source).rename(self._path(target))
            except FileNotFoundError:
                return False
        return True

    def uri(self, key: str) -> str:
        """Give the absolute path."""
        return str(self._path(key))

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Turn what the operating system says while a key is read into an error of ours."""
        try:
            yield
        except OSError as error:
            raise self._read_error(key, error) from error

    def _read_error(self, key: str, error: OSError) -> ConfigError | LakeError:
        if self.root.exists() and not self.root.is_dir():
            hint = "Move the file away, or set KSQL_LAKE_ROOT to another folder."
            return ConfigError("the lake's folder is a file", hint=hint, path=str(self.root))
        hint = {
            errno.EACCES: "Give this user read permission on it and on the folders above it.",
            errno.ENOENT: "Run `ksql-lake doctor` to see what else is missing.",
            errno.ENOTDIR: "A file stands where the lake has a folder; move it away.",
        }.get(error.errno or 0, "Is its disk still there and in order?")
        reason = os.strerror(error.errno) if error.errno else str(error)
        return LakeError(f"cannot be read: {reason.lower()}", hint=hint, path=str(self._path(key)))

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Turn what the operating system says while a key is written into a `WriteError`."""
        try:
            yield
        except OSError as error:
            raise self.write_error(key, error) from error

    def write_error(self, key: str, error: OSError) -> WriteError:
        """Say what was in the way of writing a key, how much was free, and what to do."""
        path = self._path(key)
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = {
            errno.ENOSPC: "Free some space or inodes (or move the lake with KSQL_LAKE_ROOT) and run it again.",
            errno.EDQUOT: "Your quota on this disk is used up; raise it or free some space, then run it again.",
            errno.EFBIG: "A file-size limit (ulimit -f) is set for this process; raise it, then run it again.",
            errno.EACCES: "Give this user write permission on it, or set KSQL_LAKE_ROOT to a folder it owns.",
            errno.EPERM: "The filesystem refuses this operation; the lake needs rename and hard links.",
            errno.ENOTSUP: "The lake needs a filesystem with hard links; set KSQL_LAKE_ROOT to one.",
            errno.EXDEV: "The lake renames and links between its folders; all of it must be on one filesystem.",
            errno.EROFS: "The filesystem is mounted read-only; remount it, or set KSQL_LAKE_ROOT elsewhere.",
            errno.ENOTDIR: "A file stands where the lake needs a folder; move it away.",
        }.get(error.errno or 0, "Look at the disk, then run it again; nothing in the lake is half visible.")
        return WriteError(f"could not be written: {reason}{free_space(path)}", hint=hint, path=str(path))


def staging_cleared(path: str) -> ConflictError:
    """The error of an attempt that finds its staged files gone."""
    return ConflictError(
        "this attempt's staging folder was cleared by another run",
        hint="Another export of the same feed went ahead; the export is planned again.",
        path=path,
    )


def free_space(path: Path) -> str:
    """Say how much is free on the disk of a path, in brackets; empty when that cannot be told."""
    for folder in path.parents:
        try:
            disk = os.statvfs(folder)
        except OSError:
            continue
        free = f"{disk.f_bavail * disk.f_frsize / 1e6:,.0f} MB free"
        # A filesystem without a fixed number of inodes says that it has none at all.
        inodes = ", no inodes free" if disk.f_files and not disk.f_favail else ""
        return f" ({free}{inodes} on its disk)"
    return ""


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

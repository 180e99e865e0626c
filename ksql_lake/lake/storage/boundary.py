"""The interface between the lake and its storage."""

# Every write is durable when its call returns, and an object is whole or absent.

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ksql_lake.errors import ConfigError, ConflictError, LakeError, WriteError

if TYPE_CHECKING:
    import duckdb
    import pyarrow.fs


class Storage(Protocol):
    """The operations that a lake needs of its storage; keys are relative and use `/`.

    Attributes:
        paged: Whether a listing takes a request per thousand names, so that long folders are listed in part.
        delayed: Whether a write that failed here may still succeed in the store, so that its outcome is
            unknown.
        syncs: Whether published objects are durable only after `sync`.
    """

    paged: bool
    delayed: bool
    syncs: bool

    def begun(self) -> bool:
        """Whether there is a lake: its folder, or anything in its bucket."""

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""

    def read_all(self, keys: Collection[str]) -> Iterator[bytes | None]:
        """Return the bytes of many objects in the order of their keys, None for one that is not there."""

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        """Create an object whole and durably; False when the key is taken, which changes nothing."""

    def replace(self, key: str, data: bytes, *, temporary: str) -> None:
        """Create or replace an object, whole and durably."""

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Return the sorted names directly inside a folder; empty when there is no such folder.

        A storage that is `paged` leaves out the names up to and including `after`.
        """

    def staged(self, folder: str) -> list[str]:
        """Return the sorted names of the staging folders inside a folder."""

    def walk(self, folder: str) -> Iterator[str]:
        """Return the keys of all objects below a folder, sorted."""

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:
        """Open an object for reading; the caller closes it. Raises `LakeError` if it cannot be opened.

        Args:
            key: The object.
            whole: Whether all of it will be read, which allows a faster way.
        """

    def local_copies(self, keys: Collection[str]) -> AbstractContextManager[Mapping[str, str]]:
        """Return a local path per key, at which the object can be read while the block lasts.

        The path of a missing object does not exist.
        """

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None when there is none."""

    def sizes(self, folder: str, keys: Collection[str]) -> Mapping[str, int]:
        """Return the sizes of the objects below a folder, in few requests; missing objects are left out."""

    def stamps(self, folder: str, *, after: str = "") -> Mapping[str, str]:
        """Return, for each name directly inside a folder, what changes when its object is written again.

        Only names after `after`. A store answers with its own mark of the content, a disk with size and time.
        """

    def begin(self, folder: str) -> None:
        """Make a folder for staged objects."""

    def announce(self, folder: str) -> None:
        """Mark a staging folder as in use, for other processes; called at intervals, so it must be cheap."""

    def touched(self, folder: str) -> datetime | None:
        """Return when a staging folder was last written to; None when there is none."""

    def local_file(self, key: str) -> Path:
        """Return a local path to which a staged object is written before `stage` makes it durable."""

    def lock_file(self, key: str) -> Path:
        """Return a local path for a lock, the same for all processes of this machine."""

    def stage(self, folder: str, names: list[str]) -> bool:
        """Make the named local files of a staging folder durable.

        False when another run cleared them in the store meanwhile, or they were lost; the local files stay.
        """

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        """Move a staged object into place, or copy it with `keep`; False when the source is gone."""

    def publish_all(self, pairs: Iterable[tuple[str, str]], *, keep: bool = False) -> Iterator[bool]:
        """Publish each pair of source and target; yield the results in order."""

    def sync(self, folders: set[str]) -> None:
        """Make the objects published into these folders durable."""

    def remove(self, key: str) -> None:
        """Remove an object if it exists; folders that are then empty go too."""

    def remove_all(self, keys: Iterable[str]) -> Iterator[None]:
        """Remove each object, and yield after each one."""

    def remove_folder(self, folder: str) -> None:
        """Remove a staging folder and everything in it."""

    def move_folder(self, source: str, target: str) -> bool:
        """Move an attempt's own staging folder; False when it is gone."""

    def clear_folder(self, folder: str, *, aside: str) -> None:
        """Remove another attempt's staging folder so that it can no longer be committed.

        Args:
            folder: The folder; its commit number is taken.
            aside: A free name to which it may be moved first.
        """

    def let_go(self, folder: str) -> None:
        """Remove the local files of an attempt that is over and that other processes do not see."""

    def uri(self, key: str) -> str:
        """Return the address of a key for readers."""

    def arrow_paths(self, keys: Iterable[str]) -> tuple[list[str], pyarrow.fs.FileSystem | None]:
        """Return pyarrow's paths of the objects, and the filesystem for them if it needs one."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read the addresses that `uri` returns."""

    def writing(self, key: str) -> AbstractContextManager[None]:
        """Turn errors of the operating system while a staged file is written into a `WriteError`."""


def staging_cleared(path: str) -> ConflictError:
    """Return the error of an attempt whose staged files were removed."""
    return ConflictError(
        "this attempt's staging folder was cleared by another run",
        hint="Another export of the same feed went ahead; the export is planned again.",
        path=path,
    )


def disk_read_error(root: Path, key: str, error: OSError) -> ConfigError | LakeError:
    """Return the error of a failed read in a lake's folder: the reason, and what to do."""
    if root.exists() and not root.is_dir():
        hint = "Move the file away, or set KSQL_LAKE_ROOT to another folder."
        return ConfigError("the lake's folder is a file", hint=hint, path=str(root))
    hint = {
        errno.EACCES: "Give this user read permission on it and on the folders above it.",
        errno.ENOENT: "Run `ksql-lake doctor` to see what else is missing.",
        errno.ENOTDIR: "A file has the name of one of the lake's folders; move it away.",
    }.get(error.errno or 0, "Is its disk still mounted, and without errors?")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LakeError(f"cannot be read: {reason.lower()}", hint=hint, path=str(root / key))


def disk_write_error(path: Path, error: OSError) -> WriteError:
    """Return the error of a failed write: the reason, how much is free on the disk, and what to do."""
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
        errno.ENOTDIR: "A file has the name of a folder that the lake needs; move it away.",
    }.get(error.errno or 0, "Check the disk, then run it again; every visible file is whole.")
    return WriteError(f"could not be written: {reason}{free_space(path)}", hint=hint, path=str(path))


def free_space(path: Path) -> str:
    """Return how much is free on the disk of a path, in brackets; empty when that is unknown."""
    for folder in path.parents:
        try:
            disk = os.statvfs(folder)
        except OSError:
            continue
        free = f"{disk.f_bavail * disk.f_frsize / 1e6:,.0f} MB free"
        # A filesystem without a fixed number of inodes reports 0 of them.
        inodes = ", no inodes free" if disk.f_files and not disk.f_favail else ""
        return f" ({free}{inodes} on its disk)"
    return ""

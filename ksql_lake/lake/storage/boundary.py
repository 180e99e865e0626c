"""The interface between the lake and where its bytes are stored."""

# Every write is durable when its call returns, and an object is whole or absent.

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ksql_lake.errors import ConflictError

if TYPE_CHECKING:
    import duckdb
    import pyarrow.fs


class Storage(Protocol):
    """What the lake asks of a place for bytes; keys are relative and use `/`.

    Attributes:
        paged: Whether a listing costs a request per thousand names, so that long folders are listed in part.
        delayed: Whether a write that failed here may still happen there, so that its outcome is open.
        syncs: Whether what was published is durable only after `sync`.
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
        """Put an object in place of whatever was there, whole and durably."""

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Return the sorted names directly inside a folder; empty when there is no such folder.

        A storage that is `paged` leaves out the names up to and including `after`.
        """

    def staged(self, folder: str) -> list[str]:
        """Return the sorted names of the staging folders inside a folder."""

    def walk(self, folder: str) -> Iterator[str]:
        """Return the keys of all objects below a folder, sorted."""

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:
        """Open an object for reading; the caller closes it. One that cannot be opened is a `LakeError`.

        Args:
            key: The object.
            whole: Whether all of it will be read, which may be cheaper to prepare for.
        """

    def local_copies(self, keys: Collection[str]) -> AbstractContextManager[Mapping[str, str]]:
        """Return a local path per key under which an object can be read while the block lasts.

        The key of an object that is not there has a path at which nothing is.
        """

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None when there is none."""

    def sizes(self, folder: str, keys: Collection[str]) -> Mapping[str, int]:
        """Return the sizes of those of these objects below a folder that are there, in few requests."""

    def stamps(self, folder: str, *, after: str = "") -> Mapping[str, str]:
        """Return, for each name directly inside a folder, what changes when its object is written again.

        Only names after `after`. A store answers with its own mark of the content, a disk with size and time.
        """

    def begin(self, folder: str) -> None:
        """Make a folder for staged objects."""

    def announce(self, folder: str) -> None:
        """Let others see that somebody is at work in a staging folder; called now and then, and cheap."""

    def touched(self, folder: str) -> datetime | None:
        """Return when something was last written into a staging folder; None when there is none."""

    def local_file(self, key: str) -> Path:
        """Return a local path where a staged object may be written before `stage` makes it durable."""

    def lock_file(self, key: str) -> Path:
        """Return a local path for a lock that all processes of this machine agree on."""

    def stage(self, folder: str, names: list[str]) -> bool:
        """Make the named local files of a staging folder durable.

        False when others cleared them there meanwhile, or they were lost; those here are as they were.
        """

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        """Bring a staged object into place, or also keep it staged; False when the source is gone."""

    def publish_all(self, pairs: Iterable[tuple[str, str]], *, keep: bool = False) -> Iterator[bool]:
        """Publish each pair of source and target; answers come in their order, as they are asked for."""

    def sync(self, folders: set[str]) -> None:
        """Make what was published into these folders durable."""

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens when it is gone already. Folders left empty go too."""

    def remove_all(self, keys: Iterable[str]) -> Iterator[None]:
        """Remove each object; each is gone when its turn has come."""

    def remove_folder(self, folder: str) -> None:
        """Remove a staging folder with all it holds."""

    def move_folder(self, source: str, target: str) -> bool:
        """Move an attempt's own staging folder; False when it is gone."""

    def clear_folder(self, folder: str, *, aside: str) -> None:
        """Remove somebody's staging folder so that what is removed cannot be committed from any more.

        Args:
            folder: The folder; its number is taken.
            aside: A free name it may be given first.
        """

    def let_go(self, folder: str) -> None:
        """Remove what is kept here, and not where others look, of an attempt that is over."""

    def uri(self, key: str) -> str:
        """Return the address under which a reader finds the key."""

    def arrow_paths(self, keys: Iterable[str]) -> tuple[list[str], pyarrow.fs.FileSystem | None]:
        """Return what pyarrow calls the objects, and the filesystem it reads them with if it needs one."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read what `uri` gives."""

    def writing(self, key: str) -> AbstractContextManager[None]:
        """Turn what the operating system says while a staged file is written into a `WriteError`."""


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

"""What a power failure leaves of a folder: only what was synced is sure to be there.

A kill never shows a missing sync, because the kernel still has everything. So what a process does to names, and
what it syncs, is recorded, and for every moment the folders are rebuilt as a disk may hold them afterwards: of
each folder the entries of its last sync, or those of any moment since; of each file that was never synced
nothing, half or all. Only that a rename happens on both sides or on neither is taken for granted, as every
journaling filesystem keeps it.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

_CALLS = ("fsync", "link", "rename", "replace", "unlink", "rmdir", "mkdir")

Listing = dict[str, int]
"""Names in a folder, and the inodes they stand for."""


@dataclass(frozen=True, slots=True)
class Image:
    """A folder tree as a disk may hold it after the power failed.

    Attributes:
        folders: Listings by the folder's inode.
        shares: How much of each file is there, from 0 to 1, by inode; all of it for those not named.
    """

    folders: dict[int, Listing]
    shares: dict[int, float]


@dataclass(slots=True)
class _Folder:
    """A folder's listings since its last sync, that one first; empty before its first."""

    versions: list[tuple[int, Listing]] = field(default_factory=lambda: [(0, {})])


class Recorder:
    """Records what a process does below a folder; what is there at the beginning counts as synced.

    Args:
        root: The folder.
        side: A folder on the same filesystem that keeps every file that ever was there.
    """

    def __init__(self, root: Path, side: Path) -> None:
        self.root = root
        self.side = side
        self.moment = 0
        self._root = root.stat().st_ino
        self._folders: dict[int, _Folder] = {}
        self._synced: set[int] = set()
        self._pinned: list[int] = []
        self._renames: list[tuple[int, int, int, str]] = []
        self._kept: set[int] = set()
        self._one_at_a_time = threading.RLock()
        for inode, listing in self._scan().items():
            self._folders[inode] = _Folder([(0, listing)])
            self._synced.update(listing.values())

    def strict(self) -> Image:
        """The tree if everything that was not synced is lost."""
        return self._image(
            {inode: folder.versions[0][0] for inode, folder in self._folders.items()}, lambda: 0.0
        )

    def lucky(self, random: Random) -> Image:
        """The tree if of what was not synced some is lost and some is not."""
        chosen = {inode: random.choice(folder.versions)[0] for inode, folder in self._folders.items()}
        return self._image(chosen, lambda: random.choice((0.0, 0.5, 1.0)))

    @contextmanager
    def recording(self, seen: Callable[[], None]) -> Iterator[None]:
        """Record while the block lasts, and call `seen` after every operation."""
        real = {name: getattr(os, name) for name in _CALLS}

        def recorded(name: str) -> Callable[..., Any]:
            def call(*args: Any, **keys: Any) -> Any:
                # Syncs come from several threads; each is one moment of its own.
                with self._one_at_a_time:
                    result = real[name](*args, **keys)
                    self._look(args[0] if name == "fsync" else None, real["link"])
                    seen()
                return result

            return call

        for name in _CALLS:
            setattr(os, name, recorded(name))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def rebuild(self, image: Image, target: Path) -> None:
        """Make the tree as the image has it."""
        self._rebuild(self._root, image, target)

    def _rebuild(self, inode: int, image: Image, target: Path) -> None:
        target.mkdir()
        for name, child in image.folders.get(inode, {}).items():
            kept = self.side / str(child)
            if child in self._folders:
                self._rebuild(child, image, target / name)
            elif kept.exists():
                shutil.copyfile(kept, target / name)
                share = image.shares.get(child, 1.0)
                os.truncate(target / name, int(kept.stat().st_size * share))

    def _image(self, chosen: dict[int, int], share: Callable[[], float]) -> Image:
        folders = {
            inode: dict(next(listing for moment, listing in self._folders[inode].versions if moment == when))
            for inode, when in chosen.items()
        }
        for moment, inode, source, name in self._renames:
            # Gone from one side and not yet on the other: then it is still where it was.
            arrived = any(inode in listing.values() for listing in folders.values())
            if not arrived and chosen.get(source, 0) >= moment:
                folders[source][name] = inode
        unsynced = {inode for listing in folders.values() for inode in listing.values()} - self._synced
        return Image(folders, {inode: share() for inode in sorted(unsynced - self._folders.keys())})

    def _look(self, synced: int | None, link: Callable[..., None]) -> None:
        """Compare the tree with what it was, and note what has changed and what is durable now."""
        self.moment += 1
        before = {inode: folder.versions[-1][1] for inode, folder in self._folders.items()}
        now = self._scan(link)
        for inode, listing in now.items():
            if before.get(inode) != listing:
                self._folders.setdefault(inode, _Folder()).versions.append((self.moment, listing))
        self._note_renames(before, now)
        if synced is not None:
            status = os.fstat(synced)
            if stat.S_ISDIR(status.st_mode) and status.st_ino in self._folders:
                folder = self._folders[status.st_ino]
                folder.versions = [(self.moment, folder.versions[-1][1])]
            else:
                self._synced.add(status.st_ino)

    def _note_renames(self, before: dict[int, Listing], now: dict[int, Listing]) -> None:
        for inode, listing in before.items():
            left = listing.items() - now.get(inode, {}).items()
            for name, child in left:
                if any(child in other.values() for other in now.values()):
                    self._renames.append((self.moment, child, inode, name))

    def _scan(self, link: Callable[..., None] = os.link) -> dict[int, Listing]:
        """List every folder, and keep every file that is new."""
        found: dict[int, Listing] = {}
        for path, _, _ in os.walk(self.root):
            inode = os.stat(path).st_ino  # noqa: PTH116
            if inode not in self._folders and inode not in found:
                # An open folder keeps its inode number, even when it is removed.
                self._pinned.append(os.open(path, os.O_RDONLY))
            found[inode] = {}
            for entry in os.scandir(path):
                found[inode][entry.name] = entry.inode()
                if entry.is_file() and entry.inode() not in self._kept:
                    self._kept.add(entry.inode())
                    link(entry.path, self.side / str(entry.inode()))
        return found

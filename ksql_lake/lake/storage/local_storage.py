"""The lake on a POSIX filesystem: atomic renames, hard links and syncs."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from ksql_lake.errors import LakeError
from ksql_lake.lake.storage.abreast import abreast
from ksql_lake.lake.storage.boundary import disk_read_error, disk_write_error, staging_cleared

if TYPE_CHECKING:
    import duckdb

_TIMES_CLEARED = 20
"""How often writing a temporary file or removing a staging folder is tried again when other runs interfere."""


class LocalStorage:
    """A folder on a POSIX filesystem with atomic rename and hard links.

    Args:
        root: The lake's folder; made on the first write.
    """

    paged = False
    delayed = False
    syncs = True

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        self._prefix = f"{self.root}/"
        self._settled: set[Path] = set()

    def _path(self, key: str) -> Path:
        return Path(self._text(key))

    def _text(self, key: str) -> str:
        """Return a key's path as text: where many files are read, a Path for each takes a tenth of the time."""
        if ".." in key and ".." in key.split("/"):
            raise LakeError("this name leads out of the lake", hint="Run `ksql-lake doctor`.", path=key)
        return self._prefix + key

    def begun(self) -> bool:
        """Whether the folder is there."""
        return self.root.is_dir()

    def read(self, key: str) -> bytes | None:
        """Return a file's bytes, or None when there is none.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: The file is there and cannot be read.
        """
        try:
            with open(self._text(key), "rb", buffering=0) as file:  # noqa: PTH123 - see _text
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_read_error(self.root, key, error) from error

    def read_all(self, keys: Collection[str]) -> Iterator[bytes | None]:
        """Read one file after the other; on a disk, threads make it no faster."""
        return map(self.read, keys)

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        """Write and sync a temporary file, then hard-link it to its name: whole, durable, exclusive.

        Raises:
            ConflictError: The folder of `temporary` is gone: another run cleared this attempt's staging.
            WriteError: The disk is full or not writable.
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
            WriteError: The disk is full or not writable; the old content stays.
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
                    # Another run cleared the folder of a slow process, which held temporary files only.
                    if not left:
                        raise
                finally:
                    source.unlink(missing_ok=True)
            self._settle(target.parent)

    def names(self, folder: str, *, after: str = "") -> list[str]:  # noqa: ARG002 - a listing costs one call
        """Return all sorted names directly inside a folder; empty when there is no such folder.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: The folder is there and cannot be listed.
        """
        with self._reading(folder), suppress(FileNotFoundError):
            return sorted(os.listdir(self._text(folder)))  # noqa: PTH208 - names only, no Path objects
        return []

    def staged(self, folder: str) -> list[str]:
        """Return the sorted names inside a folder, which are those of staging folders."""
        return self.names(folder)

    def walk(self, folder: str) -> Iterator[str]:
        """Yield the keys of all files below a folder, sorted."""
        yield from sorted(self._below(folder), key=lambda key: key.split("/"))

    def _below(self, folder: str) -> Iterator[str]:
        """Yield the keys of all files below a folder; a link to a folder is not followed."""
        waiting = [folder]
        while waiting:
            above = waiting.pop()
            try:
                with os.scandir(self._text(above)) as entries:
                    for entry in entries:
                        if not _is_folder(entry):
                            yield f"{above}/{entry.name}"
                        elif not entry.is_symlink():
                            waiting.append(f"{above}/{entry.name}")
            except (PermissionError, FileNotFoundError, NotADirectoryError):
                continue  # a folder that is gone, or may not be listed

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:  # noqa: ARG002 - the same on a disk
        """Open a file for reading; the caller closes it.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: It is not there, or cannot be read.
        """
        with self._reading(key):
            return open(self._text(key), "rb")  # noqa: PTH123 - the caller closes it; see _text

    @contextmanager
    def local_copies(self, keys: Collection[str]) -> Iterator[Mapping[str, str]]:
        """Yield the files' own paths."""
        yield {key: self.uri(key) for key in keys}

    def size(self, key: str) -> int | None:
        """Return a file's size in bytes, or None when there is none.

        Raises:
            ConfigError: The lake's folder is not a folder.
            LakeError: One of the folders above it cannot be entered.
        """
        try:
            return os.stat(self._text(key)).st_size  # noqa: PTH116 - see _text
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_read_error(self.root, key, error) from error

    def sizes(self, folder: str, keys: Collection[str]) -> dict[str, int]:  # noqa: ARG002 - a disk asks for each
        """Return the sizes of the files that exist; the errors are those of `size`."""
        found = {key: self.size(key) for key in keys}
        return {key: size for key, size in found.items() if size is not None}

    def stamps(self, folder: str, *, after: str = "") -> dict[str, str]:
        """Return size and time of the last write of each file inside a folder whose name comes after a name."""
        with self._reading(folder), suppress(FileNotFoundError), os.scandir(self._path(folder)) as entries:
            seen = ((entry.name, entry.stat()) for entry in entries if entry.name > after)
            return {name: f"{stat.st_size:x}.{stat.st_mtime_ns:x}" for name, stat in seen}
        return {}

    def begin(self, folder: str) -> None:
        """Make a folder, and those above it.

        Raises:
            WriteError: It cannot be made.
        """
        with self.writing(folder):
            self._path(folder).mkdir(parents=True, exist_ok=True)

    def announce(self, folder: str) -> None:
        """Do nothing: other processes see the folder and its files."""

    def touched(self, folder: str) -> datetime | None:
        """Return the newest modification time of a folder and the files in it; None when there is none."""
        path = self._path(folder)
        try:
            times = [path.stat().st_mtime, *(file.stat().st_mtime for file in path.iterdir())]
        except OSError:
            return None  # it was removed meanwhile
        return datetime.fromtimestamp(max(times), UTC)

    def local_file(self, key: str) -> Path:
        """Return the staged file's own path: on a filesystem it is written to its staging folder directly."""
        return self._path(key)

    def lock_file(self, key: str) -> Path:
        """Return the file's own path."""
        return self._path(key)

    def stage(self, folder: str, names: list[str]) -> bool:
        """Sync the named files and their folder; always True.

        Raises:
            ConflictError: The folder is gone: another run cleared this attempt's staging.
            WriteError: A sync failed; the data may not be on disk.
        """
        path = self._text(folder)
        with self.writing(folder):
            try:
                abreast(_sync, [f"{path}/{name}" for name in names])
                _sync(path)
                _sync(path.rpartition("/")[0])
            except FileNotFoundError as error:
                raise staging_cleared(path) from error
        return True

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        """Rename a staged file into place, or hard-link it there.

        Raises:
            WriteError: The rename failed for another reason than a missing source.
        """
        origin, destination = self._text(source), self._text(target)
        with self.writing(target):
            while True:
                try:
                    (os.link if keep else os.rename)(origin, destination)
                except FileExistsError:
                    return True
                except FileNotFoundError:
                    # Either the source is gone, or the folder is new, or a retention just removed it as empty.
                    if not Path(origin).exists():
                        return False
                    Path(destination).parent.mkdir(parents=True, exist_ok=True)
                else:
                    return True

    def publish_all(self, pairs: Iterable[tuple[str, str]], *, keep: bool = False) -> Iterator[bool]:
        """Publish one file after the other, each when the caller iterates to it."""
        return (self.publish(source, target, keep=keep) for source, target in pairs)

    def sync(self, folders: set[str]) -> None:
        """Sync the folders and those above them, up to the root; the deepest first, because all may be new."""
        above: set[str] = set()
        for folder in folders:
            path = self._text(folder)
            while path not in above and len(path) >= len(str(self.root)):
                above.add(path)
                path = path.rpartition("/")[0]
        for depth in sorted({path.count("/") for path in above}, reverse=True):
            abreast(self._sync_folder, [path for path in above if path.count("/") == depth])

    def _sync_folder(self, path: str) -> None:
        with self.writing(path), suppress(FileNotFoundError):
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
                # The feed's folder stays, so that readers of a feed without files find it.
                if len(parent.relative_to(self.root).parts) <= 2:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def remove_all(self, keys: Iterable[str]) -> Iterator[None]:
        """Remove one file after the other, each when the caller iterates to it."""
        return map(self.remove, keys)

    def remove_folder(self, folder: str) -> None:
        """Remove a folder and everything in it, if it exists."""
        path = self._path(folder)
        with self.writing(folder):
            for left in reversed(range(_TIMES_CLEARED)):
                try:
                    shutil.rmtree(path)
                except OSError as error:
                    # Another run clears it too, or the slow process that owns it still adds files.
                    if error.errno not in {errno.ENOENT, errno.ENOTEMPTY} or not left:
                        raise
                if not path.exists():
                    return

    def move_folder(self, source: str, target: str) -> bool:
        """Rename a folder; False when it is gone."""
        with self.writing(target):
            try:
                self._path(source).rename(self._path(target))
            except FileNotFoundError:
                return False
        return True

    def clear_folder(self, folder: str, *, aside: str) -> None:
        """Rename a folder, then remove it.

        Its owner may be moving it to the next number at the same time to commit it there: only one of the two
        renames succeeds, so a folder that is removed here can no longer be committed.
        """
        if self.move_folder(folder, aside):
            self.remove_folder(aside)

    def let_go(self, folder: str) -> None:
        """Do nothing: there are no files that other processes do not see."""

    def uri(self, key: str) -> str:
        """Return the absolute path."""
        return str(self._path(key))

    def arrow_paths(self, keys: Iterable[str]) -> tuple[list[str], None]:
        """Return the files' own paths, which pyarrow reads by itself."""
        return [self.uri(key) for key in keys], None

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Do nothing: DuckDB reads paths by itself."""

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Turn errors of the operating system while a key is read into our errors."""
        try:
            yield
        except OSError as error:
            raise disk_read_error(self.root, key, error) from error

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Turn errors of the operating system while a key, or a path, is written into a `WriteError`."""
        try:
            yield
        except OSError as error:
            raise disk_write_error(Path(self.root, key), error) from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a link that leads to itself, for example
        return entry.is_dir()
    return False

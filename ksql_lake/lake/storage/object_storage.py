"""The lake in an object store: S3 and compatible stores, Google Cloud Storage, Azure."""

# There are no renames: staged files wait in a local spool, are uploaded and verified right before the commit,
# and are copied inside the store to publish. Exclusive creation is a conditional write, which is tested
# before the first one, because a store that ignores the condition would let two exports win. A write without
# an answer may still happen.

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ksql_lake.errors import ConfigError, LakeError, StoreError, WriteError
from ksql_lake.lake.storage.abreast import abreast
from ksql_lake.lake.storage.boundary import free_space
from ksql_lake.lake.storage.bucket import Bucket
from ksql_lake.lake.storage.objects import WORKERS, Objects
from ksql_lake.lake.storage.spool import Spool, spools
from ksql_lake.lake.storage.store_filesystem import StoreFilesystem, opened

if TYPE_CHECKING:
    import duckdb
    import pyarrow.fs

PROBE = "metadata/conditional-writes.txt"
"""The object whose second creation a store must refuse."""

_PROBE_TEXT = (
    b"ksql-lake creates this object again and again; a store that lets it succeed is not safe to use.\n"
)
_ANNOUNCEMENT = "at-work.txt"
_ANNOUNCE_SECONDS = 300.0


class ObjectStorage:
    """A prefix in a bucket.

    Args:
        bucket: The bucket and its client.

    Every method that sends requests raises `StoreError` if the store refuses one or does not answer.
    """

    paged = True
    delayed = True
    syncs = False

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.objects = Objects(bucket)
        self.filesystem = StoreFilesystem(self.objects)
        self._spool = Spool()
        self._folders: dict[str, Path] = {}
        self._uploaded: dict[str, set[str]] = {}
        self._announced: dict[str, float] = {}
        self._proven = False

    def begun(self) -> bool:
        """Whether there is any object."""
        return bool(self.objects.names(""))

    def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        return self.objects.get(key)

    def read_all(self, keys: Collection[str]) -> Iterator[bytes | None]:
        """Return the bytes of many objects, several requests at a time."""
        return iter(abreast(self.objects.get, list(keys), threads=WORKERS, rest=False))

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:  # noqa: ARG002 - a PUT is whole
        """Create an object on the condition that it does not exist; False when it does.

        False can also mean that an earlier try of the same request created it.

        Raises:
            StoreError: The store refused, or its answer did not come: the object may be there, or come later.
        """
        self._prove()
        return self.objects.create(key, data)

    def replace(self, key: str, data: bytes, *, temporary: str) -> None:  # noqa: ARG002 - a PUT is whole
        """Create or replace an object."""
        self.objects.put(key, data)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Return the sorted names directly inside a folder, after a name; one request per thousand names."""
        return self.objects.names(folder, after=after)

    def staged(self, folder: str) -> list[str]:
        """Return the sorted names of the staging folders that hold something.

        Some stores go on listing a folder for a while after the last object in it is gone.
        """
        found = self.objects.below(folder)
        return sorted({meta["path"].removeprefix(f"{folder}/").partition("/")[0] for meta in found})

    def walk(self, folder: str) -> Iterator[str]:
        """Return the keys of all objects below a folder, sorted."""
        return iter(sorted(meta["path"] for meta in self.objects.below(folder)))

    def open(self, key: str, *, whole: bool = False) -> io.BufferedReader:
        """Open an object; reads fetch a part each, or with `whole` all of it is fetched first."""
        if not whole:
            return opened(self.objects, key)
        with self.writing(key):
            path = self._spool.fresh()
            if not self.objects.fetch(key, path):
                hint = "Run `ksql-lake doctor` to see what else is missing."
                raise LakeError("cannot be read: there is no such object", hint=hint, path=self.uri(key))
            file = path.open("rb")
            path.unlink()
        return file

    @contextmanager
    def local_copies(self, keys: Collection[str]) -> Iterator[Mapping[str, str]]:
        """Fetch objects, several at a time, and remove the copies at the end of the block."""
        with self.writing("copies"):
            folder = self._spool.fresh()
            folder.mkdir()
        paths = {key: folder / f"{number}.parquet" for number, key in enumerate(keys)}
        try:
            with self.writing("copies"):
                abreast(
                    lambda key: self.objects.fetch(key, paths[key]), list(keys), threads=WORKERS, rest=False
                )
            yield {key: str(path) for key, path in paths.items()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None when there is none."""
        return self.objects.size(key)

    def sizes(self, folder: str, keys: Collection[str]) -> dict[str, int]:
        """Return the sizes of the objects that exist; one request per thousand objects of the folder."""
        wanted = set(keys)
        return {meta["path"]: meta["size"] for meta in self.objects.below(folder) if meta["path"] in wanted}

    def stamps(self, folder: str, *, after: str = "") -> dict[str, str]:
        """Return the store's mark of each object inside a folder whose name comes after a name."""
        return self.objects.stamps(folder, after=after)

    def begin(self, folder: str) -> None:
        """Make a folder in the spool.

        Raises:
            WriteError: It cannot be made.
        """
        with self.writing(folder):
            path = self._spool.fresh()
            path.mkdir()
        self._folders[folder] = path

    def announce(self, folder: str) -> None:
        """Write a small object into a staging folder every few minutes, to mark it as in use."""
        now = time.monotonic()
        if now - self._announced.get(folder, -_ANNOUNCE_SECONDS) < _ANNOUNCE_SECONDS:
            return
        self._prove()
        self._uploaded.setdefault(folder, set()).add(_ANNOUNCEMENT)
        self.objects.put(f"{folder}/{_ANNOUNCEMENT}", b"a run is at work, or was killed at it\n")
        self._announced[folder] = now

    def touched(self, folder: str) -> datetime | None:
        """Return when a staging folder was last written to; None when it is empty."""
        return max((meta["last_modified"] for meta in self.objects.below(folder)), default=None)

    def local_file(self, key: str) -> Path:
        """Return the path in the spool of a staged file."""
        folder, _, name = key.rpartition("/")
        return self._folders[folder] / name

    def lock_file(self, key: str) -> Path:
        """Return a path beside the spools, the same for all processes of this user on this machine."""
        lake = sha256(self.bucket.root.encode()).hexdigest()[:16]
        return spools() / "locks" / lake / key.replace("/", "-")

    def stage(self, folder: str, names: list[str]) -> bool:
        """Upload the named files, several at a time, and compare their sizes in the store.

        False when one is missing there: another run has cleared the folder, whose number was taken.

        Raises:
            StoreError: An upload failed, or an object has another size than its file.
        """
        if not names:
            return True
        local = {f"{folder}/{name}": self._folders[folder] / name for name in names}
        self._uploaded.setdefault(folder, set()).update(names)
        with self.writing(folder):
            sizes = {key: path.stat().st_size for key, path in local.items()}
            abreast(lambda key: self.objects.upload(local[key], key), list(sizes), threads=WORKERS, rest=False)
        held = {meta["path"]: meta["size"] for meta in self.objects.below(folder)}
        for key, size in sizes.items():
            if held.get(key, size) != size:
                raise StoreError(
                    f"{size} bytes were sent, but the object store holds {held[key]}",
                    hint="Nothing was committed. The store does not keep what it accepts; check it first.",
                    path=self.uri(key),
                )
        return sizes.keys() <= held.keys()

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:  # noqa: ARG002 - always kept
        """Copy a staged object into place inside the store; False when the source is gone.

        The staged object goes when its folder is cleared.
        """
        with self.writing(target):
            return self.objects.copy(source, target)

    def publish_all(self, pairs: Iterable[tuple[str, str]], *, keep: bool = False) -> Iterator[bool]:  # noqa: ARG002
        """Copy all objects, several at a time, when the caller begins to iterate."""
        yield from abreast(lambda pair: self.publish(*pair), list(pairs), threads=WORKERS, rest=False)

    def sync(self, folders: set[str]) -> None:
        """Do nothing: a write that a store has acknowledged is durable."""

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens when it is gone already."""
        self.objects.delete([key])

    def remove_all(self, keys: Iterable[str]) -> Iterator[None]:
        """Remove all objects when the caller begins to iterate, a thousand per request if possible."""
        gone = list(keys)
        self.objects.delete(gone)
        yield from (None for _ in gone)

    def remove_folder(self, folder: str) -> None:
        """Remove a staging folder in the spool and in the store."""
        uploaded = self._uploaded.pop(folder, set())
        self._announced.pop(folder, None)
        if folder in self._folders:
            self.let_go(folder)
            self.objects.delete([f"{folder}/{name}" for name in uploaded])
        else:
            self.objects.delete([meta["path"] for meta in self.objects.below(folder)])

    def move_folder(self, source: str, target: str) -> bool:
        """Rename an attempt's own folder in the spool, and remove the objects uploaded under the old name."""
        if source not in self._folders:
            return False
        self._folders[target] = self._folders.pop(source)
        self._announced.pop(source, None)
        self.objects.delete([f"{source}/{name}" for name in self._uploaded.pop(source, set())])
        return True

    def clear_folder(self, folder: str, *, aside: str) -> None:  # noqa: ARG002 - nothing is moved
        """Remove the objects of a staging folder whose number is taken, so that they cannot be committed.

        Its owner, if alive, has the files in its own spool and uploads them again under the next number.
        """
        uploaded = self._uploaded.pop(folder, None) if folder in self._folders else None
        if uploaded is None:
            self.objects.delete([meta["path"] for meta in self.objects.below(folder)])
        else:
            self.objects.delete([f"{folder}/{name}" for name in uploaded])

    def let_go(self, folder: str) -> None:
        """Remove the spool's files of an attempt that is over."""
        path = self._folders.pop(folder, None)
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)

    def uri(self, key: str) -> str:
        """Return the address, e.g. `s3://bucket/prefix/streams/orders`."""
        return self.objects.uri(key)

    def arrow_paths(self, keys: Iterable[str]) -> tuple[list[str], pyarrow.fs.FileSystem]:
        """Return bucket and key of each object, and the store as a filesystem."""
        # The import takes much of a command's start, and only reading rows needs it.
        from pyarrow.fs import FSSpecHandler, PyFileSystem  # noqa: PLC0415

        filesystem = PyFileSystem(FSSpecHandler(self.filesystem))
        return [self.uri(key).partition("://")[2] for key in keys], filesystem

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Register the store with a DuckDB connection, which then reads the addresses without an extension."""
        if self.filesystem.protocol not in connection.list_filesystems():
            connection.register_filesystem(self.filesystem)

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:  # noqa: ARG002 - the spool has other names
        """Turn errors of the operating system while the spool is written into a `WriteError`."""
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            path = Path(error.filename) if isinstance(error.filename, str) else spools() / "spool"
            raise WriteError(
                f"a file on its way to or from the store could not be written: {reason}{free_space(path)}",
                hint="It waits on the local disk; free some space there, or set TMPDIR to a folder with more.",
                path=str(path),
            ) from error

    def _prove(self) -> None:
        """Check that the store refuses to create an existing object; one request, two in a new bucket.

        Raises:
            ConfigError: The store does not refuse it.
        """
        if self._proven:
            return
        if self.objects.create(PROBE, _PROBE_TEXT) and self.objects.create(PROBE, _PROBE_TEXT):
            raise ConfigError(
                "the object store ignores If-None-Match: it let the same object be created twice",
                hint="Two exports at once could both commit there, and rows be lost. Use a store, or a release "
                "of it, that knows conditional writes; see docs/object-stores.md.",
                path=self.uri(PROBE),
            )
        self._proven = True

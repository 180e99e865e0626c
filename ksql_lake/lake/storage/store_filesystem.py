"""A lake's bucket as a read-only fsspec filesystem for DuckDB and pyarrow."""

# Their threads share an open file, each with its own seek and read, so a file has one position per thread.

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from fsspec.spec import AbstractFileSystem

from ksql_lake.errors import LakeError
from ksql_lake.lake.storage.objects import Objects

TAIL_BYTES = 64 * 1024
"""How many bytes at a file's end are fetched at once: a footer is rarely larger."""
_KNOWN_FILES = 4096


class StoreFilesystem(AbstractFileSystem):  # type: ignore[misc]
    """The objects below a lake's address, by `scheme://bucket/key` or `bucket/key`.

    Args:
        objects: The lake's objects.
    """

    cachable = False

    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self.objects = objects
        self.protocol, _, self._base = objects.bucket.root.partition("://")
        self._known: OrderedDict[str, _File] = OrderedDict()
        self._knowing = threading.Lock()

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        """List what is directly inside a folder; one request per thousand names."""
        key = self._key(path)
        listed = self.objects.listed(key)
        files = [
            self._described(meta["path"], "file", meta["size"], meta["last_modified"])
            for meta in listed["objects"]
        ]
        found = [*files, *(self._described(prefix, "directory", 0) for prefix in listed["common_prefixes"])]
        if not found:
            raise FileNotFoundError(path)
        return found if detail else [item["name"] for item in found]

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Describe a file or a folder."""
        key = self._key(path)
        try:
            known = self._file(key)
        except FileNotFoundError:
            self.ls(path)
            return self._described(key, "directory", 0)
        return self._described(key, "file", known.size, known.modified)

    def modified(self, path: str) -> datetime:
        """Return when an object was written."""
        return self._file(self._key(path)).modified

    def open(self, path: str, mode: str = "rb", **_options: Any) -> OpenObject:
        """Open an object for reading."""
        if mode not in {"r", "rb"}:
            raise io.UnsupportedOperation("a lake is read only")
        return OpenObject(self.objects, self._file(self._key(path)), threading.local())

    def _described(self, key: str, kind: str, size: int, modified: datetime | None = None) -> dict[str, Any]:
        return {"name": f"{self._base}/{key}", "type": kind, "size": size, "last_modified": modified}

    def _key(self, path: str) -> str:
        plain = path.partition("://")[2] if "://" in path else path
        plain = plain.rstrip("/")
        if plain == self._base:
            return ""
        if not plain.startswith(f"{self._base}/"):
            raise FileNotFoundError(f"{path} is not below {self.objects.bucket.root}")
        return plain.removeprefix(f"{self._base}/")

    def _file(self, key: str) -> _File:
        with self._knowing:
            known = self._known.get(key)
        if known is None:
            meta = self.objects.head(key)
            if meta is None:
                raise FileNotFoundError(self.objects.uri(key))
            known = _File(key, meta["size"], meta["last_modified"])
            with self._knowing:
                self._known[key] = known
                if len(self._known) > _KNOWN_FILES:
                    self._known.popitem(last=False)
        return known


class _File:
    """A data file's size, when it was written and, after the first read there, its last bytes."""

    def __init__(self, key: str, size: int, modified: datetime) -> None:
        self.key = key
        self.size = size
        self.modified = modified
        self.tail: bytes | None = None


class OpenObject(io.RawIOBase):
    """An open object.

    Args:
        objects: The lake's objects.
        file: The file.
        places: Holds the position: one for all threads, or one for each.

    Attributes:
        size: In bytes.
    """

    def __init__(self, objects: Objects, file: _File, places: SimpleNamespace | threading.local) -> None:
        self._objects = objects
        self._file = file
        self._places = places
        self.size = file.size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return getattr(self._places, "place", 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        self._places.place = max(0, base + offset)
        return self.tell()

    def read(self, size: int | None = -1) -> bytes:
        """Read from the position on: one request, unless the bytes are among the last ones of the file."""
        begin = self.tell()
        end = self.size if size is None or size < 0 else min(self.size, begin + size)
        if end <= begin:
            return b""
        data = self._range(begin, end)
        self._places.place = end
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the object goes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read the rest."""
        return self.read(-1)

    def _range(self, begin: int, end: int) -> bytes:
        first = max(0, self.size - TAIL_BYTES)
        if begin < first:
            return self._objects.range(self._file.key, begin, end)
        if self._file.tail is None:
            self._file.tail = self._objects.range(self._file.key, first, self.size)
        return self._file.tail[begin - first : end - first]


def opened(objects: Objects, key: str) -> io.BufferedReader:
    """Open an object for reading in parts, each one request.

    Raises:
        LakeError: There is no such object.
    """
    meta = objects.head(key)
    if meta is None:
        hint = "Run `ksql-lake doctor` to see what else is missing."
        raise LakeError("cannot be read: there is no such object", hint=hint, path=objects.uri(key))
    file = _File(key, meta["size"], meta["last_modified"])
    return io.BufferedReader(OpenObject(objects, file, SimpleNamespace()), TAIL_BYTES)

"""Requests to a bucket, several at a time, with our errors. Every object is whole or absent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError

from ksql_lake.errors import StoreError, StoreUnavailableError
from ksql_lake.lake.storage.abreast import abreast
from ksql_lake.lake.storage.bucket import STORE_ERRORS, Bucket, no_bucket, store_error

if TYPE_CHECKING:
    from obstore import ListResult, ObjectMeta

WORKERS = 8
"""How many objects are transferred at the same time."""
PART_BYTES = 8 * 1024 * 1024
"""Files larger than two of these are uploaded in parts of at least this size."""
COPY_BYTES = 5_000_000_000
"""The largest object that S3 copies in one request."""
_PARTS = 9_000
_PARTS_AT_ONCE = 4


class Objects:
    """The objects below a lake's address.

    Args:
        bucket: The bucket and its client.

    Every method raises `StoreError` if the store refuses a request or does not answer, and `ConfigError` if the
    bucket does not exist.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.store = bucket.store

    def uri(self, key: str) -> str:
        """Return the address, e.g. `s3://bucket/prefix/streams/orders`."""
        return f"{self.bucket.root}/{key}"

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        with self.asking(key, "read"), _absent():
            return obstore.get(self.store, key).bytes().to_bytes()
        return None

    def range(self, key: str, begin: int, end: int) -> bytes:
        """Return the bytes of an object from one place to another."""
        with self.asking(key, "read"):
            return obstore.get_range(self.store, key, start=begin, end=end).to_bytes()

    def head(self, key: str) -> ObjectMeta | None:
        """Return an object's size and time, or None when there is none."""
        with self.asking(key, "read"), _absent():
            return obstore.head(self.store, key)
        return None

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None when there is none."""
        meta = self.head(key)
        return meta["size"] if meta is not None else None

    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        with self.asking(key, "written"):
            obstore.put(self.store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> bool:
        """Create an object on the condition that it does not exist; False when it does.

        After a failed request the object is read back: the store may have created it without an answer.
        """
        try:
            with self.asking(key, "written"):
                try:
                    obstore.put(self.store, key, data, mode="create", use_multipart=False)
                except AlreadyExistsError:
                    return False
        except StoreUnavailableError as error:
            found = self._read_back(key)
            if found is None:
                raise error from None
            return found == data
        return True

    def _read_back(self, key: str) -> bytes | None:
        """Return an object's bytes; None if it cannot be read, or there is none."""
        try:
            return self.get(key)
        except StoreError:
            return None

    def below(self, folder: str) -> list[ObjectMeta]:
        """List all objects below a folder; a request per thousand."""
        with self.asking(folder, "listed"):
            return list(obstore.list(self.store, folder).collect())

    def listed(self, folder: str) -> ListResult[Sequence[ObjectMeta]]:
        """List the objects and folders directly inside a folder; a request per thousand."""
        with self.asking(folder, "listed"):
            return obstore.list_with_delimiter(self.store, folder)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Return the sorted names directly inside a folder, or only those after a name."""
        if after:
            with self.asking(folder, "listed"):
                found = obstore.list(self.store, folder, offset=f"{folder}/{after}").collect()
            keys = [meta["path"] for meta in found]
        else:
            listed = self.listed(folder)
            keys = [*listed["common_prefixes"], *(meta["path"] for meta in listed["objects"])]
        return sorted({key.removeprefix(f"{folder}/").partition("/")[0] for key in keys})

    def stamps(self, folder: str, *, after: str = "") -> dict[str, str]:
        """Return size and entity tag, or time, of the objects in a folder after a name, by name."""
        with self.asking(folder, "listed"):
            found = obstore.list(self.store, folder, offset=f"{folder}/{after}").collect()
        return {
            meta["path"].removeprefix(
                f"{folder}/"
            ): f"{meta['size']:x}.{meta['e_tag'] or meta['last_modified']}"
            for meta in found
        }

    def copy(self, source: str, target: str) -> bool:
        """Copy an object inside the store, or by way of the local disk if it is too large; False without one.

        Raises:
            OSError: The local disk was needed, and cannot be written.
        """
        with self.asking(target, "written"), _absent():
            try:
                obstore.copy(self.store, source, target)
            except STORE_ERRORS:
                if (self.size(source) or 0) <= COPY_BYTES:
                    raise
                with TemporaryDirectory(prefix="ksql-lake-copy-") as folder:
                    path = Path(folder, "object")
                    self.fetch(source, path)
                    self.upload(path, target)
            return True
        return False

    def delete(self, keys: Collection[str]) -> None:
        """Remove objects, a thousand per request if the store can do that; missing objects are no error."""
        listed = list(keys)
        if not listed:
            return
        with self.asking(listed[0], "removed"):
            try:
                obstore.delete(self.store, listed if len(listed) > 1 else listed[0])
            except FileNotFoundError as error:
                if no_bucket(error):
                    raise
                # Google's and Azure's stores report missing objects, S3's do not; the rest may then not have
                # been tried.
                if len(listed) > 1:
                    abreast(lambda key: self.delete([key]), listed, threads=WORKERS, rest=False)

    def upload(self, path: Path, key: str) -> None:
        """Create or replace an object with the bytes of a local file."""
        size = path.stat().st_size
        with self.asking(key, "written"):
            obstore.put(
                self.store,
                key,
                path,
                use_multipart=size > 2 * PART_BYTES,
                chunk_size=_part(size),
                max_concurrency=_PARTS_AT_ONCE,
            )

    def fetch(self, key: str, path: Path) -> bool:
        """Write an object's bytes to a local file; False, and no file, when there is none.

        Raises:
            OSError: The local file cannot be written.
        """
        found = None
        with self.asking(key, "read"), _absent():
            found = obstore.get(self.store, key)
        if found is None:
            return False
        stream, missing = iter(found.stream()), found.meta["size"]
        with path.open("wb") as file:
            while True:
                with self.asking(key, "read"):
                    chunk = next(stream, None)
                if chunk is None:
                    break
                missing -= file.write(chunk)
        if missing:
            raise StoreError("the object store sent another number of bytes than announced", path=self.uri(key))
        return True

    @contextmanager
    def asking(self, key: str, doing: str) -> Iterator[None]:
        """Turn errors of the client library into ours."""
        try:
            yield
        except STORE_ERRORS as error:
            raise store_error(error, address=self.uri(key), doing=doing) from None


@contextmanager
def _absent() -> Iterator[None]:
    """Leave the block quietly if the object does not exist; a missing bucket is an error."""
    try:
        yield
    except FileNotFoundError as error:
        if no_bucket(error):
            raise


def _part(size: int) -> int:
    """Return the size of an upload's parts: stores take 10,000 of them at most."""
    return max(PART_BYTES, -(-size // _PARTS))

"""A lake as anybody can see and touch it, in a folder or in a bucket, without any code of its own."""

from __future__ import annotations

import glob
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd


class Place:
    """A lake looked at from outside.

    Args:
        root: Its folder, or its address; the environment says where the store is, as for everybody.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)

    @cached_property
    def _client(self) -> Any:
        import boto3

        return boto3.client("s3")

    @property
    def local(self) -> bool:
        """Whether it is a folder."""
        return "://" not in self.root

    @property
    def _bucket(self) -> str:
        return self.root.split("/", 3)[2]

    def _key(self, key: str) -> str:
        return f"{self.root.split('/', 3)[3]}/{key}"

    def address(self, key: str) -> str:
        """What errors call a file."""
        return f"{self.root}/{key}"

    def keys(self, folder: str = "", *, ending: str = "") -> list[str]:
        """List the files below a folder, sorted, relative to the root."""
        if self.local:
            found = [path for path in Path(self.root, folder).rglob("*") if path.is_file()]
            names = [path.relative_to(self.root).as_posix() for path in found]
        else:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(folder and f"{folder}/")
            )
            begin = len(self._key(""))
            names = [item["Key"][begin:] for page in pages for item in page.get("Contents", [])]
        return sorted(name for name in names if name.endswith(ending))

    def marks(self, folder: str) -> dict[str, str]:
        """List the Parquet files below a folder, relative to it, each with a mark of this very file.

        The mark is empty for one that was listed and is gone already: a reader would fail to open it.
        """
        if self.local:
            base, found = Path(self.root, folder), {}
            names = glob.glob("**/*.parquet", root_dir=base, recursive=True)  # noqa: PTH207 - names only
            for name in names:
                found[name] = ""
                with suppress(FileNotFoundError):
                    status = os.stat(base / name)  # noqa: PTH116 - there are many
                    found[name] = f"{status.st_ino} {status.st_size}"
            return found
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key(f"{folder}/")
        )
        begin = len(self._key(f"{folder}/"))
        items = (item for page in pages for item in page.get("Contents", []))
        return {item["Key"][begin:]: item["ETag"] for item in items if item["Key"].endswith(".parquet")}

    def read(self, key: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: There is none.
        """
        if self.local:
            return Path(self.root, key).read_bytes()
        try:
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read()
        except self._client.exceptions.NoSuchKey:
            raise FileNotFoundError(key) from None
        return data

    @contextmanager
    def copied(self, folder: str) -> Iterator[Path]:
        """Yield a local folder with the files below a folder; a lake on a disk gives its own."""
        if self.local:
            yield Path(self.root, folder)
            return
        with tempfile.TemporaryDirectory(prefix="ksql-lake-copied-") as temporary:
            copy = Place(temporary)
            for key in self.keys(folder):
                copy.write(key, self.read(key))
            yield Path(temporary, folder)

    def write(self, key: str, data: bytes) -> None:
        """Write a file."""
        if self.local:
            path = Path(self.root, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        else:
            self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data)

    def delete(self, key: str) -> None:
        """Remove a file."""
        if self.local:
            Path(self.root, key).unlink()
        else:
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def rows(self, folder: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read all Parquet files below a folder, one after the other, as a reader that only globs."""
        frames = [
            pd.read_parquet(io.BytesIO(self.read(key)), columns=columns)
            for key in self.keys(folder, ending=".parquet")
        ]
        return pd.concat(frames) if frames else pd.DataFrame(columns=columns)

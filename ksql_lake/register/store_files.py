"""Files of a lake's object store for pyiceberg, through the lake's own client."""

from __future__ import annotations

import io
from typing import Any

from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.typedef import EMPTY_DICT, Properties

from ksql_lake.lake.storage.opening import open_storage

ROOT = "ksql-lake.root"
"""The property that holds the lake's address."""


class StoreFiles(FileIO):
    """The objects below a lake's address, with the environment's credentials.

    Args:
        properties: Hold the address as `ROOT`.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.storage = open_storage(properties[ROOT])

    def key(self, location: str) -> str:
        """Return the key of an object's address."""
        return location.removeprefix(self.storage.uri("")).lstrip("/")

    def new_input(self, location: str) -> StoredFile:
        """Return an object to be read."""
        return StoredFile(location, self)

    def new_output(self, location: str) -> NewFile:
        """Return an object to be written."""
        return NewFile(location, self)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Remove an object."""
        self.storage.remove(self.key(location if isinstance(location, str) else location.location))


class StoredFile(InputFile):
    """An object to be read whole, which metadata files are small enough for."""

    def __init__(self, location: str, files: StoreFiles) -> None:
        super().__init__(location)
        self.files = files

    def __len__(self) -> int:
        """Return its size in bytes; 0 if it does not exist."""
        return self.files.storage.size(self.files.key(self.location)) or 0

    def exists(self) -> bool:
        """Whether the object exists."""
        return self.files.storage.size(self.files.key(self.location)) is not None

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002 - pyiceberg's own signature
        """Return its bytes as an open file.

        Raises:
            FileNotFoundError: The object does not exist.
        """
        data = self.files.storage.read(self.files.key(self.location))
        if data is None:
            raise FileNotFoundError(self.location)
        return io.BytesIO(data)


class NewFile(OutputFile):
    """An object that is written as a whole when it is closed."""

    def __init__(self, location: str, files: StoreFiles) -> None:
        super().__init__(location)
        self.files = files

    def __len__(self) -> int:
        """Return its size in bytes; 0 if it does not exist."""
        return len(self.to_input_file())

    def exists(self) -> bool:
        """Whether the object exists."""
        return self.to_input_file().exists()

    def to_input_file(self) -> StoredFile:
        """Return the same object to be read."""
        return StoredFile(self.location, self.files)

    def create(self, overwrite: bool = False) -> Any:
        """Return an open file for its bytes.

        Raises:
            FileExistsError: The object exists, and may not be overwritten.
        """
        if not overwrite and self.exists():
            raise FileExistsError(self.location)
        return _Writing(self)


class _Writing(io.BytesIO):
    """Bytes that are put into the store when the file is closed, and never after an error."""

    def __init__(self, file: NewFile) -> None:
        super().__init__()
        self._file = file

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            super().close()
        super().__exit__(kind, *rest)

    def close(self) -> None:
        if not self.closed:
            files, key = self._file.files, self._file.files.key(self._file.location)
            files.storage.replace(key, self.getvalue(), temporary=f"{key}.tmp")
        super().close()

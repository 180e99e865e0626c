"""Open the storage that `KSQL_LAKE_ROOT` names: a folder, or a bucket's address."""

from __future__ import annotations

import re
from pathlib import Path

from ksql_lake.errors import ConfigError
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.local_storage import LocalStorage

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def is_folder(root: str | Path) -> bool:
    """Whether a lake's root is a local path, and not an object store's address."""
    return _ADDRESS.match(str(root)) is None


def open_storage(root: str | Path) -> Storage:
    """Return the storage of a lake; reads and writes nothing.

    Args:
        root: A folder, or `s3://BUCKET/PREFIX`, `gs://...`, `az://...`.

    Raises:
        ConfigError: The address or the environment cannot be used, or the client library is not installed.
    """
    if is_folder(root):
        return LocalStorage(root)
    try:
        # Only a lake in a bucket needs the client library, which is an extra.
        from ksql_lake.lake.storage.bucket import open_bucket  # noqa: PLC0415
        from ksql_lake.lake.storage.object_storage import ObjectStorage  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"obstore", "fsspec"}:
            raise
        raise ConfigError(
            f"a lake in an object store needs the Python package {error.name}, which is not installed",
            hint="pip install 'ksql-lake[object-store]'",
        ) from None
    return ObjectStorage(open_bucket(str(root)))

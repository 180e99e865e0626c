"""From what `KSQL_LAKE_ROOT` says to the storage behind it: a folder, or a bucket's address."""

from __future__ import annotations

from pathlib import Path

from ksql_lake.lake.local_storage import LocalStorage
from ksql_lake.lake.storage import Storage


def open_storage(root: str | Path) -> Storage:
    """Give the storage of a lake; touches nothing.

    Args:
        root: Its folder.
    """
    return LocalStorage(root)

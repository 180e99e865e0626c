"""Where doctor keeps what leaves a dataset: the feed's quarantine folder beside its metadata, never emptied."""

from __future__ import annotations

from datetime import UTC, datetime

from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage import Storage


def keep_aside(storage: Storage, layout: FeedLayout, key: str, *, still: bool = False) -> None:
    """Move a file to quarantine, or also leave it where it is.

    Raises:
        WriteError: The disk or its permissions are in the way.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S_%f")
    target = f"{layout.metadata}/quarantine/{stamp}/{key.removeprefix(layout.metadata).lstrip('/')}"
    storage.publish(key, target, keep=still)
    if not still:
        storage.remove(key)

"""Find damage of an index without the libraries of its format."""

# Each file is compared with its digest before a library opens it: pyiceberg reads memory beyond the end of a
# file that was cut, and a doctor without the libraries has to see the same.

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ksql_lake.errors import LakeError, StoreError
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage

HINT = "metadata/version-hint.text"
"""The file of an Iceberg index that names its head, for readers that know only the folder."""
LINK = "data"
"""The link in a Delta index that leads to the dataset."""


def digests(storage: Storage, folder: str, names: Collection[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder; files that are not there are left out."""
    found = zip(names, storage.read_all([f"{folder}/{name}" for name in names]), strict=True)
    return {name: hashlib.sha256(data).hexdigest() for name, data in found if data is not None}


def damage(storage: Storage, folder: str, written: Mapping[str, str]) -> str:
    """Return which file of an index is missing or damaged, given the digests of all; empty when none is."""
    try:
        found = digests(storage, folder, written)
    except StoreError:
        raise
    except LakeError as error:
        return error.message
    for name, digest in written.items():
        if found.get(name) != digest:
            return f"{name} is {'damaged' if name in found else 'missing'}"
    return ""


def leads_astray(storage: Storage, layout: FeedLayout) -> bool:
    """Whether the link of a feed's Delta index does not lead to its dataset."""
    link = Path(storage.uri(layout.index("delta")), LINK)
    return os.path.realpath(link) != os.path.realpath(storage.uri(layout.dataset))


def hint_damage(storage: Storage, folder: str, head: str) -> str:
    """Return what is wrong with the hint of an Iceberg index; empty when it names the head."""
    name = head.rsplit("/", 1)[1]
    return damage(storage, folder, {HINT: hashlib.sha256(name.encode()).hexdigest()})

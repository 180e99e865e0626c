"""Show that no two rows of a snapshot have the same key, by hashes that all differ."""

# Where two hashes are equal, or the rows are too many, the caller compares the values.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ksql_lake.lake.files.checksum import Words, batch_hashes

MOST_ROWS = 4_000_000
"""Rows up to which a hash of each key is kept: 32 MB, and as much again for a moment to sort them."""


class DistinctKeys:
    """The hashes of the keys seen so far.

    Args:
        key: Names of the columns that tell one row from another; with none nothing is kept.
    """

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._rows = 0
        self._hashes: list[Words] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at the keys of more rows."""
        self._rows += batch.num_rows
        if self._key and self._rows <= MOST_ROWS:
            self._hashes.append(batch_hashes(batch.select(self._key))[0])
        else:
            self._hashes.clear()

    @property
    def shown(self) -> bool:
        """Whether all keys are surely distinct; False says only that it is not known."""
        if sum(map(len, self._hashes)) != self._rows:
            return False
        hashes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
        hashes.sort()
        return not bool((hashes[1:] == hashes[:-1]).any())

"""Prove that no two rows of a snapshot have the same key, by hashes that all differ."""

# If two hashes are equal, or there are too many rows, the caller compares the values.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ksql_lake.lake.files.checksum import Words, batch_hashes

MOST_ROWS = 4_000_000
"""The most rows whose hashes are kept: 32 MB, and twice that while they are sorted."""


class DistinctKeys:
    """The hashes of the keys seen so far.

    Args:
        key: Names of the columns that identify a row; with none, no hash is kept.
    """

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._rows = 0
        self._hashes: list[Words] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the keys of more rows."""
        self._rows += batch.num_rows
        if self._key and self._rows <= MOST_ROWS:
            self._hashes.append(batch_hashes(batch.select(self._key))[0])
        else:
            self._hashes.clear()

    @property
    def shown(self) -> bool:
        """Whether all keys are proven distinct; False means unknown."""
        if sum(map(len, self._hashes)) != self._rows:
            return False
        hashes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
        hashes.sort()
        return not bool((hashes[1:] == hashes[:-1]).any())

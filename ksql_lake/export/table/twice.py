"""Two answers to the same question about a table, compared key by key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ksql_lake.lake.files.checksum import Words, batch_hashes


class KeyedRows:
    """The rows of one answer as hashes: 16 bytes a row.

    Args:
        key: Names of the columns that distinguish one row from another; without names the whole row does.
    """

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._keys: list[Words] = []
        self._rows: list[Words] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._keys.append(batch_hashes(batch.select(self._key) if self._key else batch)[0])
        self._rows.append(batch_hashes(batch)[1])

    def differing(self, other: KeyedRows) -> int:
        """Count the keys that are in one answer only, or whose rows differ."""
        keys, rows = self._sorted()
        other_keys, other_rows = other._sorted()
        both, mine, theirs = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
        changed = int((rows[mine] != other_rows[theirs]).sum())
        return len(keys) - len(both) + len(other_keys) - len(both) + changed

    def _sorted(self) -> tuple[Words, Words]:
        """Return the distinct keys and, for each, the sum of its rows."""
        keys = np.concatenate([*self._keys, np.empty(0, np.uint64)])
        rows = np.concatenate([*self._rows, np.empty(0, np.uint64)])
        distinct, places = np.unique(keys, return_inverse=True)
        # The server may send a partition's rows twice in one answer: as a row of its key that counts once.
        sums = np.zeros(len(distinct), np.uint64)
        order = np.lexsort((rows, places))
        places, rows = places[order], rows[order]
        fresh = np.ones(len(rows), np.bool_)
        fresh[1:] = (places[1:] != places[:-1]) | (rows[1:] != rows[:-1])
        np.add.at(sums, places[fresh], rows[fresh])
        return distinct, sums

"""How many rows repeat the values of another: counted exactly, in bounded memory.

Keys whose hashes all differ all differ, and need no second look. Otherwise DuckDB counts and spills to disk
when the values do not fit. It refuses to estimate: where neither memory nor disk suffice, that is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa

from ksql_lake.errors import LakeError
from ksql_lake.lake.files.checksum import Words, batch_hashes
from ksql_lake.lake.rows.identity import MEMORY
from ksql_lake.lake.rows.scan import spilling
from ksql_lake.lake.storage.boundary import free_space

MOST_ROWS = 4_000_000
"""Rows up to which a hash of each key is kept: 32 MB, and as much again for a moment to sort them."""

Rows = Callable[[], pa.RecordBatchReader]
"""Gives the rows from their start; called again when more memory is tried."""


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


@contextmanager
def repeat_counter() -> Iterator[Callable[[Rows], int]]:
    """Yield a function that counts the rows which repeat all values of an earlier one; NULL equals NULL.

    What it needs on disk lies in the system's temporary folder and is gone afterwards.
    """
    with TemporaryDirectory(prefix="ksql_lake_") as folder, ExitStack() as stack:
        opened: dict[str | None, duckdb.DuckDBPyConnection] = {}

        def count(rows: Rows) -> int:
            reason = ""
            for limit, threads in MEMORY:
                if limit not in opened:
                    opened[limit] = stack.enter_context(spilling(Path(folder), limit, threads))
                try:
                    return _count(opened[limit], rows())
                except duckdb.OutOfMemoryException as error:
                    reason = str(error).partition("\n")[0]
                except duckdb.Error as error:
                    reason = str(error).partition("\n")[0]
                    break
            raise LakeError(
                f"equal rows cannot be counted: {reason}{free_space(Path(folder))}",
                hint="Free some space in the temporary folder (TMPDIR), or run it where there is more memory.",
            )

        yield count


def _count(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader) -> int:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in rows.schema.names)
    groups = connection.from_arrow(rows).aggregate("count(*) AS n", names)
    ((found,),) = groups.aggregate("coalesce(sum(n - 1), 0)::BIGINT").fetchall()
    return int(found)

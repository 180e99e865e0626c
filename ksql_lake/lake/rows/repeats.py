"""Count the rows that repeat the values of another row, exactly and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from ksql_lake.errors import LakeError
from ksql_lake.lake.files.statistics import float_columns
from ksql_lake.lake.rows.distinct_keys import MOST_ROWS, DistinctKeys
from ksql_lake.lake.rows.identity import MEMORY
from ksql_lake.lake.rows.scan import spilling
from ksql_lake.lake.storage.boundary import free_space

if TYPE_CHECKING:
    import duckdb

Rows = Callable[[], pa.RecordBatchReader]
"""Opens the rows from the start; called again for each larger memory limit."""


@contextmanager
def repeat_counter() -> Iterator[Callable[[Rows], int]]:
    """Yield a function that counts the rows which repeat all values of an earlier one; NULL equals NULL.

    Its files are in the system's temporary folder and are removed at the end.
    """
    with TemporaryDirectory(prefix="ksql_lake_") as folder, ExitStack() as stack:
        opened: dict[str | None, duckdb.DuckDBPyConnection] = {}

        def count(rows: Rows) -> int:
            if _all_differ(rows()):
                return 0
            import duckdb  # noqa: PLC0415 - most rows all differ, and small exports would wait for it

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


def _all_differ(rows: pa.RecordBatchReader) -> bool:
    """Whether the rows' hashes show that no two are equal; False means unknown."""
    # 0.0 and -0.0 are equal, and have different hashes.
    if float_columns(rows.schema):
        return False
    keys, seen = DistinctKeys(rows.schema.names), 0
    for batch in rows:
        keys.add(batch)
        seen += batch.num_rows
        if seen > MOST_ROWS:
            return False
    return keys.shown


def _count(connection: duckdb.DuckDBPyConnection, rows: pa.RecordBatchReader) -> int:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in rows.schema.names)
    groups = connection.from_arrow(rows).aggregate("count(*) AS n", names)
    ((found,),) = groups.aggregate("coalesce(sum(n - 1), 0)::BIGINT").fetchall()
    return int(found)

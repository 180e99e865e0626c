"""Rows and sizes as Parquet footers tell them, many files at once, read by DuckDB.

A file that cannot be read is an entry that says why, not an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

# A file without rows has no row group: it stands in the first relation alone.
_QUERY = """
    SELECT file_name, num_rows, coalesce(compressed, 0), coalesce(uncompressed, 0)
    FROM parquet_file_metadata($paths)
    LEFT JOIN (
        SELECT file_name, sum(total_compressed_size) AS compressed, sum(total_uncompressed_size) AS uncompressed
        FROM parquet_metadata($paths)
        GROUP BY file_name
    ) USING (file_name)
"""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file's footer says.

    Attributes:
        rows: Its rows.
        compressed: Bytes of its column chunks.
        uncompressed: Bytes they have encoded, but not compressed.
        problem: Why it cannot be read; the numbers mean nothing then.
    """

    rows: int = 0
    compressed: int = 0
    uncompressed: int = 0
    problem: str = ""


def read_footers(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, Footer]:
    """Read the footers of existing files."""
    if not paths:
        return {}
    try:
        rows = connection.execute(_QUERY, {"paths": list(paths)}).fetchall()
    except duckdb.Error as error:
        if len(paths) == 1:
            return {paths[0]: Footer(problem=str(error).splitlines()[0])}
        # One damaged file stops the query for all; halves find it in few queries.
        middle = len(paths) // 2
        return read_footers(connection, paths[:middle]) | read_footers(connection, paths[middle:])
    return {path: Footer(count, int(small), int(large)) for path, count, small, large in rows}

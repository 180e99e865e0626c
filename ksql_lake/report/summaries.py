"""`_metadata.json` of many feeds at once, read by DuckDB: what a reader without our code is told.

Nothing is decided by it; it is read to be held against the manifests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

_QUERY = """
    SELECT filename,
           TRY_CAST(content ->> '$.commit' AS BIGINT),
           TRY_CAST(content ->> '$.total_records' AS BIGINT),
           TRY_CAST(content ->> '$.total_bytes' AS BIGINT)
    FROM read_text(?)
    WHERE json_valid(content)
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of one `_metadata.json`; None stands for what it does not say, or not as a number."""

    commit: int | None
    records: int | None
    bytes: int | None


def read_summaries(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, Summary]:
    """Read the files that can be read; those that are no JSON are left out."""
    if not paths:
        return {}
    try:
        rows = connection.execute(_QUERY, [list(paths)]).fetchall()
    except duckdb.Error:
        if len(paths) == 1:
            return {}
        # One file that is no text stops the query for all; asked one by one, only that one is missing.
        found = (read_summaries(connection, [path]) for path in paths)
        return {path: summary for one in found for path, summary in one.items()}
    return {path: Summary(commit, records, size) for path, commit, records, size in rows}

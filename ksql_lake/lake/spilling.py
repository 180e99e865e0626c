"""A DuckDB connection that takes as little memory as it is told to and spills the rest to disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ksql_lake.lake.equality import sql_text

if TYPE_CHECKING:
    import duckdb


def spilling(spill: Path, limit: str | None, threads: int) -> duckdb.DuckDBPyConnection:
    """Open a connection of its own, in memory, in UTC, which keeps no order of rows.

    Args:
        spill: Folder for temporary files; made when it is needed.
        limit: Memory limit as DuckDB writes it; None is DuckDB's own, 80 % of what the machine has.
        threads: How many threads it may use.
    """
    import duckdb  # noqa: PLC0415 - most exports compare nothing, and small ones would wait for it

    connection = duckdb.connect()
    if limit is not None:
        connection.execute(f"SET memory_limit = '{limit}'")
    connection.execute(f"SET threads = {threads}")
    connection.execute(f"SET temp_directory = {sql_text(str(spill))}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET TimeZone = 'UTC'")
    return connection

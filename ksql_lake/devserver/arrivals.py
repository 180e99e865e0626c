"""The shape in which rows enter storage, and where their ROWTIME comes from."""

from __future__ import annotations

from ksql_lake.devserver.columns import WINDOW_BOUNDS, Source, quoted
from ksql_lake.devserver.refusals import RefusedError
from ksql_lake.schema import Primitive


def arrivals(
    source: Source, rows: str, *, moment: str, partition: str = "NULL", tombstone: str = "FALSE"
) -> str:
    """The query that `storage.append` takes.

    Args:
        source: Where the rows go.
        rows: DuckDB query with the source's stored columns, its window bounds, and what the rest uses.
        moment: DuckDB expression for ROWTIME.
        partition: The same for ROWPARTITION; NULL lets the key decide.
        tombstone: The same for whether the row deletes its key.
    """
    names = [
        *(WINDOW_BOUNDS if source.window_type else ()),
        *(quoted(item.stored_as) for item in source.columns),
    ]
    deletes = f"{tombstone} AS __TOMBSTONE, " if source.kind == "TABLE" else ""
    return (
        f"SELECT CAST({moment} AS BIGINT) AS ROWTIME, CAST({partition} AS INTEGER) AS ROWPARTITION, {deletes}"
        f"{', '.join(names)} FROM ({rows})"
    )


def row_time(source: Source, now: int, given: str = "NULL") -> str:
    """The expression for ROWTIME: what a row gives itself, else its TIMESTAMP column, else `now` (epoch ms).

    Raises:
        RefusedError: The source's TIMESTAMP column does not exist, or is of a type that is no time.
    """
    clock = str(now)
    if not source.timestamp:
        return f"coalesce({given}, {clock})"
    column = source.column(source.timestamp)
    if column is None:
        raise RefusedError(
            f"The TIMESTAMP column set in the WITH clause does not exist in the schema: '{source.timestamp}'"
        )
    stored = quoted(column.stored_as)
    of_type = {
        Primitive.BIGINT: stored,
        Primitive.TIMESTAMP: f"epoch_ms({stored})",
        Primitive.STRING: f"epoch_ms({stored}::TIMESTAMP)",
    }
    if not isinstance(column.type, Primitive) or column.type not in of_type:
        raise RefusedError(f"Timestamp column, {column.name}, should be BIGINT, TIMESTAMP or STRING.")
    return f"coalesce({given}, {of_type[column.type]}, {clock})"

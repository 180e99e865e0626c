"""Store rows in DuckDB with arrival order, partition and offset. The caller holds the catalog's lock."""

from __future__ import annotations

import duckdb

from ksql_lake.devserver.sql.partitioner import key_hashes
from ksql_lake.devserver.sql.source_columns import WINDOW_BOUNDS, DeclaredColumn, Source, quoted, stored_type

LIVE = "NOT __DEAD AND NOT __TOMBSTONE"


def create(source: Source, cursor: duckdb.DuckDBPyConnection) -> None:
    """Create the source's empty table."""
    columns = ["__SEQ BIGINT", "ROWTIME BIGINT", "ROWPARTITION INTEGER", "ROWOFFSET BIGINT"]
    if source.kind == "TABLE":
        columns += ["__DEAD BOOLEAN", "__TOMBSTONE BOOLEAN"]
    if source.window_type:
        columns += [f"{name} BIGINT" for name in WINDOW_BOUNDS]
    columns += [f"{quoted(item.stored_as)} {stored_type(item.type)}" for item in source.columns]
    cursor.execute(f"CREATE TABLE {quoted(source.storage)} ({', '.join(columns)})")


def drop(source: Source, cursor: duckdb.DuckDBPyConnection) -> None:
    """Remove the source's table."""
    cursor.execute(f"DROP TABLE IF EXISTS {quoted(source.storage)}")


def add_columns(source: Source, columns: tuple[DeclaredColumn, ...], cursor: duckdb.DuckDBPyConnection) -> None:
    """Add columns to the source's table, NULL in the rows that exist."""
    for item in columns:
        cursor.execute(
            f"ALTER TABLE {quoted(source.storage)} ADD COLUMN {quoted(item.stored_as)} {stored_type(item.type)}"
        )


def take_over(source: Source, former: Source, cursor: duckdb.DuckDBPyConnection) -> None:
    """Fill a new source's table from the one it replaces, as a new schema reads an old topic.

    Columns keep their values by name; what does not fit the new type becomes NULL.
    """
    kept = ["__SEQ", "ROWTIME", "ROWPARTITION", "ROWOFFSET"]
    kept += ["__DEAD", "__TOMBSTONE"] if source.kind == "TABLE" else []
    kept += list(WINDOW_BOUNDS) if source.window_type and former.window_type else []
    for item in source.columns:
        old = former.column(item.name)
        if old is not None:
            value = f"TRY_CAST({quoted(old.stored_as)} AS {stored_type(item.type)})"
            kept.append(f"{value} AS {quoted(item.stored_as)}")
    cursor.execute(
        f"INSERT INTO {quoted(source.storage)} BY NAME SELECT {', '.join(kept)} "
        f"FROM {quoted(former.storage)} ORDER BY __SEQ"
    )
    note_ends(source, cursor)
    source.rows = former.rows


def append(source: Source, arrivals: str, cursor: duckdb.DuckDBPyConnection) -> int:
    """Append rows in the order in which the query returns them; returns how many.

    Args:
        source: The source.
        arrivals: DuckDB query with the columns ROWTIME, ROWPARTITION (NULL lets the key decide), the window
            bounds if the source has them, __TOMBSTONE if it is a table, and all stored columns, by name.
        cursor: Any cursor of the server's database.
    """
    cursor.execute("BEGIN")
    try:
        added = _append(source, arrivals, cursor)
        cursor.execute("COMMIT")
    except duckdb.Error:
        cursor.execute("ROLLBACK")
        raise
    note_ends(source, cursor)
    source.rows += added
    return added


def note_ends(source: Source, cursor: duckdb.DuckDBPyConnection) -> None:
    """Note the ends of the source's partitions after rows from number `source.rows` on have arrived."""
    source.ends |= dict(
        cursor.execute(
            f"SELECT ROWPARTITION, max(ROWOFFSET) + 1 FROM {quoted(source.storage)} "
            f"WHERE __SEQ >= {source.rows} GROUP BY ALL"
        ).fetchall()
    )


def _append(source: Source, arrivals: str, cursor: duckdb.DuckDBPyConnection) -> int:
    storage = quoted(source.storage)
    bounds = list(WINDOW_BOUNDS) if source.window_type else []
    keys = [*(quoted(item.stored_as) for item in source.keys), *bounds]
    table = source.kind == "TABLE"
    names = ["ROWTIME", *bounds, *(quoted(item.stored_as) for item in source.columns)]
    names += ["__TOMBSTONE"] if table else []
    # ksqlDB cannot store a table entry without a key.
    present = " AND ".join(f"{key} IS NOT NULL" for key in keys) if table else "TRUE"
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE arrived AS SELECT ROWPARTITION AS given, {', '.join(names)} "
        f"FROM ({arrivals}) WHERE {present}"
    )
    # Numbered by their place in the table: a running number would limit DuckDB to one thread.
    cursor.execute(
        "CREATE OR REPLACE TEMP VIEW arrivals AS "
        f"SELECT rowid - (SELECT min(rowid) FROM arrived) + {source.rows} AS __SEQ, * FROM arrived"
    )
    if table:
        same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
        cursor.execute(f"UPDATE {storage} AS old SET __DEAD = TRUE FROM arrivals AS new WHERE {same}")
    # Places are computed over narrow rows and put beside the wide ones, which then need no sort.
    cursor.execute(
        f"INSERT INTO {storage} BY NAME SELECT __SEQ, {', '.join(names)}, places.* "
        f"FROM arrivals POSITIONAL JOIN ({_places(source, keys)}) AS places"
    )
    counted = cursor.execute("SELECT count(*) FROM arrivals").fetchone()
    cursor.execute("DROP VIEW arrivals")
    cursor.execute("DROP TABLE arrived")
    return int(counted[0]) if counted else 0


def _places(source: Source, keys: list[str]) -> str:
    """Return the query for partition, offset and (tables) __DEAD of each arrival, in order of arrival."""
    count = source.partitions
    # Records without a key go round robin, as a producer without its own partitioner sends them.
    hashes, chosen, hashed = key_hashes(source), f"__SEQ % {count}", "arrivals"
    if hashes is not None:
        chosen = f"coalesce(__HASH, __SEQ) % {count}"
        hashed = f"arrivals POSITIONAL JOIN (SELECT unnest({hashes}) AS __HASH FROM arrivals) AS hashes"
    dead = ""
    if source.kind == "TABLE":
        dead = f", row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY __SEQ DESC) > 1 AS __DEAD"
    return (
        "SELECT placed.ROWPARTITION, "
        f"row_number() OVER (PARTITION BY placed.ROWPARTITION ORDER BY __SEQ) - 1 + {_next(source)} "
        f"AS ROWOFFSET{dead} "
        f"FROM (SELECT *, coalesce(given, ({chosen})::INTEGER) AS ROWPARTITION FROM {hashed}) AS placed "
        "ORDER BY __SEQ"
    )


def _next(source: Source) -> str:
    """Return the expression for the next offset of a placed row's partition."""
    known = " ".join(f"WHEN {number} THEN {end}" for number, end in source.ends.items())
    return f"CASE placed.ROWPARTITION {known} ELSE 0 END" if known else "0"


def replace_state(source: Source, state: str, cursor: duckdb.DuckDBPyConnection) -> int:
    """Make a table's state equal to a query's result: changed entries arrive, missing ones get a tombstone.

    Args:
        source: A table.
        state: DuckDB query with the columns of `append`, __TOMBSTONE always FALSE.
        cursor: Any cursor of the server's database.
    """
    storage = quoted(source.storage)
    stored = [quoted(item.stored_as) for item in source.columns]
    bounds = list(WINDOW_BOUNDS) if source.window_type else []
    keys = [*(quoted(item.stored_as) for item in source.keys), *bounds]
    names = ", ".join([*bounds, *stored])
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {state}")
    values = [name for name in stored if name not in keys]
    differs = " OR ".join(f"old.{name} IS DISTINCT FROM new.{name}" for name in values) or "FALSE"
    emptied = ", ".join([*bounds, *(name if name in keys else f"NULL AS {name}" for name in stored)])
    changed = (
        f"SELECT ROWTIME, NULL::INTEGER AS ROWPARTITION, FALSE AS __TOMBSTONE, {names}, new.rowid AS __AT "
        f"FROM wanted AS new WHERE NOT EXISTS "
        f"(FROM {storage} AS old WHERE {LIVE} AND {same} AND NOT ({differs})) "
        f"UNION ALL SELECT ROWTIME, NULL, TRUE, {emptied}, __SEQ FROM {storage} AS old "
        f"WHERE {LIVE} AND NOT EXISTS (FROM wanted AS new WHERE {same})"
    )
    # The comparison keeps no order, and the order decides offsets.
    arrivals = f"SELECT * EXCLUDE (__AT) FROM ({changed}) ORDER BY __TOMBSTONE, __AT"
    added = append(source, arrivals, cursor)
    cursor.execute("DROP TABLE wanted")
    return added

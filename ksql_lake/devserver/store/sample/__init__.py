"""The sample: two weeks of a payments company, made inside DuckDB, the same on every start.

Four streams and four tables that together use every ksqlDB type, with the lineage TRANSACTION_STREAM ->
TRANSACTION_FLATTENED -> USER_TRANSACTION_SUMMARY. `sources.sql` and `derived.sql` are ksqlDB statements, the
other files the DuckDB queries that make each source's rows.
"""

from __future__ import annotations

from importlib.resources import files

from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.source_columns import Source, quoted
from ksql_lake.devserver.sql.statements import Create
from ksql_lake.devserver.store.intake import arrivals
from ksql_lake.devserver.store.sources import Catalog

FIRST_DAY_MS = 1_736_121_600_000
"""2025-01-06T00:00:00Z."""
DAY_MS = 86_400_000
MERCHANTS = 500


def load_sample(catalog: Catalog, *, rows: int = 100_000, days: int = 14) -> None:
    """Create and fill the sample's sources.

    Args:
        catalog: An empty one.
        rows: Rows of TRANSACTION_STREAM; the other streams have a fixed share of it.
        days: UTC days from 2025-01-06 on that the rows spread over.
    """
    variables = {
        "rows": rows,
        "days": days,
        "users": max(10, rows // 20),
        "merchants": MERCHANTS,
        "first_ms": FIRST_DAY_MS,
        "span_ms": days * DAY_MS,
    }
    for name, value in variables.items():
        catalog.database.execute(f"SET VARIABLE {name} = {value}::BIGINT")
    # A table, because DuckDB scans it with all threads and a range() with one.
    catalog.database.execute(f"CREATE TEMP TABLE numbers AS SELECT i FROM range({rows}) AS r(i)")
    catalog.database.execute(_text("macros"))
    for statement in _creates("sources"):
        catalog.create(statement)
        source = catalog.sources[statement.name]
        catalog.append(source, _rows(source))
    for statement in _creates("derived"):
        catalog.create(statement)
    catalog.database.execute("DROP TABLE numbers")


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


def _creates(name: str) -> list[Create]:
    return [statement for statement in parse_statements(_text(name)) if isinstance(statement, Create)]


def _rows(source: Source) -> str:
    columns = ", ".join(f"{quoted(item.name)} AS {quoted(item.stored_as)}" for item in source.columns)
    return arrivals(
        source, f"SELECT ROWTIME AS made_at, {columns} FROM ({_text(source.name.lower())})", moment="made_at"
    )

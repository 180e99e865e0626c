"""SQL for DuckDB alone: what a person pastes to read a feed's Parquet without anything of ours.

Pure text over the layout: it names folders, not files, so that it stays right when more is exported. It refuses
to be exact about columns that changed their type; that is what `ksql_lake.connect` is for.
"""

from __future__ import annotations

from ksql_lake.lake import FeedLake
from ksql_lake.lake.equality import sql_text
from ksql_lake.lake.layout import version_number
from ksql_lake.lake.scan import path_terms

_DEPTH = {"stream": "*/*/*/*.parquet", "table": "*/*.parquet"}


def duckdb_snippet(lake: FeedLake, partition: str | None = None) -> str:
    """Give a SELECT of one day or version, or of everything: of a table the latest version.

    Args:
        lake: The feed's lake.
        partition: `2025-01-15` or `v4`; None means everything.
    """
    rows = _rows(lake)
    if lake.feed.kind == "stream":
        return f"FROM {rows}{_day(partition) if partition else ''};"
    if partition is not None:
        return f"FROM {rows}\nWHERE version = 'v{version_number(partition)}';"
    newest = "SELECT max_by(version, CAST(substr(version, 2) AS INTEGER)) FROM versions"
    return f"WITH versions AS (\nFROM {rows})\nFROM versions\nWHERE version = ({newest});"


def _rows(lake: FeedLake) -> str:
    files = sql_text(f"{literally(lake.dataset_path)}/{_DEPTH[lake.feed.kind]}")
    options, terms = path_terms(lake.feed.kind, lake.dataset_path, ())
    scan = f"read_parquet(\n  {files},\n  union_by_name = true, {options})"
    if "=" not in lake.dataset_path:
        return scan
    listed = ",\n  ".join(terms)
    return f"(SELECT * EXCLUDE (ksql_lake_file),\n  {listed}\nFROM {scan})"


def _day(key: str) -> str:
    year, month, day = (int(part) for part in key.split("-"))
    return f"\nWHERE year = {year} AND month = {month} AND day = {day}"


def literally(path: str) -> str:
    """Give a path whose own characters DuckDB must not take for a pattern."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in path)

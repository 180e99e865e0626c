"""SQL over Parquet files: the values by which rows are compared, their numbers, and shares of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from ksql_lake.lake.files.precision import EXACT, blurred
from ksql_lake.lake.files.sql_values import row_terms, sql_files, sql_name, sql_type
from ksql_lake.lake.rows.scan import free_name
from ksql_lake.schema import Column

if TYPE_CHECKING:
    import duckdb

_VALUE_BYTES = 24
"""Roughly the bytes that one value takes while it is compared."""
PASS_BYTES = 96_000_000
"""The most bytes of rows that are compared at once; a larger day takes several passes over its files."""


@dataclass(frozen=True, slots=True)
class ComparedFiles:
    """Parquet files of one shape, and the names of their columns as they are compared."""

    paths: list[str]
    names: Sequence[str]


_ROW_NUMBER = "file_row_number"
"""DuckDB's name for the number of a row in its file; it rejects files with a column of that name."""


def stored_name(name: str, names: Sequence[str]) -> str:
    """Return a column's name in a file whose rows DuckDB can number."""
    return free_name(f"{_ROW_NUMBER}_", names) if name.casefold() == _ROW_NUMBER else name


def shares_of(
    connection: duckdb.DuckDBPyConnection, paths: list[str], columns: list[Column], form: int, *, width: int
) -> list[str]:
    """Return conditions that divide the rows: equal rows meet the same one, and each holds about PASS_BYTES.

    Equal rows have equal ROWTIMEs, so ranges of ROWTIME divide them, and in most files a range touches few row
    groups. Without ROWTIME (identity by key) a hash divides the rows; their values still decide whether two are
    equal.

    Args:
        connection: A connection to DuckDB.
        paths: The files.
        columns: The columns that divide them; rows that are compared as equal have equal values there.
        form: The form of comparison.
        width: How many columns are compared.
    """
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    parts = 1 + rows * width * _VALUE_BYTES // PASS_BYTES
    if parts == 1:
        return ["true"]
    if all(column.name != "ROWTIME" for column in columns):
        # Equal numbers of different width have different hashes.
        listed = ", ".join(
            ", ".join(row_terms([column], form=form))
            if blurred(column.type, form)
            else f"CAST(data.{sql_name(column.name)} AS {sql_type(column.type)})"
            for column in columns
        )
        return [f"hash({listed}) % {parts} = {number}" for number in range(parts)]
    shares = ", ".join(str(number / parts) for number in range(1, parts))
    found = connection.execute(
        f"SELECT approx_quantile(epoch_ms(ROWTIME), [{shares}]) FROM "
        f"read_parquet({sql_files(paths)}, hive_partitioning = false, union_by_name = true)"
    ).fetchone()
    edges = sorted(set(found[0])) if found else []
    bounds = [f"make_timestamptz({edge * 1000})" for edge in edges]
    inner = [f"data.ROWTIME >= {low} AND data.ROWTIME < {high}" for low, high in pairwise(bounds)]
    return [f"data.ROWTIME < {bounds[0]}", *inner, f"data.ROWTIME >= {bounds[-1]} OR data.ROWTIME IS NULL"]


def selected_rows(files: ComparedFiles, terms: str, share: str = "true", *, numbered: bool = False) -> str:
    """Select part, row number (NULL unless `numbered`) and compared values from files with the same columns."""
    path, row = (free_name(name, files.names) for name in ("s_path", "s_number"))
    stored = {name: sql_name(stored_name(name, files.names) if numbered else name) for name in files.names}
    columns = ", ".join(f"{own} AS {sql_name(name)}" for name, own in stored.items())
    number = _ROW_NUMBER if numbered else "NULL"
    option = f", {_ROW_NUMBER} = true" if numbered else ""
    return (
        f"SELECT owner.part, data.{row} AS s_row, {terms} FROM ("
        f"SELECT {columns}, {path}, {number} AS {row} FROM read_parquet({sql_files(files.paths)}, "
        f"union_by_name = true, hive_partitioning = false, filename = '{path}'{option})) AS data "
        f"JOIN owner ON data.{path} = owner.path WHERE {share}"
    )


def listed_values(columns: list[Column], *, always: bool = False, form: int = EXACT) -> tuple[str, str]:
    """Return the names of the compared values and the expressions that make them; see `terms`."""
    named = {f"t{index}": term for index, term in enumerate(row_terms(columns, always=always, form=form))}
    return ", ".join(named), ", ".join(f"{term} AS {name}" for name, term in named.items())

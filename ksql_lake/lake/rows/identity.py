"""Row identity: find the staged rows that the lake does not hold yet."""

# `row` is a multiset difference over all columns (two truly identical events stay two); `key` and `offset`
# compare the named columns (`offset` also what shows a recreated topic). DuckDB compares values, never hashes,
# and spills to disk; new rows are copied from the staged file.

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError, WriteError
from ksql_lake.lake.files.evolution import places, shared, widened
from ksql_lake.lake.files.precision import CURRENT, EXACT
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.lake.rows.compared_values import (
    ComparedFiles,
    listed_values,
    selected_rows,
    shares_of,
    stored_name,
)
from ksql_lake.lake.rows.scan import spilling
from ksql_lake.lake.storage.boundary import free_space
from ksql_lake.schema import Column, Schema

if TYPE_CHECKING:
    import duckdb

MEMORY: tuple[tuple[str | None, int], ...] = (("128MB", 2), ("640MB", 1), (None, 1))
"""DuckDB's memory limits and threads, tried in turn: DuckDB spills rows of many KB badly. None is
DuckDB's own limit, 80 % of the machine's memory."""
_CHUNK_RECORDS = 1_000_000
"""The most staged rows of one comparison; small days are compared together up to this number."""


@dataclass(frozen=True, slots=True)
class Held:
    """A committed file: path, its columns, which may be fewer and narrower than the staged ones, and form."""

    path: str
    columns: Schema
    form: int = CURRENT


@dataclass(frozen=True, slots=True)
class Candidate:
    """A staged file, the committed files of its partition, and the form in which its rows were read."""

    partition: str
    path: str
    records: int
    held: tuple[Held, ...]
    form: int = CURRENT


@dataclass(frozen=True, slots=True)
class _Key:
    """The columns that identify a row (none: all columns), whether NULL equals NULL there, and a row's time."""

    names: tuple[str, ...]
    null_keys: bool
    time: str = ""

    @property
    def without(self) -> str:
        """The condition that a row of the relation `data` has no key; empty if every row has one."""
        # DuckDB 2.0 pushes IS NULL into the file scan, and reads a column of NULLs and one text as all NULL.
        alone = [f"list_count([data.{sql_name(name)}]) = 0" for name in self.names]
        return "" if self.null_keys else " OR ".join(alone)

    def known(self, held: Schema) -> bool:
        """Whether rows of a file have the columns that identify a row."""
        return bool(self.names) and set(held.names).issuperset(self.names)


def new_rows(  # noqa: PLR0913 - what makes two rows the same
    candidates: Sequence[Candidate],
    schema: Schema,
    *,
    key: Sequence[str] = (),
    null_keys: bool = True,
    time: str = "",
    repeats: Counter[str] | None = None,
    spill: Path,
) -> dict[str, npt.NDArray[np.int64]]:
    """Return, per partition, the sorted numbers of the staged rows that the lake does not hold yet.

    Args:
        candidates: The staged files; one without committed files is compared with itself only.
        schema: Columns of the staged files.
        key: The columns that identify a row; empty means all columns, with multiplicity. Of several staged rows
            with the same key the last one stays.
        null_keys: Whether NULL in a key equals NULL; if not, such rows are compared by all columns, with
            multiplicity.
        time: With a key: the column that holds a row's time. Two rows with the same key are two events if both
            their times and their other values differ, as in a topic that was recreated. Empty: the key decides.
        repeats: Filled, per partition, with how many staged rows were dropped because a later one has their
            key.
        spill: Folder for DuckDB's temporary files.

    Raises:
        LakeError: The files cannot be read.
        WriteError: Memory and disk do not suffice for the comparison.
    """
    found: dict[str, npt.NDArray[np.int64]] = {}
    for chunk in _chunks(candidates):
        rows, repeated = _compare_somehow(chunk, schema, _Key(tuple(key), null_keys, time), spill)
        found.update(rows)
        if repeats is not None:
            repeats.update(repeated)
    return found


def copy_rows(source: Path, rows: npt.NDArray[np.int64]) -> Iterable[pa.RecordBatch]:
    """Yield the numbered rows of a Parquet file as batches, in their order, values untouched."""
    start = 0
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches():
            low, high = np.searchsorted(rows, [start, start + batch.num_rows])
            if high > low:
                yield batch.take(pa.array(rows[low:high] - start))
            start += batch.num_rows


def _compare_somehow(
    chunk: list[Candidate], schema: Schema, key: _Key, spill: Path
) -> tuple[Mapping[str, npt.NDArray[np.int64]], Counter[str]]:
    """Compare a chunk with the smallest memory limit that suffices."""
    import duckdb  # noqa: PLC0415 - most exports compare nothing, and small ones would wait for it

    full: Exception | None = None
    for limit, threads in MEMORY:
        try:
            with _numberable(chunk, schema, spill) as ready, spilling(spill, limit, threads) as connection:
                return _compare(connection, ready, schema, key)
        except duckdb.OutOfMemoryException as error:
            full = error
        except (duckdb.IOException, OSError) as error:
            if str(spill) in str(error):
                full = error
                break
            raise LakeError(
                f"a file needed to compare rows cannot be read: {error}",
                hint="Run `ksql-lake doctor` to see which committed files are missing or damaged.",
            ) from error
    reason = str(full).partition("\n")[0]
    raise WriteError(
        f"neither memory nor disk are enough to compare the day's rows: {reason}{free_space(spill)}",
        hint="Free some space there (DuckDB spills to it), or run it where there is more memory.",
        path=str(spill),
    ) from full


def _chunks(candidates: Sequence[Candidate]) -> Iterable[list[Candidate]]:
    chunk: list[Candidate] = []
    records = 0
    for candidate in candidates:
        if chunk and records + candidate.records > _CHUNK_RECORDS:
            yield chunk
            chunk, records = [], 0
        chunk.append(candidate)
        records += candidate.records
    if chunk:
        yield chunk


def _compare(
    connection: duckdb.DuckDBPyConnection, chunk: list[Candidate], schema: Schema, key: _Key
) -> tuple[Mapping[str, npt.NDArray[np.int64]], Counter[str]]:
    connection.execute(f"CREATE TEMP TABLE left_over AS {_staged_rows(chunk)}")
    paths = [(candidate.path, number) for number, candidate in enumerate(chunk)]
    paths += [(held.path, number) for number, candidate in enumerate(chunk) for held in candidate.held]
    connection.execute("CREATE TEMP TABLE owner (path VARCHAR, part INTEGER)")
    connection.executemany("INSERT INTO owner VALUES (?, ?)", paths)
    repeated: Counter[str] = Counter()
    if key.names:
        # This comes first: of a row that came twice, only one may be matched with a row of the lake.
        arrived = ComparedFiles([each.path for each in chunk], schema.names)
        _drop_by_key(connection, key, schema, partial(_drop_repeats, connection, arrived, schema, key))
        repeated = _repeats(connection, chunk)
    for (shape, both), files in _shapes(chunk, schema, key):
        # Rows of a file from before the key's columns existed are compared by all columns that the file has.
        keyed = key.known(shape)
        owners = sorted({number for number, _ in files})
        staged = ComparedFiles([chunk[number].path for number in owners], schema.names)
        older = ComparedFiles([path for _, path in files], shape.names)
        pair = _Pair(connection, staged, older, schema, shape, key.names, both)
        for unique in (True, False) if keyed and key.without else (keyed,):
            among = "true" if not (keyed and key.without) else f"{'NOT ' if unique else ''}({key.without})"
            drop = partial(pair.drop, unique=unique, among=among)
            if unique:
                _drop_by_key(connection, key, shape, drop)
            else:
                drop(shape.names)
    result = connection.sql("SELECT part, row FROM left_over ORDER BY part, row").to_arrow_table()
    parts, rows = (result.column(name).to_numpy() for name in ("part", "row"))
    found = {
        candidate.partition: rows[np.searchsorted(parts, number) : np.searchsorted(parts, number, side="right")]
        for number, candidate in enumerate(chunk)
    }
    return found, repeated


def _shapes(
    chunk: list[Candidate], schema: Schema, key: _Key
) -> list[tuple[tuple[Schema, int], list[tuple[int, str]]]]:
    """Group the committed files by columns and form of comparison, those that say most about a row first."""
    # Each is compared on the columns it has: an event exported before a column existed is still the same event.
    # A file that says less takes any of the rows that it cannot tell apart: no row that another holds in full.
    shapes: defaultdict[tuple[Schema, int], list[tuple[int, str]]] = defaultdict(list)
    for number, candidate in enumerate(chunk):
        for held in candidate.held:
            # Values of two forms are compared in the older one, which is less exact.
            both = EXACT if held.form == candidate.form else min(held.form, candidate.form)
            shapes[held.columns, both].append((number, held.path))

    def said(shape: Schema, form: int) -> tuple[bool, int, int]:
        compared, _ = _compared(schema, shape, shape.names)
        return key.known(shape), sum(places(column.type) for column in compared), form

    return sorted(shapes.items(), key=lambda item: said(*item[0]), reverse=True)


def _repeats(connection: duckdb.DuckDBPyConnection, chunk: list[Candidate]) -> Counter[str]:
    """Count, per partition, the staged rows that were dropped as repeats."""
    counted = connection.execute("SELECT part, count(*) FROM left_over GROUP BY part").fetchall()
    left = dict(counted)
    return Counter(
        {candidate.partition: candidate.records - left.get(number, 0) for number, candidate in enumerate(chunk)}
    )


def _compared(staged: Schema, held: Schema, names: Collection[str]) -> tuple[list[Column], bool]:
    """Return the columns by which rows are compared, and whether STRUCTs are cut down to the fields both have.

    A field inside a STRUCT is like a column: an event from before it existed is still the same event.
    """
    own = {column.name: column.type for column in held}
    pairs = [(column, own[column.name]) for column in staged if column.name in own and column.name in names]
    columns = [replace(column, type=shared(old, column.type) or column.type) for column, old in pairs]
    whole = [widened(old, column.type) for column, old in pairs]
    return columns, [column.type for column in columns] != whole


def _staged_rows(chunk: list[Candidate]) -> str:
    parts = [
        f"SELECT {number}::INTEGER AS part, range AS row FROM range({candidate.records})"
        for number, candidate in enumerate(chunk)
    ]
    return " UNION ALL ".join(parts)


@contextmanager
def _numberable(chunk: list[Candidate], schema: Schema, spill: Path) -> Iterator[list[Candidate]]:
    """Yield staged files whose rows DuckDB can number: copies, if a column has the name of the row number."""
    names = [stored_name(name, schema.names) for name in schema.names]
    if names == list(schema.names):
        yield chunk
        return
    paths = [Path(f"{spill}-{number}.tmp") for number in range(len(chunk))]
    try:
        for candidate, path in zip(chunk, paths, strict=True):
            with pq.ParquetFile(candidate.path) as file:
                fields = [field.with_name(name) for field, name in zip(file.schema_arrow, names, strict=True)]
                with pq.ParquetWriter(
                    path, pa.schema(fields), compression="lz4", write_statistics=False
                ) as copy:
                    for batch in file.iter_batches():
                        copy.write_batch(batch.rename_columns(names))
        yield [replace(each, path=str(path)) for each, path in zip(chunk, paths, strict=True)]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _drop_by_key(
    connection: duckdb.DuckDBPyConnection, key: _Key, columns: Schema, drop: Callable[[Collection[str]], None]
) -> None:
    """Drop staged rows by their key; where their times differ, only those whose other values are the same.

    Args:
        connection: Holds the staged rows that are left.
        key: The key, and the column of a row's time.
        columns: The columns that the rows have.
        drop: Drops the rows that are known by the named columns.
    """

    def count() -> int:
        found = connection.execute("SELECT count(*) FROM left_over").fetchone()
        return int(found[0]) if found else 0

    if not key.time:
        drop(key.names)
        return
    drop((*key.names, key.time))
    left = count()
    connection.execute("CREATE OR REPLACE TEMP TABLE aside AS FROM left_over")
    if left:
        drop(key.names)
    if count() < left:
        # The time alone does not make another event: a broker that notes when a record is appended gives the
        # copy of a record another time, and so does a derived stream that was made anew.
        connection.execute("CREATE OR REPLACE TEMP TABLE left_over AS FROM aside")
        drop([name for name in columns.names if name != key.time])


@dataclass(frozen=True, slots=True)
class _Pair:
    """Staged files and committed files of one shape, which are compared in one form."""

    connection: duckdb.DuckDBPyConnection
    staged: ComparedFiles
    held: ComparedFiles
    schema: Schema
    shape: Schema
    key: tuple[str, ...]
    form: int

    def drop(self, names: Collection[str], *, unique: bool, among: str) -> None:
        """Drop staged rows that are held, compared by the named columns."""
        compared, rebuilt = _compared(self.schema, self.shape, names)
        values = listed_values(compared, always=rebuilt, form=self.form)
        # Rows with a key that are equal have the same key; a hash of all of their values would be slow.
        dividing = [each for each in compared if not unique or each.name in (*self.key, "ROWTIME")]
        paths = [*self.staged.paths, *self.held.paths]
        for share in shares_of(self.connection, paths, dividing, self.form, width=len(compared)):
            rows = f"({share}) AND {among}"
            _drop_matches(self.connection, self.staged, self.held, values, unique=unique, share=rows)


def _drop_matches(
    connection: duckdb.DuckDBPyConnection,
    staged: ComparedFiles,
    held: ComparedFiles,
    listed: tuple[str, str],
    *,
    unique: bool,
    share: str,
) -> None:
    names, terms = listed
    taken = "count(*)" if unique else "least(count(s_row), count(*) - count(s_row))"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE matched AS
        SELECT part, unnest(list_slice(s_rows, 1, taken)) AS row FROM (
            SELECT part, list(s_row) FILTER (s_row IS NOT NULL) AS s_rows, {taken} AS taken
            FROM (
                SELECT staged.* FROM ({selected_rows(staged, terms, share, numbered=True)}) AS staged
                SEMI JOIN left_over ON staged.part = left_over.part AND staged.s_row = left_over.row
                UNION ALL
                {selected_rows(held, terms, share)}
            )

            GROUP BY part, {names}
            HAVING count(s_row) > 0 AND count(*) > count(s_row)
        )
        """
    )
    connection.execute(
        "DELETE FROM left_over USING matched "
        "WHERE left_over.part = matched.part AND left_over.row = matched.row"
    )


def _drop_repeats(
    connection: duckdb.DuckDBPyConnection,
    staged: ComparedFiles,
    schema: Schema,
    key: _Key,
    columns: Collection[str],
) -> None:
    names, terms = listed_values([column for column in schema if column.name in columns])
    share, alone = "true", ""
    if key.without:
        share = f"NOT ({key.without})"
        rows = selected_rows(staged, terms, key.without, numbered=True)
        alone = f"UNION ALL SELECT part, s_row FROM ({rows})"
    rows = selected_rows(staged, terms, share, numbered=True)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE left_over AS
        SELECT staged.part, max(s_row) AS row FROM ({rows}) AS staged
        SEMI JOIN left_over ON staged.part = left_over.part AND staged.s_row = left_over.row
        GROUP BY staged.part, {names}
        {alone}
        """
    )

"""Run SQL over the lake; the answer is text cells, CSV, JSON or Parquet, written as a stream."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from ksql_lake.errors import ConfigError, KsqlLakeError, LakeError, WriteError
from ksql_lake.feeds import StreamFeed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake.days import Days, day_of
from ksql_lake.lake.files.sql_values import sql_text
from ksql_lake.query.day_range import days_text, unread_days
from ksql_lake.query.known_feeds import UNKNOWN_START, Holdings
from ksql_lake.query.sql.connection import blank_connection, prepare
from ksql_lake.query.sql.day_filters import days_asked_for
from ksql_lake.query.sql.json_terms import csv_terms, json_terms
from ksql_lake.query.sql.named_views import Naming

FORMATS = {
    "csv": "FORMAT csv, HEADER true",
    "csv-json": "FORMAT csv, HEADER true",
    "json": "FORMAT json, ARRAY true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
"""Format of a document -> DuckDB's options for it."""

_TERMS: dict[str, Callable[[list[str], list[Any]], str]] = {"json": json_terms, "csv-json": csv_terms}
"""Format whose values ksql-lake converts -> the function that makes the select list."""

_ROWS_AT_ONCE = 2048
_UNKNOWN = re.compile(r"Table (?:Function )?with name (\S+) does not exist")
_SHOW_TABLES = re.compile(r"\s*SHOW\s+TABLES\s*;?\s*", re.IGNORECASE)
_TABLES = (
    "SELECT view_name AS name, comment FROM duckdb_views() WHERE NOT internal "
    "UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE NOT internal ORDER BY name"
)
"""The query for `SHOW TABLES`: each name with its comment."""

_SAYS_SOMETHING = frozenset({"SELECT", "EXPLAIN", "CALL", "PRAGMA", "MULTI", "EXECUTE", "RELATION"})
"""Types of statements whose result is shown; others only have an effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the last statement, not computed yet.

    Attributes:
        connection: The connection that computes it.
        relation: Its rows.
        confined: Whether the connection may read only the lake's files.
        remarks: Notes for the reader of the answer.
    """

    connection: duckdb.DuckDBPyConnection
    relation: duckdb.DuckDBPyRelation
    confined: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.relation.columns

    @property
    def plan(self) -> str | None:
        """The text of a plan, if the statement is EXPLAIN."""
        if self.columns != ["explain_key", "explain_value"]:
            return None
        return "\n".join(str(value).rstrip("\n") for _, value in self.relation.fetchall())

    @property
    def numeric(self) -> set[int]:
        """Positions of the columns that hold numbers."""
        return {at for at, kind in enumerate(self.relation.types) if kind.id.upper() in _NUMBERS}

    @property
    def folding(self) -> set[int]:
        """Positions of the columns that hold texts, bytes or nested values, which may be broken into lines."""
        return {at for at, kind in enumerate(self.relation.types) if kind.id in _FOLDING}

    def cells(self, *, limit: int | None = None) -> Iterator[list[str]]:
        """Yield rows as text: NULL is `NULL`, the text NULL is quoted, control characters are escaped.

        Raises:
            ConfigError: The statement cannot be computed.
            LakeError: A file cannot be read.
        """
        answer = self.relation if limit is None else self.relation.limit(limit)
        with lake_errors():
            texts = answer.project("CAST(COLUMNS(*) AS VARCHAR)")
            for batch in texts.to_arrow_reader(_ROWS_AT_ONCE):
                columns = [list(map(_cell, column.to_pylist())) for column in batch.columns]
                yield from map(list, zip(*columns, strict=True))

    def write(self, path: Path | str, form: str) -> None:
        """Write the answer as a document of `FORMATS`.

        Raises:
            ConfigError: The statement cannot be computed.
            LakeError: A file cannot be read, or the document cannot be written.
        """
        # DuckDB finds these variables by their names, which no feed and so no view can have.
        connection, _ksql_lake_answer = self._writable()
        with lake_errors(output=str(path)):
            if form in _TERMS:
                # Columns with equal names get different ones here.
                _ksql_lake_named = connection.sql("FROM _ksql_lake_answer")
                terms = _TERMS[form](_ksql_lake_named.columns, _ksql_lake_named.types)
                _ksql_lake_answer = connection.sql(f"SELECT {terms} FROM _ksql_lake_named")
            target = f"{sql_text(str(path))} ({FORMATS[form]}, USE_TMP_FILE false)"
            connection.execute(f"COPY (FROM _ksql_lake_answer) TO {target}")

    def _writable(self) -> tuple[duckdb.DuckDBPyConnection, object]:
        """Return a connection that may write documents, and the rows for it."""
        if not self.confined:
            return self.connection, self.relation
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        return connection, self.relation.to_arrow_reader(_ROWS_AT_ONCE)

    def stream(self, out: BinaryIO, form: str) -> None:
        """Write the answer as a document of `FORMATS` to an open file, as it is computed.

        Raises:
            BrokenPipeError: The reader has closed the pipe.
            ConfigError: The statement cannot be computed.
            LakeError: A file cannot be read.
        """
        # DuckDB opens its output by name: opening stdout again would overwrite the file that `>>` appends to.
        reading, writing = os.pipe()

        def compute() -> None:
            try:
                self.write(f"/dev/fd/{writing}", form)
            finally:
                os.close(writing)

        with ThreadPoolExecutor(1) as thread:
            computed = thread.submit(compute)
            try:
                with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor
                    while block := pipe.read(1 << 16):
                        out.write(block)
                    out.flush()
            except BaseException:
                self.connection.interrupt()
                raise
            computed.result()


_NUMBERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
    | {"UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL"}
)

_FOLDING = frozenset({"varchar", "blob", "bit", "list", "array", "struct", "map", "union", "json", "variant"})


def ask(
    sql: str, *, root: str | Path | None = None, feeds: str | Path | None = None, safe: bool = False
) -> Answer | None:
    """Run all statements but the last, and return the last one's answer; None if it has no rows to show.

    Args:
        sql: One or more statements over the views of `connect`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.
        safe: Allow only queries, and only the files of the lake's feeds: for untrusted SQL.

    Raises:
        ConfigError: The SQL is invalid, names an unknown view, or is more than `safe` allows.
        LakeError: A feed it names cannot be read.
    """
    holdings = Holdings.open(root, feeds)
    connection = blank_connection(holdings.lake.storage)
    with lake_errors():
        statements = connection.extract_statements(sql)
    if not statements:
        raise ConfigError("there is no statement", hint="Write a query, e.g. ksql-lake sql 'SHOW TABLES'")
    if safe:
        for statement in statements:
            _check_question(connection, statement)
    naming = Naming(holdings)
    prepare(connection, naming, sql)
    if safe:
        _confine(connection, holdings)
    relation = None
    with lake_errors(holdings, naming):
        for statement in statements:
            asked = naming.narrowed(statement.query, connection, utc=_in_utc(connection))
            relation = connection.sql(_TABLES if _SHOW_TABLES.fullmatch(asked) else asked)
    if relation is None or statements[-1].type.name not in _SAYS_SOMETHING:
        return None
    spoken = [name for name in holdings.names if name in sql.casefold()]
    remarks = tuple(_unread(statements[-1].query, holdings, spoken))
    return Answer(connection, relation, confined=safe, remarks=remarks)


def _in_utc(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether times without an offset are UTC now; a statement before may have changed it."""
    return connection.sql("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


def _unread(sql: str, holdings: Holdings, names: Iterable[str]) -> Iterator[str]:
    """Yield a note per feed with the queried days that no export has read, because they look empty."""
    if "where" not in sql.casefold():
        return
    for feed in map(holdings.find, names):
        if not isinstance(feed, StreamFeed):
            continue
        try:
            state = holdings.lake.feed(feed).state()
        except KsqlLakeError:
            continue  # it has no view either, which is an error
        today = day_of(datetime.now(UTC), feed.zone)
        # Without its file a feed's first day is unknown.
        oldest = min(map(date.fromisoformat, state.looked), default=today)
        since = feed.start_date if feed.start_date > UNKNOWN_START else oldest
        unread = unread_days(state, Days(since, today)) if since <= today else []
        asked = days_asked_for(sql, feed.name, unread)
        if asked:
            yield f"{feed.name}: no export has read {days_text(asked)}, which the query asks for"


_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?", re.IGNORECASE)


def _check_question(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> None:
    """Check that a statement is only a query.

    Raises:
        ConfigError: It is not.
    """
    kind = statement.type.name
    if kind == "EXPLAIN":
        # With ANALYZE it runs the statement that it explains.
        with lake_errors():
            inner = connection.extract_statements(_EXPLAIN.sub("", statement.query, count=1))
        kind = inner[0].type.name if len(inner) == 1 else kind
    if kind != "SELECT":
        hint = "Leave out --safe for SQL that you trust."
        raise ConfigError(f"--safe allows SELECT, FROM, SHOW, DESCRIBE and EXPLAIN, not {kind}", hint=hint)


def _confine(connection: duckdb.DuckDBPyConnection, holdings: Holdings) -> None:
    """Let a connection read the files of the lake's feeds and no other file, address or variable."""
    folders = ", ".join(sql_text(f"{holdings.lake.storage.uri(kind)}/") for kind in ("streams", "tables"))
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET arrow_lossless_conversion = true")
    connection.execute("SET enable_external_access = false")


@contextmanager
def lake_errors(
    holdings: Holdings | None = None,
    naming: Naming | None = None,
    *,
    output: str | None = None,
) -> Iterator[None]:
    """Turn DuckDB's errors into those of ksql-lake.

    Args:
        holdings: The lake and its feeds, for hints.
        naming: The named views, with the reasons why a feed has none.
        output: The file that is being written.
    """
    try:
        yield
    except duckdb.CatalogException as error:
        raise _unknown(error, holdings, naming) from error
    except (duckdb.ProgrammingError, duckdb.DataError) as error:
        raise ConfigError(str(error)) from error
    except duckdb.IOException as error:
        if output is not None and output in str(error):
            raise WriteError(
                _first_line(error), hint="Check that the folder exists and the disk has space."
            ) from error
        raise LakeError(_first_line(error), hint=_READ_AGAIN) from error
    except duckdb.OutOfMemoryException as error:
        raise LakeError(_first_line(error), hint=_ASK_LESS) from error
    except duckdb.Error as error:
        raise LakeError(str(error)) from error
    except OSError as error:
        # Through Arrow DuckDB's errors arrive as texts.
        kind = _ERROR.match(str(error))
        if kind is None:
            raise
        hint = _ASK_LESS if kind.group(1) == "Out of Memory" else _READ_AGAIN
        if kind.group(1) in {"IO", "Out of Memory"}:
            raise LakeError(str(error).partition("\n")[0], hint=hint) from error
        raise ConfigError(str(error)) from error


_ERROR = re.compile(r"([A-Z][A-Za-z ]{1,30}) Error: ")
_ASK_LESS = "Sort or group fewer rows, or use a machine with more memory."
_READ_AGAIN = (
    "If an export, a merge or a retention ran meanwhile, run it again; if not, `ksql-lake doctor` lists the "
    "missing files."
)


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def _unknown(error: duckdb.CatalogException, holdings: Holdings | None, naming: Naming | None) -> KsqlLakeError:
    found = _UNKNOWN.search(str(error))
    if found is None or holdings is None:
        return ConfigError(str(error))
    name = found.group(1).strip('"!')
    if naming is not None and (problem := naming.problem(name)) is not None:
        return problem
    known = holdings.view_names()
    hint = (naming.hint(name) if naming is not None else "") or did_you_mean(name, known)
    if not hint and "Table Function" in str(error):
        return ConfigError(str(error))
    hint = hint or (f"There are: {', '.join(known)}." if known else "There are no feeds.")
    if name in known:
        hint = "Views are made only for names in the text of the query; write the name there."
    return ConfigError(f"there is no view {name!r}", hint=hint)


_RANGES = ((0, 0x1F), (0x7F, 0x9F), (0x61C, 0x61C), (0x200E, 0x200F), (0x2028, 0x202E), (0x2066, 0x2069))
_BREAKING = {mark: ascii(chr(mark))[1:-1] for first, last in _RANGES for mark in range(first, last + 1)}
"""Characters that break a line, change the writing direction or control a terminal."""


def on_one_line(text: str) -> str:
    """Return a text in which each control character is escaped."""
    return text.translate(_BREAKING)


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if value.strip("'") == "NULL" else on_one_line(value)

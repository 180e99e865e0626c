"""The server's sources and persistent queries, and the lock around changes of them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from ksql_lake.devserver.faults import ReadLimit
from ksql_lake.devserver.ksql_errors import RefusedError, not_implemented
from ksql_lake.devserver.sql.derivation import derive
from ksql_lake.devserver.sql.partitioner import install
from ksql_lake.devserver.sql.row_text import MACROS
from ksql_lake.devserver.sql.source_columns import (
    PSEUDO,
    RETENTION_MS,
    WINDOW_BOUNDS,
    DeclaredColumn,
    Kind,
    Source,
)
from ksql_lake.devserver.sql.statement_text import create_text, select_text
from ksql_lake.devserver.sql.statements import Alter, Create, Drop, InsertSelect, Select, Terminate
from ksql_lake.devserver.store import row_storage
from ksql_lake.devserver.store.persistent import PersistentQuery, advance

_SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Catalog:
    """Sources and persistent queries over one DuckDB database.

    Args:
        memory_limit: DuckDB's, e.g. `2GB`; None leaves its default.
        topic_settings: Whether statements show their topics' clean-up policy and retention.
        repeatable: Whether sums of DOUBLE are the same in every process: then one thread adds them.
    """

    def __init__(
        self, memory_limit: str | None = None, *, topic_settings: bool = True, repeatable: bool = False
    ) -> None:
        config: dict[str, str] = {"memory_limit": memory_limit} if memory_limit else {}
        if repeatable:
            config["threads"] = "1"
        self.database = duckdb.connect(":memory:", config=config)  # type: ignore[arg-type]
        for macro in MACROS:
            self.database.execute(macro)
        install(self.database)
        self._topic_settings = topic_settings
        self.sources: dict[str, Source] = {}
        self.queries: dict[str, PersistentQuery] = {}
        self.materialisations: dict[str, PersistentQuery] = {}
        """The query that fills each SOURCE TABLE, by its name."""
        self.lock = threading.RLock()
        self.commands = 0
        self.on_append: Callable[[str], None] = lambda _name: None
        self.reach: Callable[[PersistentQuery, Source], ReadLimit] = lambda _query, _source: ReadLimit()
        """How far a query may read its source; asked at each append and by `catch_up`."""
        self._at: int | None = None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection to the same database."""
        return self.database.cursor()

    def now(self) -> int:
        """Return the time of a row that has none, in epoch milliseconds."""
        return int(time.time() * 1000) if self._at is None else self._at

    @contextmanager
    def clock_at(self, moment: int) -> Iterator[None]:
        """Stop the clock while a change is applied: every node that repeats the change sees the same time."""
        with self.lock:
            self._at = moment
            try:
                yield
            finally:
                self._at = None

    def find(self, name: str) -> Source:
        """Return the source that a SELECT names.

        Raises:
            RefusedError: There is none.
        """
        source = self.sources.get(name)
        if source is None:
            raise RefusedError(
                f"Exception while preparing statement: {name} does not exist.{self._similar(name)}"
            )
        return source

    def describe(self, name: str) -> Source:
        """Return the source that a DESCRIBE names.

        Raises:
            RefusedError: There is none.
        """
        source = self.sources.get(name)
        if source is None:
            raise RefusedError(f"Could not find STREAM/TABLE '{name}' in the Metastore{self._similar(name)}")
        return source

    def _similar(self, name: str) -> str:
        twins = [other for other in self.sources if other.lower() == name.lower() and other != name]
        if not twins:
            return ""
        if name.upper() in twins:
            return f"\nDid you mean {name.upper()}? Hint: try removing double quotes from the source name."
        return (
            f'\nDid you mean "{twins[0]}"? Hint: wrap the source name in double quotes to make it '
            "case-sensitive."
        )

    def writers(self, name: str) -> list[PersistentQuery]:
        """Return the queries that write into the source."""
        return [query for query in self.queries.values() if query.sink == name]

    def readers(self, name: str) -> list[PersistentQuery]:
        """Return the queries that read the source."""
        return [query for query in self.queries.values() if query.source == name]

    def create(self, statement: Create) -> PersistentQuery | Source | None:
        """Run a CREATE; None when IF NOT EXISTS found the source.

        Raises:
            RefusedError: The name is taken or not allowed, or the definition is wrong.
        """
        with self.lock:
            existing = self.sources.get(statement.name)
            if existing is not None and statement.if_not_exists:
                return None
            if existing is not None and not statement.or_replace:
                raise RefusedError(
                    f"Cannot add {statement.kind.lower()} '{statement.name}': A {existing.kind.lower()} with "
                    "the same name already exists",
                    statement=statement.text,
                )
            if existing is not None and (self.readers(existing.name) or existing.kind != statement.kind):
                raise not_implemented(
                    f"Replacing {existing.name}, which queries read or which is of another kind,"
                )
            if not _SOURCE_NAME.fullmatch(statement.name):
                raise RefusedError(
                    f"Illegal argument: source names use letters, digits, _ and -, not {statement.name!r}",
                    statement=statement.text,
                )
            self.commands += 1
            if statement.select is not None:
                made: PersistentQuery | Source = self._derived(statement, statement.select)
            else:
                made = self._plain(statement, existing)
            if existing is not None:
                row_storage.drop(existing, self.database)
            return made

    def _plain(self, statement: Create, existing: Source | None) -> Source:
        if not statement.columns:
            raise RefusedError("The statement does not define any columns.", statement=statement.text)
        columns = tuple(
            DeclaredColumn(item.name, item.type, f"c{number}", item.role, item.header_key)
            for number, item in enumerate(statement.columns)
        )
        self._check_columns(columns, statement.kind, statement.text)
        source = self._source(statement, columns, statement.properties.get("WINDOW_TYPE", "").upper() or None)
        source.derived = statement.readonly
        source.statement = create_text(statement, source, [], topic_settings=self._topic_settings)
        row_storage.create(source, self.database)
        if existing is not None:  # the topic stays, and with it every row
            row_storage.take_over(source, existing, self.database)
        self.sources[source.name] = source
        if statement.readonly and source.kind == "TABLE":
            self.materialisations[source.name] = PersistentQuery(
                f"CST_{source.name}_{self.commands}", source.statement, source.name, "", None
            )
        return source

    def _check_columns(self, columns: tuple[DeclaredColumn, ...], kind: Kind, text: str) -> None:
        names = [item.name for item in columns]
        for name in names:
            if names.count(name) > 1:
                raise RefusedError(f"Duplicate column names: {name}", statement=text)
            if name in PSEUDO or name in WINDOW_BOUNDS:
                raise RefusedError(f"'{name}' is a reserved column name.", statement=text)
        if kind == "TABLE" and not any(item.role == "KEY" for item in columns):
            raise RefusedError("Tables require a PRIMARY KEY. Please define the PRIMARY KEY.", statement=text)

    def _source(self, statement: Create, columns: tuple[DeclaredColumn, ...], window: str | None) -> Source:
        properties = statement.properties
        topic = properties.get("KAFKA_TOPIC", statement.name)
        both = properties.get("FORMAT", "").upper()
        return Source(
            name=statement.name,
            kind=statement.kind,
            columns=columns,
            storage=f"s{self.commands}",
            topic=topic,
            statement=statement.text,
            key_format=properties.get("KEY_FORMAT", both or "KAFKA").upper(),
            value_format=properties.get("VALUE_FORMAT", both or "JSON").upper(),
            partitions=max(1, int(properties.get("PARTITIONS", self._partitions(topic)))),
            window_type=window,
            timestamp=properties.get("TIMESTAMP", "").strip("`"),
            properties=properties,
            retention_ms=int(properties.get("RETENTION_MS", RETENTION_MS)),
        )

    def _partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic that exists already, or the default."""
        return next((item.partitions for item in self.sources.values() if item.topic == topic), 4)

    def _derived(self, statement: Create, select: Select) -> PersistentQuery:
        source = self.find(select.source)
        derivation = derive(statement.kind, select, source, self.database)
        self._check_columns(derivation.columns, statement.kind, statement.text)
        prefix = "CSAS" if statement.kind == "STREAM" else "CTAS"
        sink = self._source(statement, derivation.columns, derivation.window_type)
        sink.partitions = int(statement.properties.get("PARTITIONS", source.partitions))
        sink.value_format = statement.properties.get("VALUE_FORMAT", source.value_format).upper()
        sink.retention_ms = int(statement.properties.get("RETENTION_MS", source.retention_ms))
        sink.derived = True
        sink.statement = create_text(
            statement, sink, list(derivation.outputs), topic_settings=self._topic_settings
        )
        query = PersistentQuery(
            f"{prefix}_{sink.name}_{self.commands}", sink.statement, source.name, sink.name, derivation
        )
        row_storage.create(sink, self.database)
        advance(query, source, sink, self.reach(query, source), self.database)
        for old in self.writers(sink.name):
            del self.queries[old.id]
        self.sources[sink.name] = sink
        self.queries[query.id] = query
        return query

    def insert(self, statement: InsertSelect) -> PersistentQuery:
        """Add one more query that writes a stream.

        Raises:
            RefusedError: A source does not exist, or the SELECT has other columns than the stream.
        """
        with self.lock:
            sink, source = self.find(statement.name), self.find(statement.select.source)
            derivation = derive(sink.kind, statement.select, source, self.database)
            given, wanted = (
                [(item.name, item.type, item.role) for item in columns]
                for columns in (derivation.columns, sink.columns)
            )
            if given != wanted or not derivation.incremental:
                raise RefusedError(
                    f"Incompatible schema between results and sink.\nThe SELECT does not give the columns of "
                    f"{sink.name}.",
                    statement=statement.text,
                )
            self.commands += 1
            text = select_text(statement.select, list(derivation.outputs))
            query = PersistentQuery(
                f"INSERTQUERY_{self.commands}",
                f"INSERT INTO {sink.name} {text}",
                source.name,
                sink.name,
                derivation,
            )
            advance(query, source, sink, self.reach(query, source), self.database)
            self.queries[query.id] = query
            self.follow(sink)
            return query

    def alter(self, statement: Alter) -> None:
        """Add columns to a source; existing rows hold NULL there.

        Raises:
            RefusedError: There is no such source, it is derived, or it has such a column.
        """
        with self.lock:
            source = self.describe(statement.name)
            if self.writers(source.name):
                raise RefusedError(
                    "ALTER command is not supported for CREATE ... AS statements.", statement=statement.text
                )
            added = tuple(
                DeclaredColumn(item.name, item.type, f"c{number}")
                for number, item in enumerate(statement.columns, len(source.columns))
            )
            self._check_columns((*source.columns, *added), source.kind, statement.text)
            self.commands += 1
            row_storage.add_columns(source, added, self.database)
            source.columns = (*source.columns, *added)

    def append(self, source: Source, arrivals: str) -> int:
        """Add rows, update every derived source, and return how many were added."""
        with self.lock:
            added = row_storage.append(source, arrivals, self.database)
            self.follow(source)
            return added

    def follow(self, source: Source) -> None:
        """Let all queries that read a source read on, and those that read their sinks."""
        self.on_append(source.name)
        for query in self.readers(source.name):
            sink = self.sources[query.sink]
            before = sink.rows
            advance(query, source, sink, self.reach(query, source), self.database)
            if sink.rows > before:
                self.follow(sink)

    def catch_up(self) -> None:
        """Let every query read as far as it may now."""
        with self.lock:
            for name in {query.source for query in self.queries.values()}:
                self.follow(self.sources[name])

    def drop(self, statement: Drop) -> bool:
        """Remove a source and the query that writes it; False when IF EXISTS found nothing.

        Raises:
            RefusedError: It does not exist, is of the other kind, or something reads it.
        """
        with self.lock:
            source = self.sources.get(statement.name)
            if source is None:
                if statement.if_exists:
                    return False
                raise RefusedError(f"Source {statement.name} does not exist.", statement=statement.text)
            if source.kind != statement.kind:
                raise RefusedError(
                    f"Incompatible data source type is {source.kind}, but statement was DROP {statement.kind}",
                    statement=statement.text,
                )
            readers = ", ".join(query.id for query in self.readers(source.name))
            if readers:
                raise RefusedError(
                    f"Cannot drop {source.name}.\nThe following queries read from this source: [{readers}].\n"
                    f"You need to terminate them before dropping {source.name}.",
                    statement=statement.text,
                )
            self.commands += 1
            for query in self.writers(source.name):
                del self.queries[query.id]
            self.materialisations.pop(source.name, None)
            del self.sources[source.name]
            row_storage.drop(source, self.database)
            return True

    def terminate(self, statement: Terminate) -> list[str]:
        """Stop a persistent query, or all; the sink keeps its rows and is no longer queryable if a table.

        Returns:
            The sinks.

        Raises:
            RefusedError: No such query.
        """
        with self.lock:
            if statement.query_id != "ALL" and statement.query_id not in self.queries:
                raise RefusedError(f"Unknown queryId: {statement.query_id}", statement=statement.text)
            wanted = list(self.queries) if statement.query_id == "ALL" else [statement.query_id]
            self.commands += 1
            sinks = [self.queries.pop(query_id).sink for query_id in wanted]
            for sink in sinks:
                self.sources[sink].derived = False
            return sinks

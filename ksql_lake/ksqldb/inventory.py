"""The server's sources with their columns and queries, and how long Kafka keeps their records."""

# DESCRIBE reports only half of a MAP's type, so an export takes its types from its query's header. ksqlDB does
# not report a topic's configuration: the retention in a source's statement was true when the topic was made.

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ksql_lake.errors import KsqlLakeError, ProtocolError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb.entities import (
    DescribedAnswer,
    Entity,
    FieldEntity,
    ListedAnswer,
    QueriesAnswer,
    QueryEntity,
    SourceEntity,
    TopicsAnswer,
    only_entity,
)
from ksql_lake.ksqldb.refusals import PUSH_FIX, SESSION_FIX
from ksql_lake.ksqldb.sql_text import quote_identifier, source_name
from ksql_lake.quantities import age_text

_RETENTION = re.compile(r"[(,]\s*RETENTION_MS\s*=\s*'?(-?\d{1,20})'?", re.IGNORECASE)
_COMPACTED = re.compile(r"[(,]\s*CLEANUP_POLICY\s*=\s*'compact'", re.IGNORECASE)

_WITHOUT_LIMIT = 1000 * 365 * 86_400_000
"""A retention of this many milliseconds or more is without limit: no calendar date is that old."""

_AS_SELECT = re.compile(r"\bAS\s+SELECT\b", re.IGNORECASE)
Kind = Literal["stream", "table"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic keeps records: without limit, for some hours, or unknown."""

    hours: float | None
    known: bool
    text: str


def topic_retention(feed: StreamFeed, statement: str) -> Retention:
    """Return how long the topic of a feed's source keeps records: by the feed or the source's statement."""
    hours = feed.topic_retention_hours
    if hours is not None:
        return Retention(hours, known=True, text=f"for {age_text(hours)}, by the feed")
    return retention_of(statement)


def retention_of(statement: str) -> Retention:
    """Read how long a source's topic keeps records from the statement that made it."""
    if _COMPACTED.search(statement):
        return Retention(None, known=True, text="whatever its age: the topic is compacted")
    found = _RETENTION.search(statement)
    if found is None:
        return Retention(
            None, known=False, text="for an unknown time: the source's statement names no RETENTION_MS"
        )
    milliseconds = int(found.group(1))
    if not 0 <= milliseconds <= _WITHOUT_LIMIT:
        return Retention(None, known=True, text="without limit, by the source's statement")
    hours = milliseconds / 3_600_000
    return Retention(hours, known=True, text=f"for {age_text(hours)}, by the source's statement")


class Asks(Protocol):
    """The part of a client that this module uses."""

    def execute(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement; return one entity per statement."""
        ...


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """One line of the server's list of streams and tables."""

    name: str
    kind: Kind
    topic: str
    key_format: str | None
    value_format: str | None
    windowed: bool


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column as DESCRIBE reports it.

    Attributes:
        name: Exact-case name.
        type: Its type for people; a MAP's key type is not known here.
        key: Part of the key.
        header: Filled from record headers.
    """

    name: str
    type: str
    key: bool = False
    header: bool = False


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """A query that runs on the server: what it is and where it writes."""

    id: str
    text: str
    sinks: tuple[str, ...]
    sink_topics: tuple[str, ...]
    type: str | None
    state: str | None


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """A stream or table in full.

    Attributes:
        name: Exact-case name.
        kind: `stream` or `table`.
        columns: In the order of DESCRIBE; window bounds are not among them.
        statement: The statement that made it.
        topic: Its Kafka topic.
        partitions: The topic's partitions; 0 if the server could not ask Kafka.
        key_format: E.g. `KAFKA`; None before 0.13.
        value_format: E.g. `JSON`; None before 0.13.
        window_type: `TUMBLING`, `HOPPING`, `SESSION` or None.
        timestamp: The column that sets ROWTIME; "" if the record's own time does.
        read_queries: Queries that read it; their sinks are what depends on it.
        write_queries: Queries that write it.
        queryable: Whether a pull query can read all of it.
        reason: Why it cannot; "" if it can.
        fix: What would make it queryable; "" if it is.
    """

    name: str
    kind: Kind
    columns: tuple[SourceColumn, ...]
    statement: str
    topic: str
    partitions: int
    key_format: str | None
    value_format: str | None
    window_type: str | None
    timestamp: str
    read_queries: tuple[QueryInfo, ...]
    write_queries: tuple[QueryInfo, ...]
    queryable: bool
    reason: str
    fix: str

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return tuple(column.name for column in self.columns if column.key)


def list_sources(client: Asks) -> list[SourceSummary]:
    """Ask for all streams, then all tables, each sorted by name."""
    return [*read_sources(client.execute("LIST STREAMS;")), *read_sources(client.execute("LIST TABLES;"))]


def describe(client: Asks, name: str) -> SourceDescription:
    """Ask for one stream or table by its exact name.

    Raises:
        ConfigError: No source can have this name.
        StatementError: The server has no such source.
    """
    return read_description(client.execute(f"DESCRIBE {quote_identifier(source_name(name))};"))


def list_queries(client: Asks) -> list[QueryInfo]:
    """Ask for all running queries."""
    return read_queries(client.execute("SHOW QUERIES;"))


def topic_is_gone(client: Asks, topic: str) -> bool:
    """Ask whether the server sees no such topic; False if it does not answer."""
    try:
        found = only_entity(client.execute("SHOW TOPICS;"), TopicsAnswer)
    except KsqlLakeError:
        return False
    return topic not in {one.name for one in found.topics}


def read_sources(entities: Sequence[Entity]) -> list[SourceSummary]:
    """Read the answer of LIST STREAMS or LIST TABLES.

    Raises:
        ProtocolError: It is another answer.
    """
    found = only_entity(entities, ListedAnswer)
    summaries = [
        SourceSummary(
            name=source.name,
            kind=_kind(source.type),
            topic=source.topic,
            key_format=source.key_format,
            value_format=source.value_format or source.format,
            windowed=source.is_windowed,
        )
        for source in (*found.streams, *found.tables)
    ]
    return sorted(summaries, key=lambda summary: summary.name)


def read_description(entities: Sequence[Entity]) -> SourceDescription:
    """Read the answer of DESCRIBE.

    Raises:
        ProtocolError: It is another answer.
    """
    source = only_entity(entities, DescribedAnswer).source
    reason, fix = _why_not_queryable(source)
    return SourceDescription(
        name=source.name,
        kind=_kind(source.type),
        columns=tuple(_column(field) for field in source.fields),
        statement=source.statement or "",
        topic=source.topic,
        partitions=source.partitions,
        key_format=source.key_format,
        value_format=source.value_format or source.format,
        window_type=source.window_type,
        timestamp=source.timestamp or "",
        read_queries=tuple(_query(query) for query in source.read_queries),
        write_queries=tuple(_query(query) for query in source.write_queries),
        queryable=not reason,
        reason=reason,
        fix=fix,
    )


def read_queries(entities: Sequence[Entity]) -> list[QueryInfo]:
    """Read the answer of SHOW QUERIES.

    Raises:
        ProtocolError: It is another answer.
    """
    return [_query(query) for query in only_entity(entities, QueriesAnswer).queries]


def derives(statement: str) -> bool:
    """Whether a statement makes its source from a query, running or not."""
    return _AS_SELECT.search(statement) is not None


def _why_not_queryable(source: SourceEntity) -> tuple[str, str]:
    """Return why no pull query can read a source, and what would help; two empty texts if one can."""
    if _kind(source.type) == "stream":
        return "", ""
    if source.window_type == "SESSION":
        return f"{source.name} is a table with SESSION windows, which a pull query cannot scan", SESSION_FIX
    # CREATE TABLE ... AS has a query that writes it; CREATE SOURCE TABLE one that reads it for its own state.
    own_state = any(query.id.startswith(f"CST_{source.name}_") for query in source.read_queries)
    if source.write_queries or own_state or derives(source.statement or ""):
        return "", ""
    copy, original = quote_identifier(f"QUERYABLE_{source.name}"), quote_identifier(source.name)
    reason = (
        f"{source.name} is a plain CREATE TABLE: the server keeps no state of it that a pull query could read"
    )
    statement = f"CREATE TABLE {copy} AS SELECT * FROM {original};"
    return reason, f"{PUSH_FIX}, or create a queryable copy on the server and export that one:\n{statement}"


def _kind(text: str) -> Kind:
    match text.upper():
        case "STREAM":
            return "stream"
        case "TABLE":
            return "table"
        case _:
            raise ProtocolError(f"the server reports a source of type {text!r}, which is no stream or table")


def _column(field: FieldEntity) -> SourceColumn:
    return SourceColumn(field.name, field.schema.text, key=field.type == "KEY", header=field.type == "HEADER")


def _query(query: QueryEntity) -> QueryInfo:
    return QueryInfo(
        id=query.id,
        text=query.query_string,
        sinks=tuple(query.sinks),
        sink_topics=tuple(query.sink_kafka_topics),
        type=query.query_type,
        state=query.state,
    )

"""What an export asks the server: written after the server was asked what the source looks like.

Everything that would keep an export from being read is found here, before a query runs: another kind of source,
columns it does not have, a source that no pull query can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ksql_lake.errors import ConfigError, NotQueryableError, ProtocolError, SchemaError
from ksql_lake.export.plan import ExportPlan
from ksql_lake.export.statement import (
    ROWTIME,
    WINDOW_BOUNDS,
    lake_names,
    push_statement,
    stream_statement,
    table_statement,
    wanted_columns,
    window_condition,
)
from ksql_lake.feeds.columns import POSITION_COLUMNS
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient, QueryKind, SourceDescription, describe
from ksql_lake.ksqldb.reach import reach
from ksql_lake.schema import KsqlType, Schema, alike_fields, parse_schema, parse_type


@dataclass(frozen=True, slots=True)
class Question:
    """The query of an extraction.

    Attributes:
        statement: Its text; a push query's without a condition.
        kind: What it is.
        columns: The source columns it selects, in order.
        names: Their names in the lake.
        landed: How many of them land; those behind are only read (push queries).
        key: A table's key columns, window bounds included.
        event_type: ksqlDB type of a stream's event-time column.
        topic: The source's topic.
        partitions: How many partitions that has; 0 if the server did not say.
        derived: Another query on the server writes the source.
        committed: Records of aborted and of open transactions are left out.
        readers: The sinks of the queries that read the source; what the server reports of them tells where its
            topic ends.
    """

    statement: str
    kind: QueryKind
    columns: tuple[str, ...]
    names: tuple[str, ...]
    landed: int
    key: tuple[str, ...] = ()
    event_type: str = "BIGINT"
    topic: str = ""
    partitions: int = 0
    derived: bool = False
    committed: bool = True
    readers: tuple[str, ...] = ()

    @property
    def key_lands(self) -> bool:
        """Whether the whole key lands; by part of a key different rows would be taken for one."""
        return set(self.key) <= set(self.columns[: self.landed])

    @property
    def placed(self) -> bool:
        """Whether each row comes with its Kafka partition and offset."""
        return set(POSITION_COLUMNS) <= set(self.columns)


def answered_columns(question: Question, schema_text: str) -> Schema:
    """Give the columns that a response's header declares, under the source's names.

    Raises:
        ProtocolError: They are not the columns that were asked for.
    """
    received = parse_schema(schema_text)
    if received.names != question.columns:
        raise ProtocolError(
            f"the response has the columns {', '.join(received.names)}, "
            f"but {', '.join(question.columns)} were asked for",
            hint="Is there a proxy in between that rewrites queries?",
        )
    check_fields((column.name, column.type) for column in received)
    return received


def check_fields(columns: Iterable[tuple[str, KsqlType]]) -> None:
    """Refuse a STRUCT with fields that differ only in case.

    Raises:
        SchemaError: Names the two; DuckDB and Spark would take one for the other.
    """
    for name, kind in columns:
        found = alike_fields(kind, name)
        if found is not None:
            raise SchemaError(
                f"the fields {found[0]!r} and {found[1]!r} differ only in case, which DuckDB and Spark cannot "
                "tell apart",
                hint="Leave the column out with the feed's `columns`, or derive a stream on the server where "
                "one of the fields has another name.",
                column=name,
            )


def _told_types(source: SourceDescription, wanted: Iterable[str]) -> Iterator[tuple[str, KsqlType]]:
    """Give the types of columns as far as DESCRIBE tells them; the response's header tells all of them."""
    told = {column.name: column.type for column in source.columns}
    for name in wanted:
        # Of a MAP's key no more is told than that there is one.
        with suppress(SchemaError):
            yield name, parse_type(told.get(name, "BIGINT").replace("MAP<?, ", "MAP<STRING, "))


def write_question(plan: ExportPlan, client: KsqlClient) -> Question:
    """Ask what the source looks like, and write the query that reads what the plan says.

    Raises:
        ConfigError: The feed names a kind or columns the source does not have.
        NotQueryableError: The feed says pull, and no pull query can read the source.
        KsqlError: The server does not know the source, or cannot be reached.
    """
    feed = plan.feed
    source = describe(client, feed.source)
    _check_kind(feed, source)
    available = [column.name for column in source.columns]
    if source.window_type and source.kind == "table":
        available = [*_keys(source), *WINDOW_BOUNDS, *_values(source)]
    if feed.extraction == "push":
        return _push_question(plan, client, source, available)
    found = reach(source, client.server_info().version)
    if found.extraction == "push":
        raise NotQueryableError(found.reason, hint=found.fix, feed=feed.name)
    columns = wanted_columns(feed, available)
    check_fields(_told_types(source, columns))
    names = tuple(lake_names(feed, columns))
    if isinstance(feed, StreamFeed):
        if plan.days is None:
            raise ConfigError(f"nothing to read: {plan.reason}", feed=feed.name)
        statement = stream_statement(feed, columns, plan.days, event_type=_event_type(feed, source))
        derived = bool(source.write_queries)
        return Question(statement, QueryKind.PULL_STREAM, tuple(columns), names, len(columns), derived=derived)
    statement, key = table_statement(feed, columns), _whole_key(source)
    return Question(statement, QueryKind.PULL_TABLE, tuple(columns), names, len(columns), key=key)


def _push_question(
    plan: ExportPlan, client: KsqlClient, source: SourceDescription, available: list[str]
) -> Question:
    feed = plan.feed
    placed = client.server_info().version.knows_offsets
    event_type = "BIGINT"
    key: tuple[str, ...] = ()
    if isinstance(feed, StreamFeed):
        if plan.days is None:
            raise ConfigError(f"nothing to read: {plan.reason}", feed=feed.name)
        landed = wanted_columns(feed, available, placed=placed)
        needed: tuple[str, ...] = POSITION_COLUMNS if placed else ()
        event_type = _event_type(feed, source)
        window_condition(feed, plan.days, event_type=event_type)  # refuses an event time of another type
    else:
        key = _whole_key(source)
        if not key:
            raise ConfigError(
                f"{feed.source} has no key column, so its changes cannot be put together",
                hint="Give the table a PRIMARY KEY on the server.",
                feed=feed.name,
            )
        landed = wanted_columns(feed, available)
        # A table's rows are told apart by their key, and old ones from new ones by their place or time.
        needed = (*key, *(POSITION_COLUMNS if placed else (ROWTIME,)))
        if plan.timed and ROWTIME not in needed:
            needed = (*needed, ROWTIME)
    check_fields(_told_types(source, landed))
    names = lake_names(feed, landed)
    extra = [name for name in needed if name not in landed]
    return Question(
        statement=push_statement(feed, [*landed, *extra]),
        kind=QueryKind.PUSH,
        columns=(*landed, *extra),
        names=(
            *names,
            *(f"read:{name}" for name in extra),
        ),  # what only is read clashes with no name in the lake
        landed=len(landed),
        key=key,
        event_type=event_type,
        topic=source.topic,
        partitions=source.partitions,
        derived=bool(source.write_queries),
        committed=feed.isolation == "committed",
        readers=tuple(sink for query in source.read_queries for sink in query.sinks),
    )


def _check_kind(feed: Feed, source: SourceDescription) -> None:
    if source.kind != feed.kind:
        raise ConfigError(
            f"{feed.source} is a {source.kind} on the server, but the feed says {feed.kind}",
            hint=f'Set "kind": "{source.kind}" in the feed file.',
            feed=feed.name,
        )


def _event_type(feed: StreamFeed, source: SourceDescription) -> str:
    return {column.name: column.type for column in source.columns}.get(feed.event_time, "BIGINT")


def _whole_key(source: SourceDescription) -> tuple[str, ...]:
    return (*_keys(source), *(WINDOW_BOUNDS if source.window_type else ()))


def _keys(source: SourceDescription) -> list[str]:
    return [column.name for column in source.columns if column.key]


def _values(source: SourceDescription) -> list[str]:
    return [column.name for column in source.columns if not column.key]

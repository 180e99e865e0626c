"""Prepare the query of an export: ask the server for the source, and refuse what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ksql_lake.decode import AnswerDecoder
from ksql_lake.decode.encodings import KEYS, PLAIN, Form, form_of
from ksql_lake.errors import ConfigError, NotQueryableError, SchemaError
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.statement import (
    ROWTIME,
    TIME_COLUMNS,
    WINDOW_BOUNDS,
    lake_names,
    push_statement,
    stream_statement,
    table_statement,
    wanted_columns,
    window_condition,
)
from ksql_lake.feeds.feed_columns import POSITION_COLUMNS
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient, QueryKind, SourceDescription, describe
from ksql_lake.ksqldb.reach import reach
from ksql_lake.schema import KsqlType, alike_fields, parse_schema, parse_type

_TIMES = re.compile("TIME|DATE")


@dataclass(frozen=True, slots=True)
class Question:
    """The query of an extraction.

    Attributes:
        statement: Its text; that of a push query has no condition.
        kind: What kind of query it is.
        columns: The source columns it selects, in order.
        names: Their names in the lake.
        forms: How each column travels.
        landed: How many of them land; those after them are only read (push queries).
        key: A table's key columns, window bounds included.
        event_type: ksqlDB type of a stream's event-time column.
        topic: The source's topic.
        partitions: How many partitions the topic has; 0 if the server did not report it.
        derived: Whether another query on the server writes the source.
        committed: Whether records of aborted and of open transactions are left out.
        readers: The sinks of the queries that read the source; what the server reports of them shows where its
            topic ends.
        replace_text: Whether half a surrogate pair in a text becomes U+FFFD instead of an error.
        identifying: Columns by which rows are told apart; no text is replaced in them.
        doubtful: Columns that can hold a value which the server cannot write.
        source: The source as the server described it; None where it was not asked.
    """

    statement: str
    kind: QueryKind
    columns: tuple[str, ...]
    names: tuple[str, ...]
    forms: tuple[Form, ...]
    landed: int
    key: tuple[str, ...] = ()
    event_type: str = "BIGINT"
    topic: str = ""
    partitions: int = 0
    derived: bool = False
    committed: bool = True
    readers: tuple[str, ...] = ()
    replace_text: bool = False
    identifying: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    source: SourceDescription | None = None

    @property
    def key_lands(self) -> bool:
        """Whether the whole key lands; by part of a key different rows would be taken for one."""
        return set(self.key) <= set(self.columns[: self.landed])

    @property
    def eraless(self) -> tuple[str, ...]:
        """Key columns whose TIMESTAMPs come as text, which has no era: 2 BC is read as AD 2."""
        formed = zip(self.columns, self.forms, strict=False)
        return tuple(name for name, form in formed if form.fixed and not form.seconds)

    @property
    def mapped(self) -> tuple[str, ...]:
        """Columns with a MAP whose keys and values are requested one by one."""
        formed = zip(self.columns, self.forms, strict=False)
        return tuple(name for name, form in formed if any(KEYS in path for path in form.parts))

    @property
    def placed(self) -> bool:
        """Whether each row comes with its Kafka partition and offset."""
        return set(POSITION_COLUMNS) <= set(self.columns)

    @property
    def readings(self) -> dict[str, str]:
        """The form each landing column is read in, by its name in the lake; `plain` ones are left out.

        Rows that were read in another form may differ in values that the older form could not represent.
        """
        landing = zip(self.names[: self.landed], self.forms, strict=False)
        return {name: form.reading.value for name, form in landing if form != PLAIN}


def answer_decoder(question: Question, schema_text: str) -> AnswerDecoder:
    """Prepare a decoder for the rows that a response's header announces.

    Raises:
        ProtocolError: They do not have the columns that were asked for.
    """
    decoder = AnswerDecoder(
        parse_schema(schema_text),
        question.columns,
        question.forms,
        moments=TIME_COLUMNS,
        replace=question.replace_text,
        identifying=question.identifying,
    )
    check_fields((column.name, column.type) for column in decoder.columns)
    return decoder


def column_forms(
    source: SourceDescription, columns: Sequence[str], *, fixed: Sequence[str] = ()
) -> tuple[Form, ...]:
    """Choose how each column of a source has to travel.

    Args:
        source: The source.
        columns: The columns requested.
        fixed: Those of them that have to come under their own name and type.
    """
    kinds = {column.name: column.type for column in source.columns}
    return tuple(_form(kinds.get(name, ""), wrappable=name not in fixed) for name in columns)


def _form(declared: str, *, wrappable: bool) -> Form:
    try:
        # DESCRIBE does not report the type of a MAP's keys; if it is not STRING, the server refuses the query.
        kind = parse_type(declared.replace("MAP<?", "MAP<STRING"))
    except SchemaError:
        return PLAIN
    return form_of(kind, wrappable=wrappable)


def check_fields(columns: Iterable[tuple[str, KsqlType]]) -> None:
    """Refuse a STRUCT with fields that differ only in case.

    Raises:
        SchemaError: A STRUCT has such fields; the error names the two. DuckDB and Spark would confuse them.
    """
    for name, kind in columns:
        found = alike_fields(kind, name)
        if found is not None:
            raise SchemaError(
                f"the fields {found[0]!r} and {found[1]!r} differ only in case, which DuckDB and Spark do not "
                "distinguish",
                hint="Leave the column out with the feed's `columns`, or derive a stream on the server where "
                "one of the fields has another name.",
                column=name,
            )


def _described_types(source: SourceDescription, wanted: Iterable[str]) -> Iterator[tuple[str, KsqlType]]:
    """Yield the types of columns as far as DESCRIBE reports them; the response's header has all of them."""
    declared = {column.name: column.type for column in source.columns}
    for name in wanted:
        # Of a MAP's key DESCRIBE reports no more than that there is one.
        with suppress(SchemaError):
            yield name, parse_type(declared.get(name, "BIGINT").replace("MAP<?, ", "MAP<STRING, "))


def write_question(plan: ExportPlan, client: KsqlClient) -> Question:
    """Ask the server for the source, and write the query that reads what the plan says.

    Raises:
        ConfigError: The feed names a kind or columns the source does not have.
        NotQueryableError: The feed says pull, and no pull query can read the source.
        KsqlError: The server does not know the source, or cannot be reached.
    """
    source = describe(client, plan.feed.source)
    question = _question(plan, client, source)
    doubtful = [column.name for column in source.columns if _TIMES.search(column.type)]
    return replace(
        question,
        replace_text=plan.feed.on_bad_text == "replace",
        identifying=_identifying(plan.feed, question),
        doubtful=tuple(name for name in doubtful if name in question.columns),
        source=source,
    )


def _identifying(feed: Feed, question: Question) -> tuple[str, ...]:
    if isinstance(feed, StreamFeed):
        return feed.identity.columns if feed.known_by == "key" else ()
    return question.key


def _question(plan: ExportPlan, client: KsqlClient, source: SourceDescription) -> Question:
    feed = plan.feed
    _check_kind(feed, source)
    available = [column.name for column in source.columns]
    if source.window_type:
        available = [*_keys(source), *WINDOW_BOUNDS, *_values(source)]
    if feed.extraction != "pull":
        return _push_question(plan, client, source, available)
    found = reach(source, client.server_info().version)
    if found.extraction == "push":
        raise NotQueryableError(found.reason, hint=found.fix, feed=feed.name)
    columns = wanted_columns(feed, available)
    check_fields(_described_types(source, columns))
    names = tuple(lake_names(feed, columns))
    forms = column_forms(source, columns)
    if isinstance(feed, StreamFeed):
        if plan.days is None:
            raise ConfigError(f"nothing to read: {plan.reason}", feed=feed.name)
        event_type = _event_type(feed, source)
        statement = stream_statement(
            feed, columns, plan.days, event_type=event_type, forms=forms, open_end=plan.open_end
        )
        kind, derived = QueryKind.PULL_STREAM, bool(source.write_queries)
        return Question(
            statement,
            kind,
            tuple(columns),
            names,
            forms,
            len(columns),
            topic=source.topic,
            derived=derived,
        )
    statement, key = table_statement(feed, columns, forms), _whole_key(source)
    return Question(statement, QueryKind.PULL_TABLE, tuple(columns), names, forms, len(columns), key=key)


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
                hint="Create the table with a PRIMARY KEY on the server.",
                feed=feed.name,
            )
        landed = wanted_columns(feed, available)
        # A table's rows are distinguished by their key, and old ones from new ones by their place or time.
        needed = (*key, *(POSITION_COLUMNS if placed else (ROWTIME,)))
        if plan.timed and ROWTIME not in needed:
            needed = (*needed, ROWTIME)
    check_fields(_described_types(source, landed))
    names = lake_names(feed, landed)
    extra = [name for name in needed if name not in landed]
    forms = column_forms(source, [*landed, *extra], fixed=key)
    _refuse_coarse_keys(feed, key, dict(zip([*landed, *extra], forms, strict=True)))
    return Question(
        statement=push_statement(feed, [*landed, *extra], forms=forms),
        kind=QueryKind.PUSH,
        columns=(*landed, *extra),
        names=(
            *names,
            *(f"read:{name}" for name in extra),
        ),  # a column that is only read clashes with no name in the lake
        forms=forms,
        landed=len(landed),
        key=key,
        event_type=event_type,
        topic=source.topic,
        partitions=source.partitions,
        derived=bool(source.write_queries),
        committed=feed.isolation == "committed",
        readers=tuple(sink for query in source.read_queries for sink in query.sinks),
    )


def _refuse_coarse_keys(feed: Feed, key: Sequence[str], forms: Mapping[str, Form]) -> None:
    """Refuse keys that come without milliseconds: different rows would be taken for one."""
    for name in key:
        if forms[name].seconds:
            raise ConfigError(
                f"a push query brings the TIME key {name} of a deleted row without its milliseconds, so rows "
                "of the same second cannot be distinguished",
                hint="Derive a table whose key is not a TIME, or that a pull query can read, and export that "
                "one: there the milliseconds arrive.",
                feed=feed.name,
                column=name,
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

"""Read a feed's window: a lazy description that can be opened again, and the reading itself."""

# Each opening is a fresh query, so that a retry never mixes rows of two readings.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from ksql_lake.errors import KsqlError, ServerUnavailableError, StatementError
from ksql_lake.export.continuing import continued
from ksql_lake.export.evidence import pull_evidence
from ksql_lake.export.export_plan import ExportPlan, still_wanted
from ksql_lake.export.pipeline import side_by_side
from ksql_lake.export.push import listen
from ksql_lake.export.push.outside import Beyond
from ksql_lake.export.question import Question, answer_decoder, write_question
from ksql_lake.export.reading import Reading, TableChanges
from ksql_lake.export.statement import TIME_COLUMNS
from ksql_lake.export.table import TableAnswer, TableQuery, read_table
from ksql_lake.export.table.parts import Parts
from ksql_lake.export.table.twice import KeyedRows
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient, QueryKind, QueryResponse, RowBlock
from ksql_lake.ksqldb.inventory import topic_is_gone
from ksql_lake.lake import FeedLake
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.commit.marks import KnownDays, Pushed
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.schema import Column, Primitive, Schema, arrow_schema

FLAT_THREADS, NESTED_THREADS = 1, 2
"""How many blocks are decoded at once. Rows without nested values are decoded nearly as fast as the caller's
thread receives and hashes them; a second thread would mostly wait for the interpreter and slow down others."""
NESTED_BLOCK = 3 * 1024 * 1024
"""Bytes per block where two are decoded at once: what is made of nested values takes more memory."""

_log = logging.getLogger(__name__)


class PullReading:
    """One running pull query: iterate it for record batches in the lake's columns.

    Attributes:
        schema: Columns in the lake's names; pseudo columns are timestamps.
        read_at: When the query was sent (UTC).
        judge: Returns what shows that all rows came; to be called after the last row.
        nodes: How many nodes hold a table; 0 where that is not known.
        on_wait: Not called: the rows of a pull query come without pause, or the query fails.
    """

    def __init__(
        self,
        response: QueryResponse | Parts,
        question: Question,
        *,
        read_at: datetime,
        judge: Callable[[], Evidence],
        take: Callable[[pa.RecordBatch], None] | None = None,
        beyond: Beyond | None = None,
    ) -> None:
        self.judge = judge
        self._beyond = beyond
        self.nodes = 0
        self.on_wait: Callable[[], None] = lambda: None
        self._take_note = take
        decoder = answer_decoder(question, response.header.schema_text)
        self.response = response
        self._statement = question.statement
        self.read_at = read_at
        self.rows = 0
        self._decoder = decoder
        self.schema = Schema(
            tuple(
                Column(
                    name,
                    Primitive.TIMESTAMP if column.name in TIME_COLUMNS else column.type,
                    # The answer's header does not mark a key column that travels wrapped: by the rest of the
                    # key different rows would be taken for one.
                    key=(column.name in question.key if question.key else column.key) and question.key_lands,
                )
                for name, column in zip(question.names, decoder.columns, strict=True)
            )
        )
        self._arrow = arrow_schema(self.schema)
        self._threads = FLAT_THREADS
        if any(map(pa.types.is_nested, self._arrow.types)):
            self._threads = NESTED_THREADS
            response.block_bytes = NESTED_BLOCK

    @property
    def statement(self) -> str:
        """The query as sent."""
        return self._statement

    @property
    def query_id(self) -> str | None:
        """The query's name on the server."""
        return self.response.header.query_id

    @property
    def replaced_texts(self) -> int:
        """How many texts were changed to be valid Unicode."""
        return self._decoder.replaced

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the commit notes about the rows, by its fields."""
        outside = self._beyond.counts if self._beyond is not None else {}
        return {"replaced_texts": self.replaced_texts, "outside": outside}

    @property
    def bytes_read(self) -> int:
        """Response bytes so far."""
        return self.response.bytes_read

    @property
    def pushed(self) -> Pushed | None:
        """None: nothing was pushed."""
        return None

    @property
    def log(self) -> TableChanges | None:
        """None: rows land as they come."""
        return None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows; ends normally only when the response was proven complete.

        Raises:
            DecodeError: A value does not fit its column.
            KsqlError: The response broke off or reported an error.
        """
        for batch in side_by_side(self.response, self._decode, threads=self._threads):
            wanted = batch if self._beyond is None else self._beyond.leave_out(batch)
            self.rows += wanted.num_rows
            if self._take_note is not None:
                self._take_note(wanted)
            yield wanted

    def evidence(self) -> Evidence:
        """Return what shows that all rows came; may ask the server once more.

        Raises:
            KsqlError: Something showed that rows are missing.
        """
        return self.judge()

    def _decode(self, block: RowBlock) -> pa.RecordBatch:
        batch = self._decoder.decode(
            block.data, count=block.count, first_row=block.first_row, breaks=block.breaks
        )
        columns = [
            column.cast(kind.type) if column.type != kind.type else column
            for column, kind in zip(batch.columns, self._arrow, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._arrow)


@dataclass(frozen=True)
class Extraction:
    """What to read, and from where; opened as often as needed.

    Attributes:
        plan: The plan.
        client: The server.
    """

    plan: ExportPlan
    client: KsqlClient = field(repr=False)

    @property
    def feed(self) -> Feed:
        """The feed."""
        return self.plan.feed

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.plan.days is None and self.plan.version is None

    @cached_property
    def question(self) -> Question:
        """The query, written after asking the server for the source.

        Raises:
            ConfigError: The feed names a kind or columns the source does not have.
            NotQueryableError: No pull query can read the source.
            KsqlError: The server does not know the source, or cannot be reached.
        """
        return write_question(self.plan, self.client)

    def still_wanted(self, lake: FeedLake, origin: Origin | None) -> Extraction:
        """Return what is left of this once the feed's lock is held; see `export_plan.still_wanted`."""
        plan = still_wanted(self.plan, lake.state(), origin=origin)
        if plan is self.plan:
            return self
        _log.info("%s: %s", self.feed.name, plan.reason)
        return replace(self, plan=plan)

    def pulled(self, reason: str = "") -> Extraction:
        """Return the extraction of the same days by pull query, where the feed says `continue`."""
        return replace(self, plan=self.plan.pulled(reason))

    @contextmanager
    def open(
        self,
        *,
        known: KnownDays | None = None,
        sighted: bool = False,
        note: Callable[[str], None] = lambda _line: None,
    ) -> Iterator[Reading]:
        """Send the query; leaving early closes it on the server.

        Args:
            known: What the lake holds of a stream by offset and need not be read (push queries, tokens).
            sighted: Whether the server is known to report a query's positions (push queries).
            note: Called with a line for people while the export waits.

        Raises:
            FallBackError: A `continue` feed cannot be read on; see `pulled`.
            KsqlError: The server refused, or could not be reached.
            ProtocolError: The response's columns are not those asked for.
        """
        question = self.question
        try:
            with self._opened(question, known or KnownDays(), sighted=sighted, note=note) as reading:
                yield reading
        except StatementError as error:
            if not any(word in error.message for word in ("MAP_KEYS", "MAP_VALUES")) or not question.mapped:
                raise
            raise self._unmapped(error, question) from error

    @contextmanager
    def _opened(
        self, question: Question, known: KnownDays, *, sighted: bool, note: Callable[[str], None]
    ) -> Iterator[Reading]:
        if self.feed.extraction == "continue":
            with continued(self.client, question, self.plan, known) as marked:
                yield marked
            return
        if question.kind is QueryKind.PUSH:
            with listen(self.client, question, self.plan, known=known, sighted=sighted) as pushed:
                yield pushed
            return
        read_at = datetime.now(UTC)
        if question.kind is QueryKind.PULL_TABLE:
            with read_table(self._table_query(question, note)) as answer:
                yield self._table_reading(answer, question, read_at)
            return
        committed = self.feed.isolation == "committed"
        try:
            with self.client.query(question.statement, kind=question.kind, committed=committed) as response:
                judge = partial(self._pulled, response, question)
                yield PullReading(response, question, read_at=read_at, judge=judge, beyond=self._beyond())
        except ServerUnavailableError as error:
            raise self._explained(error, question) from error.__cause__

    def _beyond(self) -> Beyond | None:
        feed, plan = self.feed, self.plan
        if not plan.open_end or plan.days is None or not isinstance(feed, StreamFeed):
            return None
        return Beyond(feed, plan.days.last)

    def _unmapped(self, error: StatementError, question: Question) -> StatementError:
        """Make the error that names the columns for whose MAP keys the server refuses the query."""
        return StatementError(
            "a MAP in this column holds DECIMALs in STRUCTs, and the server cannot take it apart, probably "
            f"because its keys are not STRING: {error.message}",
            hint="Name the other columns in the feed's `columns`, or make the DECIMALs columns of their own in "
            "a derived stream.",
            server=self.client.url,
            feed=self.feed.name,
            column=", ".join(question.mapped),
        )

    def _explained(self, error: ServerUnavailableError, question: Question) -> KsqlError:
        """Return which error it is: the server shuts down, or the source's topic is gone; both answer alike."""
        if not topic_is_gone(self.client, question.topic):
            return error
        return StatementError(
            f"the topic {question.topic} of {self.feed.source} does not exist any more",
            hint="It was deleted. What the lake holds stays: disable the feed, or recreate topic and source.",
            server=self.client.url,
        )

    def _pulled(self, response: QueryResponse, question: Question) -> Evidence:
        client = self.client
        return pull_evidence(
            response.sent,
            client.known_version(),
            derived=question.derived,
            refused=client.properties.refused,
            fell_back=self.plan.fell_back,
        )

    def _table_reading(self, answer: TableAnswer, question: Question, read_at: datetime) -> Reading:
        reading = PullReading(
            answer.response, question, read_at=read_at, judge=answer.evidence, take=answer.take
        )
        reading.nodes = answer.nodes
        return reading

    def _table_query(self, question: Question, note: Callable[[str], None]) -> TableQuery:
        key = tuple(
            name
            for name, column in zip(question.names, question.columns, strict=True)
            if column in question.key and question.key_lands
        )

        def hashes(response: QueryResponse) -> KeyedRows:
            rows = KeyedRows(key)
            for batch in PullReading(response, question, read_at=datetime.now(UTC), judge=_no_judge):
                rows.add(batch)
            return rows

        return TableQuery(self.client, self.feed.source, question.statement, key, hashes, note)


def _no_judge() -> Evidence:
    raise AssertionError("rows that are only compared are not judged")


def extract(plan: ExportPlan, client: KsqlClient) -> Extraction:
    """Return the extraction of a plan; nothing is sent until it is opened."""
    return Extraction(plan, client)

"""Read one push query until it has caught up: rows of a stream, or changes of a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.errors import ProtocolError
from ksql_lake.export.evidence import push_evidence
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.push.beacon import Beacon, Run, runs
from ksql_lake.export.push.caught_up import START_FACTOR, CaughtUp, Verdict
from ksql_lake.export.push.outside import Outside
from ksql_lake.export.push.placing import Placing
from ksql_lake.export.question import Question, answer_decoder
from ksql_lake.export.reading import Flags, TableChanges
from ksql_lake.export.statement import ROWTIME, TIME_COLUMNS
from ksql_lake.feeds.feed_columns import DELETED, POSITION_COLUMNS
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient, Listening, RowBlock, query_positions
from ksql_lake.ksqldb.offsets import LogOffsets
from ksql_lake.ksqldb.wire.answer_events import Event, Tombstone
from ksql_lake.lake.commit.continued import Continuation
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.commit.marks import KnownDays, Pushed
from ksql_lake.lake.rows.event_days import DaySplitter
from ksql_lake.schema import Column, Primitive, Schema, arrow_schema

GATHERED_BYTES = 1 << 20
"""How much of what has arrived is decoded at once."""


class Watch(Protocol):
    """Follows a reading and decides when it has ended."""

    @property
    def doubt(self) -> str:
        """What keeps the verdict from being a proof; empty for nothing."""
        ...

    def see(self, batch: pa.RecordBatch) -> None:
        """Note rows, under their source's names."""
        ...

    def verdict(self, caught_up: Verdict | None) -> Verdict | None:
        """Judge, given what shows that the query has caught up."""
        ...

    def continuation(self) -> Continuation:
        """Return where the next export begins."""
        ...


class PositionsUntoldError(Exception):
    """The server does not report the position of a query with a condition: it has to be sent without one."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A push query as it was sent, and where Kafka's log ended before; no ends where they are unknown."""

    client: KsqlClient
    question: Question
    statement: str
    read_at: datetime
    ends: Mapping[int, LogOffsets] = field(default_factory=dict)

    @property
    def began(self) -> int:
        """When, in epoch ms."""
        return int(self.read_at.timestamp() * 1000)


class PushReading:
    """One running push query.

    Args:
        listening: The query.
        sent: What was sent, and to which server.
        plan: What the export reads.
        known: What the lake holds of a stream's days; empty for a reading of everything.
        beacon: Shows where busy partitions end; not lit yet.

    Attributes:
        statement: The query as sent.
        read_at: When it was sent (UTC).
        schema: Columns that land, in the lake's names.
        log_schema: Columns of a table's changes: those of `schema`, and columns that are only read.
        rows: Rows received so far, changes and deleted keys alike.
        verdict: What showed that the query had caught up; None before.
        nodes: How many nodes answer for the rows: the one that was asked.
        on_wait: Called repeatedly during the reading, also when nothing comes; may raise to end it.
        watch: Follows the reading of a `continue` feed; None for any other.
    """

    nodes = 1

    def __init__(
        self,
        listening: Listening,
        sent: Sent,
        plan: ExportPlan,
        known: KnownDays,
        beacon: Beacon,
    ) -> None:
        question = sent.question
        self._decoder = answer_decoder(question, listening.header.schema_text)
        self.known = known
        self.statement = sent.statement
        self.read_at = sent.read_at
        self.rows = 0
        self.verdict: Verdict | None = None
        self.on_wait: Callable[[], None] = lambda: None
        self.watch: Watch | None = None
        self.log_schema = _lake_schema(self._decoder.columns, question)
        self.schema = _landed(self.log_schema, question, plan.feed)
        self._plan = plan
        self._question = question
        self._client = sent.client
        self._listening = listening
        self._log_arrow = arrow_schema(self.log_schema)
        self._began = sent.began
        self._ends = sent.ends
        self._beacon = beacon
        self._placing = _placing(plan, known, question)

    @property
    def feed(self) -> Feed:
        """The feed."""
        return self._plan.feed

    @property
    def query_id(self) -> str | None:
        """The query's name on the server."""
        return self._listening.header.query_id

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the commit notes about the rows beside `pushed`, by its fields."""
        return {"replaced_texts": self.replaced_texts}

    @property
    def replaced_texts(self) -> int:
        """How many texts were changed to be valid Unicode."""
        return self._decoder.replaced

    @property
    def bytes_read(self) -> int:
        """Response bytes so far."""
        return self._listening.bytes_read

    @property
    def filtered(self) -> bool:
        """Whether the query has a condition, so that its silence proves nothing."""
        return self.statement != self._question.statement

    @property
    def log(self) -> TableChanges | None:
        """The changes of a table; None for a stream, whose rows land as they come."""
        return self if self._placing is None else None

    @property
    def key(self) -> list[str]:
        """A table's key columns, as they are called in `log_schema`."""
        return [
            name
            for name, column in zip(self.log_schema.names, self._question.columns, strict=True)
            if column in self._question.key
        ]

    @property
    def pushed(self) -> Pushed:
        """How the rows were read, for the commit.

        Raises:
            ProtocolError: The query has not caught up.
        """
        if self.verdict is None:
            raise ProtocolError("a push query that has not caught up cannot be committed", hint="Read on.")
        return Pushed(
            rows=self.rows,
            judged_by=self.verdict.judged_by,
            caught_up=self.verdict.text,
            # Only feeds that are always read this way leave marks of days.
            seen=self._placing.seen if self._placing and not self.watch else {},
            new_topic=self._plan.new_topic,
            outside=self._placing.outside.counts if self._placing and self._placing.outside else {},
            continuation=self.watch.continuation() if self.watch else None,
        )

    def evidence(self) -> Evidence:
        """Return what shows that all rows came.

        Raises:
            ProtocolError: The query has not caught up.
        """
        pushed, doubt = self.pushed, self.watch.doubt if self.watch else ""
        if lost := ", ".join(self._question.eraless):
            doubt = f"the TIMESTAMP key {lost} comes without its era, so years before 1 are read as later ones"
        return push_evidence(
            self._listening.sent,
            judged_by=pushed.judged_by,
            text=pushed.caught_up,
            doubt=doubt,
            derived=self._question.derived,
            refused=self._client.properties.refused,
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a stream that land; ends when the query has caught up.

        Raises:
            KsqlError: The query broke off, failed, makes no progress, or ended without being asked to.
            DecodeError: A value does not fit its column.
        """
        arrow = arrow_schema(self.schema)
        for batch, gone in self._batches():
            if gone.any() or self._placing is None:
                raise ProtocolError("a stream's rows came with a deleted key", hint="Is the source a table?")
            landed = self._placing.take(batch)
            columns = landed.columns[: self._question.landed]
            if landed.num_rows:
                cast = [column.cast(kind.type) for column, kind in zip(columns, arrow, strict=True)]
                yield pa.RecordBatch.from_arrays(cast, schema=arrow)

    def changes(self) -> Iterator[tuple[pa.RecordBatch, Flags]]:
        """Yield a table's changes in their order, and which of them delete their keys; ends as iterating does.

        Raises:
            KsqlError: As for iterating.
            DecodeError: A value does not fit its column.
        """
        for batch, gone in self._batches():
            cast = [column.cast(kind.type) for column, kind in zip(batch.columns, self._log_arrow, strict=True)]
            yield pa.RecordBatch.from_arrays(cast, schema=self._log_arrow), gone

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, Flags]]:
        """Decode what comes until the query has caught up, then what was still on its way."""
        client = self._client
        judge = CaughtUp(
            topic=self._question.topic,
            partitions=self._question.partitions,
            quiet=client.quiet_seconds,
            # Longer than the read timeout: a connection that lost its heartbeats fails and is not judged.
            patience=client.read_timeout + client.quiet_seconds,
            ends=self._ends if self._question.placed else {},
        )
        slice_seconds, poll_seconds = min(0.25, client.quiet_seconds / 20), min(2.0, client.quiet_seconds / 5)
        looked = polled = time.monotonic()
        while self.verdict is None:
            for run in self._gather(slice_seconds):
                yield self._decode(run, judge), run.gone
            self.on_wait()
            if self._question.placed:
                start = client.quiet_seconds * START_FACTOR
                judge.lit(self._beacon.look(judge.clock, lit_from=start, seconds=start))
            now = time.monotonic()
            judge.step(now - looked)
            looked = now
            if now - polled >= poll_seconds:
                judge.reported(query_positions(client, self.query_id or "", topic=self._question.topic))
                polled = time.monotonic()
                if self.filtered and judge.unreported:
                    raise PositionsUntoldError
            # While rows wait here we may hold up the server, and then we cause its silence.
            if self._listening.waiting <= 1:
                # The silence of a query with a condition proves nothing; rows at Kafka's ends do.
                unheard = self.filtered and judge.silent_only
                self.verdict = judge.proof() if unheard else judge.verdict()
                if self.watch is not None:
                    self.verdict = self.watch.verdict(self.verdict)
        for run in runs(self._listening.rest(), first_row=self.rows):
            yield self._decode(run, judge), run.gone
        if self._placing is not None:
            self._placing.check_ends(judge.ends(), all_rows=not self.filtered)

    def _gather(self, seconds: float) -> list[Run]:
        """Wait for something, and take what else has arrived."""
        pieces: list[Event] = []
        size = 0
        piece = self._listening.next(seconds)
        while piece is not None:
            pieces.append(piece)
            size += len(piece.data) if isinstance(piece, RowBlock | Tombstone) else 0
            piece = self._listening.next(0) if size < GATHERED_BYTES and self._listening.waiting else None
        return list(runs(pieces, first_row=self.rows))

    def _decode(self, run: Run, judge: CaughtUp) -> pa.RecordBatch:
        batch = self._decoder.decode(run.data, count=run.count, first_row=run.first_row)
        self.rows += run.count
        self._hear(batch, judge)
        if self.watch is not None:
            self.watch.see(batch)
        return batch

    def _hear(self, batch: pa.RecordBatch, judge: CaughtUp) -> None:
        """Report to the judge what came: up to where, and whether it may be from before the query began."""
        if not self._question.placed:
            times = _numbers(batch, ROWTIME)
            judge.heard(old=bool((times < self._began).any()))
            return
        partitions, offsets = (_numbers(batch, name) for name in POSITION_COLUMNS)
        seen = {int(number): int(offsets[partitions == number].max()) for number in np.unique(partitions)}
        firsts = self._beacon.firsts
        young = [number in firsts and offset >= firsts[number] for number, offset in seen.items()]
        judge.heard(old=not all(young), seen=seen)


def _numbers(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    return np.asarray(batch.column(name).cast(pa.int64()).fill_null(-1))


def _lake_schema(received: Schema, question: Question) -> Schema:
    return Schema(
        tuple(
            Column(
                name,
                Primitive.TIMESTAMP if column.name in TIME_COLUMNS else column.type,
                key=column.name in question.key,
            )
            for name, column in zip(question.names, received, strict=True)
        )
    )


def _landed(schema: Schema, question: Question, feed: Feed) -> Schema:
    columns = schema.columns[: question.landed]
    if not question.key_lands:
        columns = tuple(replace(column, key=False) for column in columns)
    if feed.marks_deleted:
        columns = (*columns, Column(DELETED, Primitive.BOOLEAN))
    return Schema(columns)


def _placing(plan: ExportPlan, known: KnownDays, question: Question) -> Placing | None:
    feed = plan.feed
    if not isinstance(feed, StreamFeed) or plan.days is None:
        return None
    days = plan.window or plan.days
    window = DaySplitter(days.first, days.last, feed.zone)
    return Placing(
        window,
        known,
        event_time=feed.event_time,
        unit=feed.event_time_unit,
        placed=question.placed,
        outside=Outside(feed),
    )

"""Read a derived stream on from its marks, with queries that begin at a continuation token."""

# A batch counts only with the token that follows it, and only if its rows agree with that token. A query that
# breaks off begins again at the last good token, a bounded number of times; then a `FallBackError` leads to a
# pull query.

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ksql_lake.decode import AnswerDecoder
from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlError,
    ProtocolError,
    QueryFailedError,
    ServerBusyError,
    ServerUnavailableError,
    SpoolFullError,
    UnauthorizedError,
)
from ksql_lake.export.continuing.overlap import BrokenBatchError, Flags, OverlapError, SinkRows
from ksql_lake.export.continuing.preconditions import FallBackError, ignored
from ksql_lake.export.continuing.standing import Standing, hashes_of
from ksql_lake.export.evidence import isolation_of
from ksql_lake.export.push.caught_up import START_FACTOR, Verdict
from ksql_lake.export.push.outside import Outside
from ksql_lake.export.question import Question, answer_decoder
from ksql_lake.export.reading import TableChanges
from ksql_lake.export.statement import TIME_COLUMNS, push_statement
from ksql_lake.ksqldb import Listening, RowBlock
from ksql_lake.ksqldb.properties import SentProperties
from ksql_lake.ksqldb.tokens import Span, decode_token
from ksql_lake.ksqldb.wire.answer_events import Event, Token, Tombstone
from ksql_lake.lake.commit.continued import Continued
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.commit.marks import Pushed
from ksql_lake.lake.days import day_start
from ksql_lake.schema import Column, Primitive, Schema, arrow_schema

_log = logging.getLogger(__name__)

MOST_RESTARTS = 5
"""How often a query begins again without a good batch in between."""
MOST_SILENCES = 2
"""How often of these because neither a row nor a token came."""
_GATHERED_BYTES = 1 << 20
"""Bytes of good batches that are decoded at once."""
_MOST_ROWS = 100_000
"""Rows without a token after them: a server sends one after 500."""
_IDLE = 2
"""Empty batches in a row after which the query has caught up for now."""
_AGAIN = (IncompleteResponseError, QueryFailedError, ServerBusyError, ServerUnavailableError, ProtocolError)


class _SilenceError(Exception):
    """Neither a row nor a token came."""


@dataclass(slots=True)
class _Batch:
    """Rows, and the token that follows them."""

    texts: list[bytes] = field(default_factory=list)
    rows: int = 0
    span: Span | None = None


class ContinuedReading:
    """One reading of a derived stream from its marks on; iterate it for record batches in the lake's columns.

    Args:
        question: The query; the columns that are only read are left out.
        standing: What is known of the source.
        marks: Where to begin.

    Attributes:
        schema: Columns in the lake's names.
        read_at: When the source's ends were requested (UTC).
        statement: The query as sent.
        query_id: Of the newest query.
        rows: Rows received so far, without those of broken batches.
        replaced_texts: How many texts were changed to be valid Unicode.
        verdict: What showed that all rows came; None before.
        nodes: How many nodes answer for the rows: the one that was asked.
        on_wait: Called repeatedly while nothing comes; may raise to end the reading.
    """

    nodes = 1

    def __init__(self, question: Question, standing: Standing, marks: Continued) -> None:
        landed = question.landed
        feed = standing.feed
        self._question = replace(
            question,
            columns=question.columns[:landed],
            names=question.names[:landed],
            forms=question.forms[:landed],
        )
        self.statement = push_statement(feed, self._question.columns, forms=self._question.forms)
        self.read_at = standing.look.read_at
        self.query_id: str | None = None
        self.rows = 0
        self.replaced_texts = 0
        self.verdict: Verdict | None = None
        self.on_wait: Callable[[], None] = lambda: None
        self._bytes = 0
        self._standing = standing
        self._sink = SinkRows(marks.sink, marks.groups)
        self._outside = Outside(feed)
        window = standing.window
        self._start = day_start(window.first, feed.zone)
        self._idle = 0
        self._still = 0.0
        self._listening: Listening | None = None
        self._decoder = self._first()
        self.schema = _lake_schema(self._decoder.columns, self._question)
        self._arrow = arrow_schema(self.schema)

    @property
    def bytes_read(self) -> int:
        """Response bytes so far."""
        return self._bytes + (self._listening.bytes_read if self._listening else 0)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the commit notes about the rows beside `pushed`, by its fields."""
        return {"replaced_texts": self.replaced_texts}

    @property
    def log(self) -> TableChanges | None:
        """None: rows land as they come."""
        return None

    @property
    def pushed(self) -> Pushed:
        """How the rows were read, for the commit.

        Raises:
            ProtocolError: The reading has not ended.
        """
        verdict = self._proven()
        sink, groups = self._sink.marks
        return Pushed(
            rows=self.rows,
            judged_by=verdict.judged_by,
            caught_up=verdict.text,
            outside=self._outside.counts,
            continuation=self._standing.continuation(sink, groups, fresh=True),
        )

    def evidence(self) -> Evidence:
        """Return what shows that all rows came.

        Raises:
            ProtocolError: The reading has not ended.
        """
        return Evidence(
            level="checked" if self._standing.doubt else "proven",
            text=self._proven().text,
            isolation=isolation_of(SentProperties(), derived=True),
            caveats=list(self._standing.client.properties.refused),
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that land; ends when every row of the source is known.

        Raises:
            FallBackError: The stream cannot be read on from its marks.
            TopicRecreatedError: The source was recreated.
            DecodeError: A value does not fit its column.
            KsqlError: The server cannot be reached, or the stream's query makes no progress.
        """
        restarts = silences = 0
        while self.verdict is None:
            before = self.rows
            try:
                if self._listening is None:
                    self._decoder = self._begun()
                yield from self._batches()
            except OverlapError as error:
                raise FallBackError(str(error)) from error
            except (BrokenBatchError, _SilenceError, *_AGAIN) as error:
                fruitful = self.rows - before > len(self._sink.marks[0])
                restarts = 1 if fruitful else restarts + 1
                silences = silences + 1 if isinstance(error, _SilenceError) else 0
                self._restart(error, restarts, silences)
            finally:
                self.close()

    def close(self) -> None:
        """End the query on the server."""
        if self._listening is not None:
            self._bytes += self._listening.bytes_read
            self._listening.close()
            self._listening = None

    def _begun(self) -> AnswerDecoder:
        """Begin a query at the last good token."""
        client = self._standing.client
        try:
            listening = client.listen_from(self.statement, self._sink.begin())
        except (UnauthorizedError, *_AGAIN):
            raise
        except KsqlError as error:
            raise FallBackError(f"the server refuses a query with a token: {error.message}") from error
        self._listening = listening
        self._idle = 0
        self.query_id = listening.header.query_id
        if why := ignored(self.query_id):
            self.close()
            raise FallBackError(why)
        return answer_decoder(self._question, listening.header.schema_text)

    def _first(self) -> AnswerDecoder:
        """Begin the first query; ask a server again that cannot take it at the moment."""
        restarts = 0
        while True:
            try:
                return self._begun()
            except (QueryFailedError, ServerBusyError) as error:
                restarts += 1
                self._restart(error, restarts, 0)

    def _restart(self, error: Exception, restarts: int, silences: int) -> None:
        """Log why a query begins again, or raise why it does not."""
        what = error.message if isinstance(error, KsqlError) else str(error)
        if restarts > MOST_RESTARTS or silences >= MOST_SILENCES:
            if isinstance(error, ServerUnavailableError):
                raise error
            raise FallBackError(f"{what}, {restarts} times in a row") from error
        _log.warning("%s: %s; beginning again at the last good token", self._standing.feed.name, what)
        if isinstance(error, ServerBusyError | ServerUnavailableError | QueryFailedError):
            self._standing.client.sleep(min(2.0 ** (restarts - 1), 10.0))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield good batches until all rows are there."""
        # A stream without a record has nothing to send; rows that were given up may have come by now.
        if not self._standing.source.gaps and self._over():
            self.verdict = self._standing.verdict()
            return
        for batches in self._good_batches():
            landed = self._taken(batches)
            if landed is not None and landed.num_rows:
                yield landed
            if self._over():
                self.verdict = self._standing.verdict()
                return

    def _good_batches(self) -> Iterator[list[_Batch]]:
        """Gather what has arrived; good batches come out before a broken one raises."""
        good: list[_Batch] = []
        size = 0
        batch = _Batch()
        pieces = self._pieces()
        while True:
            try:
                piece = next(pieces) if not good else self._heard(0)
                if isinstance(piece, RowBlock):
                    batch.texts.append(bytes(piece.data))
                    batch.rows += piece.count
                    size += len(piece.data)
                    _bounded(batch)
                elif isinstance(piece, Token) and piece.kind == "continuation":
                    batch.span = decode_token(piece.value)
                    self._sink.check(batch.span, batch.rows)
                    good.append(batch)
                    batch = _Batch()
            except (BrokenBatchError, KsqlError):
                if good:
                    yield good
                raise
            if good and (piece is None or size >= _GATHERED_BYTES):
                yield good
                good, size = [], 0

    def _pieces(self) -> Iterator[Event]:
        """Wait for what comes.

        Raises:
            _SilenceError: Nothing came for too long.
        """
        client = self._standing.client
        quiet, step = client.quiet_seconds, min(0.25, client.quiet_seconds / 20)
        silent = 0.0
        while True:
            piece = self._heard(step)
            self.on_wait()
            if piece is not None:
                silent = 0.0
                yield piece
                continue
            # Counted in steps, so that a process that was stopped does not count its own pause as silence.
            silent += step
            self._still += step
            if silent >= quiet * START_FACTOR:
                raise _SilenceError(f"the server sent neither a row nor a token for {silent:g} s")

    def _heard(self, seconds: float) -> Event | None:
        if self._listening is None:
            raise ProtocolError("a reading that was closed cannot go on", hint="Begin it again.")
        try:
            piece = self._listening.next(seconds)
        except SpoolFullError as error:
            raise FallBackError(error.message) from error
        if isinstance(piece, Tombstone):
            raise ProtocolError("a stream's rows came with a deleted key", hint="Is the source a table?")
        return piece

    def _taken(self, batches: list[_Batch]) -> pa.RecordBatch | None:
        """Decode good batches and return the rows that land."""
        count = sum(batch.rows for batch in batches)
        if not count:
            self._idle += len(batches)
            return None
        self._idle, self._still = 0, 0.0
        data = b",\n".join(text for batch in batches for text in batch.texts)
        replaced = self._decoder.replaced
        decoded = self._decoder.decode(data, count=count, first_row=self.rows)
        self.rows += count
        self.replaced_texts += self._decoder.replaced - replaced
        standing = self._standing
        places = standing.places(decoded)
        hashes, nowhere, first = hashes_of(places), places[0] < 0, 0
        again: Flags = np.zeros(count, np.bool_)
        for batch in batches:
            if batch.span is not None and batch.rows:
                rows = slice(first, first + batch.rows)
                again[rows] = self._sink.take(batch.span, hashes[rows], nowhere[rows])
                first += batch.rows
        # A row with a place is known by that place; the others only by being the record before a mark.
        fresh = standing.take(places) & ~(again & nowhere)
        standing.unplaced += int(np.count_nonzero(fresh & nowhere))
        return self._landing(decoded, fresh)

    def _landing(self, decoded: pa.RecordBatch, fresh: Flags) -> pa.RecordBatch:
        """Return the new rows of days that land, in the lake's columns."""
        standing = self._standing
        events, times = standing.events(decoded), standing.places(decoded)[2]
        self._outside.see(events[fresh], times[fresh])
        standing.wait_for(events[fresh])
        wanted = fresh & (events >= self._start) & (events < standing.end)
        standing.land(events[wanted])
        landed = decoded if wanted.all() else decoded.filter(pa.array(wanted))
        pairs = zip(landed.columns, self._arrow, strict=True)
        return pa.RecordBatch.from_arrays(
            [column.cast(kind.type) for column, kind in pairs], schema=self._arrow
        )

    def _over(self) -> bool:
        """Whether all rows are there, or the missing ones will not come.

        Raises:
            OverlapError: The record before a mark does not come.
            ServerUnavailableError: The stream's query makes no progress before the end of its source.
        """
        standing = self._standing
        if standing.source.reached and self._sink.satisfied:
            return True
        if self._idle < _IDLE:
            return False
        if not self._sink.satisfied:
            raise OverlapError("the record before the mark does not come in a partition of the derived stream")
        if standing.consumed:
            standing.give_up()
            return True
        standing.look_again()
        self._idle = 0
        if self._still >= standing.client.read_timeout:
            raise standing.stuck(self._still)
        return False

    def _proven(self) -> Verdict:
        if self.verdict is None:
            raise ProtocolError("a reading that has not ended cannot be committed", hint="Read on.")
        return self.verdict


def _bounded(batch: _Batch) -> None:
    if batch.rows > _MOST_ROWS:
        raise BrokenBatchError(f"{batch.rows:,} rows came without a token after them")


def _lake_schema(columns: Schema, question: Question) -> Schema:
    return Schema(
        tuple(
            Column(name, Primitive.TIMESTAMP if column.name in TIME_COLUMNS else column.type, key=column.key)
            for name, column in zip(question.names, columns, strict=True)
        )
    )

"""A second push query from the latest row on, which shows up to where a busy partition must be read."""

# A partition that gets rows all the time never rests at its end. A query that starts at the latest row returns
# only rows that came after it began; a reader that has come that far has read all earlier rows.

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.decode import RowDecoder
from ksql_lake.errors import KsqlError
from ksql_lake.export.statement import push_statement
from ksql_lake.feeds.feed_columns import POSITION_COLUMNS
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient, Listening, RowBlock
from ksql_lake.ksqldb.wire.answer_events import Event, Tombstone
from ksql_lake.schema import parse_schema

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """Rows that can be decoded at once.

    Attributes:
        first_row: Number of the first of them in the response, from 0.
        texts: Their JSON texts.
        counts: How many rows each text has.
        deleted: Whether each text is a deleted key.
    """

    first_row: int
    texts: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    deleted: list[bool] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        """All rows, a comma between them."""
        return b",\n".join(self.texts)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(self.counts)

    @property
    def gone(self) -> npt.NDArray[np.bool_]:
        """Which of the rows are deleted keys."""
        return np.repeat(np.array(self.deleted, np.bool_), self.counts)


def runs(pieces: Iterable[Event], *, first_row: int) -> Iterator[Run]:
    """Yield the rows and deleted keys among pieces as one run, or none, without tokens and final messages."""
    run = Run(first_row)
    for piece in pieces:
        if isinstance(piece, RowBlock | Tombstone):
            run.texts.append(bytes(piece.data))
            run.counts.append(piece.count if isinstance(piece, RowBlock) else 1)
            run.deleted.append(isinstance(piece, Tombstone))
    if run.texts:
        yield run


class Beacon:
    """The second query, as a context manager; it is sent when it is lit.

    Args:
        client: The server.
        feed: Whose source is read.

    Attributes:
        firsts: Kafka partition -> offset of the first row that came after the beacon was lit.
    """

    def __init__(self, client: KsqlClient, feed: Feed) -> None:
        self.firsts: dict[int, int] = {}
        self._client = client
        self._feed = feed
        self._listening: Listening | None = None
        self._decoder: RowDecoder | None = None
        self._open = ExitStack()
        self._lit_at: float | None = None

    def look(self, clock: float, *, lit_from: float, seconds: float) -> dict[int, int]:
        """Return the first offsets seen so far, by Kafka partition.

        Args:
            clock: The reading's clock, in seconds.
            lit_from: When to send the query, on that clock.
            seconds: For how long it runs.
        """
        if self._lit_at is None and clock >= lit_from:
            self._light(clock)
        if self._listening is not None and self._lit_at is not None:
            self._take(self._listening)
            if clock - self._lit_at >= seconds:
                self.close()
        return self.firsts

    def close(self) -> None:
        """End the query on the server."""
        self._listening = None
        self._open.close()

    def __enter__(self) -> Beacon:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _light(self, clock: float) -> None:
        self._lit_at = clock
        statement = push_statement(self._feed, POSITION_COLUMNS)
        try:
            listening = self._client.listen(
                statement,
                properties={"auto.offset.reset": "latest"},
                committed=self._feed.isolation == "committed",
            )
            self._listening = self._open.enter_context(listening)
            self._decoder = RowDecoder(parse_schema(listening.header.schema_text))
        except KsqlError as error:
            _log.warning("%s: no second query to find the end of the topic: %s", self._feed.name, error.message)

    def _take(self, listening: Listening) -> None:
        pieces: list[Event] = []
        try:
            while (piece := listening.next(0)) is not None:
                pieces.append(piece)
        except KsqlError as error:
            _log.warning("%s: the second query ended: %s", self._feed.name, error.message)
            self.close()
        rows = [piece for piece in pieces if isinstance(piece, RowBlock)]
        for run in runs(rows, first_row=0):
            if self._decoder is not None:
                self._note(self._decoder.decode(run.data, count=run.count, first_row=0))

    def _note(self, batch: pa.RecordBatch) -> None:
        partitions, offsets = (np.asarray(column.cast(pa.int64()).fill_null(-1)) for column in batch.columns)
        for partition in np.unique(partitions):
            first = int(offsets[partitions == partition].min())
            self.firsts.setdefault(int(partition), first)

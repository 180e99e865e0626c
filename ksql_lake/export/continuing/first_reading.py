"""Read a derived stream from its first row by push query, and leave marks for the next export."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from ksql_lake.export.continuing.overlap import row_hashes
from ksql_lake.export.continuing.prefix import Numbers
from ksql_lake.export.continuing.standing import Standing
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.push import PushReading, listen
from ksql_lake.export.push.caught_up import STEP_SHARE, Verdict
from ksql_lake.export.question import Question
from ksql_lake.feeds.feed_columns import POSITION_COLUMNS
from ksql_lake.lake.commit.continued import Continuation, SinkMark
from ksql_lake.lake.commit.marks import KnownDays


class FirstReading:
    """Follows a push query by the offsets of the source and of the stream itself.

    Args:
        standing: What is known of the source.
    """

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._lasts: dict[int, tuple[int, int]] = {}
        self._looked_at = self._seen_at = time.monotonic()
        self._still = 0.0

    def see(self, batch: pa.RecordBatch) -> None:
        """Note the places of rows.

        Raises:
            TopicRecreatedError: The source was recreated.
        """
        standing = self._standing
        places = standing.places(batch)
        standing.take(places)
        standing.unplaced += int(np.count_nonzero(places[0] < 0))
        events = standing.events(batch)
        standing.wait_for(events)
        standing.land(events)
        self._note(batch, places)
        self._still = 0.0

    def verdict(self, caught_up: Verdict | None) -> Verdict | None:
        """Judge, given what shows that the query has read to the end of the stream's topic, if anything does.

        Raises:
            ServerUnavailableError: The stream's query does not reach the end of its source.
            KsqlError: The server cannot be asked.
        """
        standing = self._standing
        if standing.source.reached:
            return standing.verdict()
        quiet, now = standing.client.quiet_seconds, time.monotonic()
        self._still += min(now - self._seen_at, quiet * STEP_SHARE)
        self._seen_at = now
        if caught_up is None:
            return None
        if standing.believed:
            standing.source.recall()
        if standing.source.reached:
            return standing.verdict()
        if standing.consumed and self._still >= self._patience:
            standing.give_up()
            return standing.verdict()
        if now - self._looked_at >= quiet:
            standing.look_again()
            self._looked_at = time.monotonic()
        if not standing.consumed and self._still >= standing.client.read_timeout:
            raise standing.stuck(standing.client.read_timeout)
        return None

    @property
    def doubt(self) -> str:
        """What keeps the verdict from being a proof."""
        return self._standing.doubt

    def continuation(self) -> Continuation:
        """Return where the next export begins."""
        standing, held = self._standing, self._standing.held
        sink: list[SinkMark] = []
        groups: list[str] = []
        for number in range(max([standing.look.source.partitions, *(last + 1 for last in self._lasts)])):
            if number in self._lasts:
                offset, hashed = self._lasts[number]
                sink.append(SinkMark(offset + 1, len(groups)))
                groups.append(base64.b64encode(np.array([hashed], np.uint32).tobytes()).decode())
            else:
                # Nothing is there: only an earlier reading of the same stream can know where it ends.
                same = held is not None and held.query == standing.look.query and number < len(held.sink)
                sink.append(SinkMark(held.sink[number].next if held is not None and same else 0))
        return standing.continuation(sink, groups, fresh=False)

    @property
    def _patience(self) -> float:
        """Seconds without a row after which missing rows count as never to come.

        A partition that has brought nothing is empty or was not fetched yet: the server reports both alike.
        """
        client = self._standing.client
        started = len(self._lasts) >= self._standing.look.source.partitions
        # Longer than the read timeout: a connection that lost its heartbeats fails and is not judged.
        return client.quiet_seconds if started else client.read_timeout + client.quiet_seconds

    def _note(self, batch: pa.RecordBatch, places: tuple[Numbers, Numbers, Numbers]) -> None:
        partitions, offsets = (np.asarray(batch.column(name).cast(pa.int64())) for name in POSITION_COLUMNS)
        for number in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == number)
            row = rows[np.argmax(offsets[rows])]
            if number not in self._lasts or offsets[row] > self._lasts[number][0]:
                hashed = row_hashes(*(values[row : row + 1] for values in places))
                self._lasts[number] = int(offsets[row]), int(hashed[0])


@contextmanager
def entered(question: Question, plan: ExportPlan, standing: Standing) -> Iterator[PushReading]:
    """Read a derived stream from its first row on; leaving ends the query on the server.

    Raises:
        KsqlError: The server refused, or could not be reached.
    """
    with listen(standing.client, question, plan, known=KnownDays(), sighted=False) as reading:
        reading.read_at = standing.look.read_at
        reading.watch = FirstReading(standing)
        yield reading

"""Events in the order they were sent, rows numbered, single rows joined into blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ksql_lake.ksqldb.chunks import Piece
from ksql_lake.ksqldb.events import Event, RowBlock, Tombstone


class Gathering:
    """What one call of a parser has found so far.

    Attributes:
        rows: How many rows have been found since the response began, tombstones included.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._run: list[bytes] = []
        self._events: list[Event] = []

    def row(self, data: bytes) -> None:
        """Add one row; it joins the rows just before it."""
        self._run.append(data)
        self.rows += 1

    def block(self, data: Piece, count: int, *, breaks: npt.NDArray[np.int64] | None = None) -> None:
        """Add many rows at once, commas between them."""
        self._flush()
        self._events.append(RowBlock(data, count, self.rows, breaks))
        self.rows += count

    def tombstone(self, data: bytes) -> None:
        """Add a deleted key."""
        self.event(Tombstone(data, self.rows))
        self.rows += 1

    def event(self, event: Event) -> None:
        """Add anything that is not a row."""
        self._flush()
        self._events.append(event)

    def take(self) -> list[Event]:
        """Everything added since the last time."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        if self._run:
            count = len(self._run)
            self._events.append(RowBlock(b",\n".join(self._run), count, self.rows - count))
            self._run = []

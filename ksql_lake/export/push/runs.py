"""Pieces of a push query put together: rows, or deleted keys, that came one after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ksql_lake.ksqldb import RowBlock
from ksql_lake.ksqldb.events import Event, Tombstone


@dataclass(slots=True)
class Run:
    """Rows that can be decoded at once.

    Attributes:
        gone: They are deleted keys.
        first_row: Number of the first of them in the response, from 0.
        texts: Their JSON texts.
        count: How many they are.
    """

    gone: bool
    first_row: int
    texts: list[bytes] = field(default_factory=list)
    count: int = 0

    @property
    def data(self) -> bytes:
        """All rows, a comma between them."""
        return b",\n".join(self.texts)

    def add(self, text: bytes, count: int) -> None:
        """Add rows behind the others."""
        self.texts.append(text)
        self.count += count


def runs(pieces: Iterable[Event], *, first_row: int) -> Iterator[Run]:
    """Give the rows and deleted keys among pieces, in their order; tokens and last words are none."""
    run: Run | None = None
    for piece in pieces:
        if not isinstance(piece, RowBlock | Tombstone):
            continue
        gone = isinstance(piece, Tombstone)
        if run is not None and run.gone is not gone:
            yield run
            run = None
        run = run or Run(gone, first_row)
        count = piece.count if isinstance(piece, RowBlock) else 1
        run.add(bytes(piece.data), count)
        first_row += count
    if run is not None:
        yield run

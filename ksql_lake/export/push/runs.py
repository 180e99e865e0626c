"""Pieces of a push query put together: rows and deleted keys in their order, to be decoded at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ksql_lake.ksqldb import RowBlock
from ksql_lake.ksqldb.events import Event, Tombstone


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
    """Give the rows and deleted keys among pieces as one run, or none; tokens and last words are no rows."""
    run = Run(first_row)
    for piece in pieces:
        if isinstance(piece, RowBlock | Tombstone):
            run.texts.append(bytes(piece.data))
            run.counts.append(piece.count if isinstance(piece, RowBlock) else 1)
            run.deleted.append(isinstance(piece, Tombstone))
    if run.texts:
        yield run

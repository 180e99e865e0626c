"""What the body of a query response is made of.

Plain data: no bytes are parsed here and nothing is decided. Row numbers count from 0; texts for people count
from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from ksql_lake.ksqldb.chunks import Piece


class QueryKind(StrEnum):
    """What was asked, because it decides what proves an answer complete."""

    PULL_STREAM = "pull_stream"
    PULL_TABLE = "pull_table"
    PUSH = "push"


class Outcome(StrEnum):
    """How a response ended.

    COMPLETE and LIMIT are proofs that every row of the answer arrived. CLOSED is a push query that the server
    ended, OPEN one that had not ended. ERROR was reported inside the answer. INCOMPLETE lacks its proof.
    """

    COMPLETE = "complete"
    LIMIT = "limit"
    CLOSED = "closed"
    ERROR = "error"
    INCOMPLETE = "incomplete"
    OPEN = "open"

    @property
    def proven(self) -> bool:
        """Whether every row of the answer is known to have arrived."""
        return self in (Outcome.COMPLETE, Outcome.LIMIT)


@dataclass(frozen=True, slots=True)
class Header:
    """The start of a response: which query it is, and its columns as schema text."""

    query_id: str | None
    schema_text: str


@dataclass(frozen=True, slots=True)
class RowBlock:
    """One or more rows that arrived together.

    Attributes:
        data: JSON texts of the rows with commas between them, so that `b"[" + data + b"]"` is one JSON array;
            each row is `{"row":{"columns":[...]}}`.
        count: How many rows `data` holds.
        first_row: Number of the first of them in the response, from 0.
        breaks: Where the newlines between the rows stand, if it is certain that all rows are of the v1 form
            with nothing beside their values, and that no other control character is among their bytes.
    """

    data: Piece
    count: int
    first_row: int
    breaks: npt.NDArray[np.int64] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted key in a table's change feed: keys and window bounds are set, all other columns null."""

    data: bytes
    row: int


@dataclass(frozen=True, slots=True)
class Token:
    """A position that the server offers for resuming or for read-your-writes; opaque."""

    kind: Literal["continuation", "consistency"]
    value: str


@dataclass(frozen=True, slots=True)
class FinalMessage:
    """The server's own word on why the answer ends."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An error reported after the answer had begun."""

    code: int | None
    message: str


Event = Header | RowBlock | Tombstone | Token | FinalMessage | ErrorMessage

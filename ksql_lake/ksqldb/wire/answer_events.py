"""The events in the body of a query response, and which of them prove it complete."""

# Neither HTTP 200 nor a regular end of the body proves anything. Only the end that ksqlDB itself writes counts.

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from ksql_lake.ksqldb.version import ServerVersion
from ksql_lake.ksqldb.wire.chunks import Piece

QUERY_COMPLETED = "Query Completed"
LIMIT_REACHED = "Limit Reached"


class QueryKind(StrEnum):
    """The kind of a query, which decides what proves its answer complete."""

    PULL_STREAM = "pull_stream"
    PULL_TABLE = "pull_table"
    PUSH = "push"


class Outcome(StrEnum):
    """How a response ended.

    COMPLETE and LIMIT prove that every row of the answer arrived. CLOSED is a push query that the server ended,
    OPEN one that had not ended. ERROR was reported inside the answer. INCOMPLETE lacks its proof.
    """

    COMPLETE = "complete"
    LIMIT = "limit"
    CLOSED = "closed"
    ERROR = "error"
    INCOMPLETE = "incomplete"
    OPEN = "open"

    @property
    def proven(self) -> bool:
        """Whether every row of the answer is proven to have arrived."""
        return self in (Outcome.COMPLETE, Outcome.LIMIT)


@dataclass(frozen=True, slots=True)
class Header:
    """The start of a response: the query's id, and its columns as schema text."""

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
        breaks: Positions of the newlines between the rows, if all rows are proven to be of the plain v1 form
            and to hold no other control character.
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
    """A continuation token of the server."""

    kind: Literal["continuation", "consistency"]
    value: str


@dataclass(frozen=True, slots=True)
class FinalMessage:
    """The server's message why the answer ends."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An error reported after the answer had begun."""

    code: int | None
    message: str


Event = Header | RowBlock | Tombstone | Token | FinalMessage | ErrorMessage


@dataclass(slots=True)
class AnswerEnd:
    """What a parser found at an answer's end.

    Attributes:
        header: The header; no answer is valid without one.
        bracket: The closing `]` of the whole answer.
        final: Text of the final message.
        error: An error message.
        cut: Whether the last line was cut.
    """

    header: bool = False
    bracket: bool = False
    final: str | None = None
    error: bool = False
    cut: bool = False


def judge_rows(kind: QueryKind, seen: AnswerEnd, *, clean: bool, version: ServerVersion | None) -> Outcome:
    """Return how a v1 response ended.

    Args:
        kind: The kind of query.
        seen: What the parser found.
        clean: Whether the HTTP body ended regularly.
        version: The server's version; None applies the newest and strictest rules.
    """
    if seen.error:
        return Outcome.ERROR
    if not seen.header:
        return Outcome.INCOMPLETE
    whole = seen.bracket and clean and not seen.cut
    if kind is QueryKind.PULL_TABLE:
        # A table pull has no final message: the bracket is the only mark of its end.
        return Outcome.COMPLETE if whole else Outcome.INCOMPLETE
    if seen.final == LIMIT_REACHED:
        return Outcome.LIMIT
    if seen.final == QUERY_COMPLETED:
        # A push query "completes" when it is closed, terminated, or the server shuts down.
        return Outcome.CLOSED if kind is QueryKind.PUSH else Outcome.COMPLETE
    if kind is QueryKind.PULL_STREAM:
        silent = version is not None and not version.stream_pulls_say_completed
        return Outcome.COMPLETE if silent and whole else Outcome.INCOMPLETE
    ended = seen.bracket or seen.cut or seen.final is not None
    return Outcome.INCOMPLETE if ended else Outcome.OPEN

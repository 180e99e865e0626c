"""When a response is complete: the rules, by kind of query and server version.

HTTP 200 proves nothing, and neither does a clean end of the body: a server that stops in the middle can end it
cleanly. Only what ksqlDB itself writes at the end of an answer counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.ksqldb.events import Outcome, QueryKind
from ksql_lake.ksqldb.version import ServerVersion

QUERY_COMPLETED = "Query Completed"
LIMIT_REACHED = "Limit Reached"


@dataclass(slots=True)
class Evidence:
    """What a parser saw of an answer's end.

    Attributes:
        header: The header, without which nothing is an answer.
        bracket: The closing `]` of the whole answer.
        final: Text of the final message.
        error: An error message.
        cut: A last line that was not finished.
    """

    header: bool = False
    bracket: bool = False
    final: str | None = None
    error: bool = False
    cut: bool = False


def judge_rows(kind: QueryKind, seen: Evidence, *, clean: bool, version: ServerVersion | None) -> Outcome:
    """Decide on a v1 response.

    Args:
        kind: What was asked.
        seen: What the parser saw.
        clean: Whether the HTTP body came to its proper end.
        version: The server's version; None applies the newest and strictest rules.
    """
    if seen.error:
        return Outcome.ERROR
    if not seen.header:
        return Outcome.INCOMPLETE
    whole = seen.bracket and clean and not seen.cut
    if kind is QueryKind.PULL_TABLE:
        # Table pulls never say that they are done: the bracket is the only mark.
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

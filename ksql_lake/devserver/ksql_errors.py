"""Errors as the server sends them: a status, a ksqlDB error code and a sentence."""

from __future__ import annotations

from typing import Literal

from ksql_lake.errors import StatementError

BAD_REQUEST = 40000
BAD_STATEMENT = 40001
QUERY_ENDPOINT = 40002
HTTP2_ONLY = 40004
UNAUTHORIZED = 40100
FORBIDDEN = 40300
NOT_FOUND = 40400
ASSERTION_FAILED = 41700
TOO_MANY_REQUESTS = 42900
SERVER_ERROR = 50000
NOT_READY = 50302

Shown = Literal["labelled", "bare", "chunked"]
"""How a refusal's body travels: with its content type, without, or without and as one chunk."""


class RefusedError(StatementError):
    """A request that gets this error body and no result.

    Args:
        message: The sentence the client sees.
        status: HTTP status.
        code: ksqlDB's error code.
        statement: The statement's text when the body is a `statement_error`, None for a `generic_error`.
        shown: How the body travels; a refusal during planning is chunked.
        unexpected: Whether a real server does not expect the mistake in a SELECT: the reason is in its log.

    Attributes:
        column: The name that no column has, if that is the mistake.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: int = BAD_STATEMENT,
        statement: str | None = "",
        shown: Shown = "labelled",
        unexpected: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.statement = statement
        self.shown = shown
        self.column: str | None = None
        self.unexpected = unexpected

    def body(self) -> dict[str, object]:
        """The JSON object ksqlDB answers with."""
        if self.statement is None:
            return {"@type": "generic_error", "error_code": self.code, "message": self.message}
        return {
            "@type": "statement_error",
            "error_code": self.code,
            "message": self.message,
            "statementText": self.statement,
            "entities": [],
        }


def unresolved(column: str) -> RefusedError:
    """Return the refusal of a name that no column of the source has."""
    refusal = RefusedError(f"Column '{column}' cannot be resolved.")
    refusal.column = column
    return refusal


def bad_request(message: str, *, shown: Shown = "labelled") -> RefusedError:
    """Return the refusal of a request that is wrong before any statement is read: 400/40000."""
    return RefusedError(message, code=BAD_REQUEST, statement=None, shown=shown)


def failed_assertion(message: str) -> RefusedError:
    """Return the refusal of an ASSERT statement that does not hold: 417."""
    return RefusedError(message, status=417, code=ASSERTION_FAILED, statement=None)


def not_found() -> RefusedError:
    """Return the refusal of a path, or a form of answer, that does not exist."""
    return RefusedError("Not Found", status=404, code=NOT_FOUND, statement=None, shown="bare")


def internal_error() -> RefusedError:
    """Return what a server answers to many mistakes it does not expect: the reason is in its log only."""
    return RefusedError(
        "The server encountered an internal error when processing the query. Please consult the server logs "
        "for more information.",
        status=500,
        code=SERVER_ERROR,
        statement=None,
    )


def not_implemented(what: str) -> RefusedError:
    """Return the refusal of something that a real server does and this stand-in does not."""
    return RefusedError(f"{what} is not something the ksql-lake devserver can do; a real ksqlDB server can.")


def syntax_error(source: str, at: int, what: str, statement: str) -> RefusedError:
    """Return the error for a mistake at character `at` of a request's text."""
    before = source[:at]
    place = f"line {before.count(chr(10)) + 1}:{at - (before.rfind(chr(10)) + 1) + 1}"
    return RefusedError(
        f"{place}: Syntax Error\n{what}\nStatement: {statement}\nCaused by: {place}: Syntax error at {place}",
        statement=statement,
    )


def too_large() -> RefusedError:
    """Return the refusal of a statement that nests too deeply to be read."""
    return RefusedError(
        "Failed to prepare statement: Statement is too large to parse. This may be caused by having too many "
        "nested expressions in the statement."
    )

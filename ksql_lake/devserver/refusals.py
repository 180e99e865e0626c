"""What the server answers instead of a result: a status, a ksqlDB error code and a sentence.

Raised anywhere below the HTTP door, turned into an error body there. It refuses to decide how a body is
framed: an answer that has already begun carries the same sentence in its own way.
"""

from __future__ import annotations

from ksql_lake.errors import StatementError

BAD_REQUEST = 40000
BAD_STATEMENT = 40001
QUERY_ENDPOINT = 40002
HTTP2_ONLY = 40004
UNAUTHORIZED = 40100
FORBIDDEN = 40300
NOT_FOUND = 40400
TOO_MANY_REQUESTS = 42900
SERVER_ERROR = 50000
NOT_READY = 50302


class RefusedError(StatementError):
    """The request gets this error body and no result.

    Args:
        message: The sentence the client sees.
        status: HTTP status.
        code: ksqlDB's error code.
        statement: The statement's text when the body is a `statement_error`, None for a `generic_error`.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: int = BAD_STATEMENT, statement: str | None = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.statement = statement

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


def bad_request(message: str) -> RefusedError:
    """A request that is wrong before any statement is looked at: 400/40000."""
    return RefusedError(message, code=BAD_REQUEST, statement=None)


def not_implemented(what: str) -> RefusedError:
    """Something a real server does and this stand-in does not; the text says so."""
    return RefusedError(f"{what} is not something the ksql-lake devserver can do; a real ksqlDB server can.")

"""ksqlDB's query protocol without sockets: what to send, and what the bytes that come back mean.

One request shape serves every server from 0.6 on: POST /query over HTTP/1.1, an explicit `Accept`, the body
below; its answer is read by `RowsParser`. The other two parsers read the forms of /query-stream. Nothing here
opens a connection, waits or retries.
"""

from __future__ import annotations

from collections.abc import Mapping

from ksql_lake.ksqldb.delimited import DelimitedParser
from ksql_lake.ksqldb.events import (
    ErrorMessage,
    Event,
    FinalMessage,
    Header,
    Outcome,
    QueryKind,
    RowBlock,
    Token,
    Tombstone,
)
from ksql_lake.ksqldb.json_array import JsonArrayParser
from ksql_lake.ksqldb.rows import RowsParser
from ksql_lake.ksqldb.statement import one_statement
from ksql_lake.ksqldb.version import ServerVersion, parse_version

__all__ = [
    "ACCEPT_DELIMITED",
    "ACCEPT_JSON_ARRAY",
    "ACCEPT_ROWS",
    "DelimitedParser",
    "ErrorMessage",
    "Event",
    "FinalMessage",
    "Header",
    "JsonArrayParser",
    "Outcome",
    "QueryKind",
    "RowBlock",
    "RowsParser",
    "ServerVersion",
    "Token",
    "Tombstone",
    "parse_version",
    "query_body",
]

ACCEPT_ROWS = "application/vnd.ksql.v1+json"
"""The form exports read; never left to the server's default, which differs between versions."""
ACCEPT_DELIMITED = "application/vnd.ksqlapi.delimited.v1"
ACCEPT_JSON_ARRAY = "application/json"


def query_body(
    sql: str,
    properties: Mapping[str, object] | None = None,
    request: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Build the body of POST /query.

    Args:
        sql: One SELECT statement; a missing `;` is added.
        properties: Streams properties for this query alone.
        request: Request properties; they say how the server is to answer.

    Raises:
        StatementError: `sql` is empty or holds more than one statement.
    """
    # No `sessionVariables`: without them the server leaves `${...}` inside literals and names alone.
    body: dict[str, object] = {"ksql": one_statement(sql), "streamsProperties": dict(properties or {})}
    if request:
        body["requestProperties"] = dict(request)
    return body

"""Parse the JSON objects of ksqlDB's answers strictly.

An unknown object is an error: skipping it could skip rows.
"""

from __future__ import annotations

from typing import Any, Never

import msgspec
from msgspec import Raw

from ksql_lake.errors import ProtocolError, without_secrets
from ksql_lake.ksqldb.wire.answer_events import ErrorMessage, Header

_NOT_KSQLDB = "This is not what a ksqlDB server sends; check KSQLDB_URL and any proxy in between."


class ErrorBody(msgspec.Struct):
    """ksqlDB's error object, in error responses and inside answers."""

    message: str | None = None
    error_code: int | None = None

    def event(self) -> ErrorMessage:
        """The error as an event of the response."""
        return ErrorMessage(self.error_code, self.message or "no message")


class HeaderBody(msgspec.Struct):
    """The header of a v1 response."""

    schema: str
    query_id: str | None = msgspec.field(default=None, name="queryId")

    def event(self) -> Header:
        """The header as an event of the response."""
        return Header(self.query_id, self.schema)


class RowBody(msgspec.Struct):
    """A row of a v1 response, its values left as they were sent."""

    columns: Raw
    tombstone: bool = False


class V1Line(msgspec.Struct):
    """One line of a v1 response; exactly one of its keys is set."""

    header: HeaderBody | None = None
    row: RowBody | None = None
    error: ErrorBody | None = msgspec.field(default=None, name="errorMessage")
    final: str | None = msgspec.field(default=None, name="finalMessage")
    continuation: dict[str, str] | None = msgspec.field(default=None, name="continuationToken")
    consistency: dict[str, str] | None = msgspec.field(default=None, name="consistencyToken")


class ServerInfoBody(msgspec.Struct, rename="camel"):
    """The inner object of the answer to GET /info."""

    version: str
    kafka_cluster_id: str | None = None
    ksql_service_id: str | None = None
    server_status: str | None = None


class InfoBody(msgspec.Struct):
    """The answer of GET /info."""

    info: ServerInfoBody = msgspec.field(name="KsqlServerInfo")


INFO = msgspec.json.Decoder(InfoBody)
ENTITIES = msgspec.json.Decoder(list[dict[str, Any]])
V1_LINE = msgspec.json.Decoder(V1Line)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of the decoders for text that is not the expected JSON, or nests too deeply."""


def foreign(text: bytes, *, row: int, why: str) -> Never:
    """Raise the error for bytes that no ksqlDB server sends; it shows their beginning.

    Raises:
        ProtocolError: Always.
    """
    start = " ".join(without_secrets(text[:4000].decode("utf-8", errors="replace")).split())
    raise ProtocolError(f"{why}: {start[:80]!r}", hint=_NOT_KSQLDB, row=row + 1)

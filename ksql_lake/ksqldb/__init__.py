"""The ksqlDB client: requests, statements and queries over HTTP."""

from __future__ import annotations

from ksql_lake.ksqldb.client import KsqlClient
from ksql_lake.ksqldb.inventory import (
    QueryInfo,
    SourceColumn,
    SourceDescription,
    SourceSummary,
    describe,
    list_queries,
    list_sources,
)
from ksql_lake.ksqldb.listening import Listening
from ksql_lake.ksqldb.positions import Position, query_positions
from ksql_lake.ksqldb.response import QueryResponse
from ksql_lake.ksqldb.sql_text import quote_identifier, quote_literal, source_name
from ksql_lake.ksqldb.version import ServerInfo, ServerVersion
from ksql_lake.ksqldb.wire.answer_events import Header, Outcome, QueryKind, RowBlock

__all__ = [
    "Header",
    "KsqlClient",
    "Listening",
    "Outcome",
    "Position",
    "QueryInfo",
    "QueryKind",
    "QueryResponse",
    "RowBlock",
    "ServerInfo",
    "ServerVersion",
    "SourceColumn",
    "SourceDescription",
    "SourceSummary",
    "describe",
    "list_queries",
    "list_sources",
    "query_positions",
    "quote_identifier",
    "quote_literal",
    "source_name",
]

"""The ksqlDB client: requests, statements and queries over HTTP."""

# Its names load on first use: a command that plans or lists waits for no HTTP client and no decoder.

from typing import TYPE_CHECKING

from ksql_lake.lazy_names import lazy_names

if TYPE_CHECKING:
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

_HOMES = {
    "Header": "ksql_lake.ksqldb.wire.answer_events",
    "KsqlClient": "ksql_lake.ksqldb.client",
    "Listening": "ksql_lake.ksqldb.listening",
    "Outcome": "ksql_lake.ksqldb.wire.answer_events",
    "Position": "ksql_lake.ksqldb.positions",
    "QueryInfo": "ksql_lake.ksqldb.inventory",
    "QueryKind": "ksql_lake.ksqldb.wire.answer_events",
    "QueryResponse": "ksql_lake.ksqldb.response",
    "RowBlock": "ksql_lake.ksqldb.wire.answer_events",
    "ServerInfo": "ksql_lake.ksqldb.version",
    "ServerVersion": "ksql_lake.ksqldb.version",
    "SourceColumn": "ksql_lake.ksqldb.inventory",
    "SourceDescription": "ksql_lake.ksqldb.inventory",
    "SourceSummary": "ksql_lake.ksqldb.inventory",
    "describe": "ksql_lake.ksqldb.inventory",
    "list_queries": "ksql_lake.ksqldb.inventory",
    "list_sources": "ksql_lake.ksqldb.inventory",
    "query_positions": "ksql_lake.ksqldb.positions",
    "quote_identifier": "ksql_lake.ksqldb.sql_text",
    "quote_literal": "ksql_lake.ksqldb.sql_text",
    "source_name": "ksql_lake.ksqldb.sql_text",
}

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

__getattr__ = lazy_names(__name__, _HOMES)

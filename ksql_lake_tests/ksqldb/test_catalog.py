"""Promises about what is learned of the server's sources and queries."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ksql_lake.errors import ConfigError, ProtocolError
from ksql_lake.ksqldb import KsqlClient, SourceColumn, describe, list_queries, list_sources
from ksql_lake.ksqldb.inventory import QueryInfo, SourceSummary, read_description, read_queries, read_sources
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer

STREAMS = (
    b'[{"@type":"streams","statementText":"LIST STREAMS;","streams":['
    b'{"type":"STREAM","name":"TRANSACTIONS","topic":"tx","keyFormat":"KAFKA","valueFormat":"JSON","isWindowed":false},'
    b'{"type":"STREAM","name":"KSQL_PROCESSING_LOG","topic":"log","keyFormat":"KAFKA","valueFormat":"JSON",'
    b'"isWindowed":false}],"warnings":[]}]'
)
TABLES = (
    b'[{"@type":"tables","statementText":"LIST TABLES;","tables":['
    b'{"type":"TABLE","name":"PER_HOUR","topic":"PER_HOUR","keyFormat":"KAFKA","valueFormat":"AVRO",'
    b'"isWindowed":true}],"warnings":[]}]'
)


def query(name: str, *sinks: str) -> dict[str, Any]:
    """A running query as DESCRIBE and SHOW QUERIES report it."""
    return {
        "queryString": f"CREATE ... AS SELECT ... -- {name}",
        "sinks": list(sinks),
        "sinkKafkaTopics": [f"topic_{sink}" for sink in sinks],
        "id": name,
        "statusCount": {"RUNNING": 1},
        "queryType": "PERSISTENT",
        "state": "RUNNING",
    }


def field(name: str, kind: str | dict[str, Any], mark: str | None = None) -> dict[str, Any]:
    """A column as DESCRIBE reports it."""
    schema = kind if isinstance(kind, dict) else {"type": kind, "fields": None, "memberSchema": None}
    return {"name": name, "schema": schema, **({"type": mark} if mark else {})}


def described(**changes: Any) -> list[dict[str, Any]]:
    """The answer to DESCRIBE of a table that CREATE TABLE ... AS made."""
    source = {
        "name": "USERS",
        "windowType": None,
        "readQueries": [],
        "writeQueries": [query("CTAS_USERS_5", "USERS")],
        "fields": [field("ID", "BIGINT", "KEY"), field("NAME", "STRING")],
        "type": "TABLE",
        "timestamp": "",
        "statistics": "",
        "errorStats": "",
        "extended": False,
        "keyFormat": "KAFKA",
        "valueFormat": "JSON",
        "topic": "users",
        "partitions": 4,
        "replication": 1,
        "statement": "CREATE TABLE USERS AS SELECT ...;",
        "queryOffsetSummaries": [],
        "sourceConstraints": [],
        **changes,
    }
    return [{"@type": "sourceDescription", "statementText": "DESCRIBE `USERS`;", "sourceDescription": source}]


PLAIN: dict[str, Any] = {
    "writeQueries": [],
    "statement": "CREATE TABLE USERS (ID BIGINT PRIMARY KEY, NAME STRING) WITH (KAFKA_TOPIC='users');",
}
"""What DESCRIBE says of a table that is a topic and no more."""


def test_sources_are_listed_streams_first_by_name(server: ScriptedServer, client: KsqlClient) -> None:
    """Two questions give everything there is."""
    server.script("/ksql", answer(STREAMS), answer(TABLES))
    assert list_sources(client) == [
        SourceSummary("KSQL_PROCESSING_LOG", "stream", "log", "KAFKA", "JSON", windowed=False),
        SourceSummary("TRANSACTIONS", "stream", "tx", "KAFKA", "JSON", windowed=False),
        SourceSummary("PER_HOUR", "table", "PER_HOUR", "KAFKA", "AVRO", windowed=True),
    ]
    assert [request.json["ksql"] for request in server.requests] == ["LIST STREAMS;", "LIST TABLES;"]


def test_lists_of_old_servers_are_read_too() -> None:
    """Before 0.13 there was one `format` and no key format."""
    old = [{"@type": "streams", "streams": [{"type": "STREAM", "name": "S", "topic": "s", "format": "JSON"}]}]
    assert read_sources(old) == [SourceSummary("S", "stream", "s", None, "JSON", windowed=False)]


def test_describe_asks_in_exact_case_and_reads_everything(server: ScriptedServer, client: KsqlClient) -> None:
    """Names are quoted as they are; columns, queries and origin come back."""
    entities = described(readQueries=[query("CSAS_OUT_7", "OUT")])
    server.script("/ksql", answer(msgspec.json.encode(entities)))
    found = describe(client, "users-v1")
    assert server.requests[0].json["ksql"] == "DESCRIBE `users-v1`;"
    assert (found.name, found.kind, found.topic, found.partitions) == ("USERS", "table", "users", 4)
    assert found.columns == (SourceColumn("ID", "BIGINT", key=True), SourceColumn("NAME", "STRING"))
    assert found.key_columns == ("ID",)
    assert (found.key_format, found.value_format, found.window_type) == ("KAFKA", "JSON", None)
    assert (found.statement, found.timestamp) == ("CREATE TABLE USERS AS SELECT ...;", "")
    assert [read.sinks for read in found.read_queries] == [("OUT",)]
    assert [write.id for write in found.write_queries] == ["CTAS_USERS_5"]
    assert (found.queryable, found.reason, found.fix) == (True, "", "")


def test_a_name_that_cannot_be_is_refused_before_it_is_asked(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """No statement is built from a name that is none."""
    with pytest.raises(ConfigError, match="cannot be the name of a ksqlDB stream or table"):
        describe(client, "USERS; DROP STREAM S")
    assert server.requests == []


def test_nested_types_are_told_as_far_as_describe_knows_them() -> None:
    """A MAP's key type is not known, and a header column is marked."""
    string = {"type": "STRING", "fields": None, "memberSchema": None}
    decimal = {**string, "type": "DECIMAL", "parameters": {"precision": 10, "scale": 2}}
    struct = {"type": "STRUCT", "fields": [field("P", decimal), field("T", "STRING")], "memberSchema": None}
    columns = [
        field("A", {"type": "ARRAY", "fields": None, "memberSchema": struct}),
        field("M", {"type": "MAP", "fields": None, "memberSchema": string}),
        field("H", "BYTES", "HEADER"),
        field("E", {"type": "STRUCT", "fields": [], "memberSchema": None}),
    ]
    found = read_description(described(fields=columns)).columns
    assert [column.type for column in found] == [
        "ARRAY<STRUCT<`P` DECIMAL(10, 2), `T` STRING>>",
        "MAP<?, STRING>",
        "BYTES",
        "STRUCT< >",
    ]
    assert [column.header for column in found] == [False, False, True, False]


@pytest.mark.parametrize(
    ("changes", "queryable"),
    [
        ({"type": "STREAM", "writeQueries": []}, True),
        ({}, True),
        ({"writeQueries": [], "readQueries": [query("CST_USERS_3")]}, True),
        ({**PLAIN, "readQueries": [query("CTAS_X_1", "X")]}, False),
        ({"writeQueries": []}, True),
        ({"windowType": "TUMBLING"}, True),
        ({"windowType": "SESSION"}, False),
        (PLAIN, False),
    ],
)
def test_what_a_pull_query_can_read_is_known_beforehand(changes: dict[str, Any], *, queryable: bool) -> None:
    """Streams, derived tables and source tables can be read; plain tables and session windows cannot.

    A derived table stays one while its query is gone: a server that shuts down shows it without for a while.
    """
    found = read_description(described(**changes))
    assert found.queryable is queryable
    assert bool(found.reason) is bool(found.fix) is not queryable


def test_what_cannot_be_read_comes_with_reason_and_fix() -> None:
    """The fix for a plain table is a statement; session windows have two ways out."""
    plain = read_description(described(name="users-v1", **PLAIN))
    assert plain.reason.startswith("users-v1 is a plain CREATE TABLE")
    assert plain.fix.endswith("\nCREATE TABLE `QUERYABLE_users-v1` AS SELECT * FROM `users-v1`;")
    session = read_description(described(windowType="SESSION"))
    assert session.reason == "USERS is a table with SESSION windows, which a pull query cannot scan"
    assert 'Set "extraction": "push" in the feed file' in session.fix
    assert "TUMBLING" in session.fix


def test_queries_are_listed_with_where_they_write(server: ScriptedServer, client: KsqlClient) -> None:
    """SHOW QUERIES gives what lineage needs."""
    entities = [{"@type": "queries", "queries": [query("CSAS_OUT_7", "OUT"), {"id": "transient_S_1"}]}]
    server.script("/ksql", answer(msgspec.json.encode(entities)))
    assert list_queries(client) == read_queries(entities)
    assert read_queries(entities) == [
        QueryInfo(
            "CSAS_OUT_7",
            "CREATE ... AS SELECT ... -- CSAS_OUT_7",
            ("OUT",),
            ("topic_OUT",),
            "PERSISTENT",
            "RUNNING",
        ),
        QueryInfo("transient_S_1", "", (), (), None, None),
    ]


@pytest.mark.parametrize(
    ("entities", "text"),
    [
        ([], "the server answered one statement with 0 entities"),
        ([{"@type": "warning_entity"}], "the server's answer of type 'warning_entity' is not understood"),
        (described(fields=[{"name": 7}]), "$.sourceDescription.fields[0].name"),
        (described(type="VIEW"), "a source of type 'VIEW', which is no stream or table"),
    ],
)
def test_answers_of_another_shape_are_refused_with_the_place(entities: list[dict[str, Any]], text: str) -> None:
    """An answer that is not understood is an error that says where, never a guess."""
    with pytest.raises(ProtocolError) as caught:
        read_description(entities)
    assert text in str(caught.value)

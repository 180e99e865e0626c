"""The endpoints beside queries: what a client learns about the server and its sources."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from ksql_lake_tests.devserver.conversation import PATIENCE, Client


def get(client: Client, path: str) -> requests.Response:
    """GET without following redirects."""
    return requests.get(client.url + path, timeout=PATIENCE, allow_redirects=False)


def test_info_names_version_and_status(client: Client) -> None:
    """/info has the shape clients probe first, and / leads there."""
    info = get(client, "/info").json()["KsqlServerInfo"]

    assert set(info) == {"version", "kafkaClusterId", "ksqlServiceId", "serverStatus"}
    assert info["serverStatus"] == "RUNNING"
    assert (get(client, "/").status_code, get(client, "/").headers["Location"]) == (307, "/info")


def test_health_and_probes_answer(client: Client) -> None:
    """/healthcheck and the probes have their documented bodies."""
    assert get(client, "/healthcheck").json()["isHealthy"] is True
    assert get(client, "/healthcheck").json()["serverState"] == "READY"
    assert get(client, "/chc/ready").json() == {}


def test_streams_and_tables_are_listed(client: Client) -> None:
    """LIST and SHOW give entities with names, topics and formats, several statements in one answer."""
    streams, tables = client.ksql("LIST STREAMS; SHOW TABLES;")

    assert (streams["@type"], tables["@type"]) == ("streams", "tables")
    assert {"type": "STREAM", "name": "TRANSACTION_STREAM", "topic": "transactions", "keyFormat": "KAFKA",
            "valueFormat": "JSON", "isWindowed": False} in streams["streams"]  # fmt: skip
    windowed = {table["name"]: table["isWindowed"] for table in tables["tables"]}
    assert windowed["DAILY_MERCHANT_VOLUME"] is True
    assert windowed["USER_TRANSACTION_SUMMARY"] is False
    assert streams["statementText"] == "LIST STREAMS;"


def test_extended_lists_and_describe_agree(client: Client) -> None:
    """LIST ... EXTENDED holds the same descriptions that DESCRIBE ... EXTENDED gives one by one."""
    (listed,) = client.ksql("LIST TABLES EXTENDED;")
    (described,) = client.ksql("DESCRIBE MERCHANTS EXTENDED;")

    assert listed["@type"] == "source_descriptions"
    assert described["@type"] == "sourceDescription"
    assert described["sourceDescription"] in listed["sourceDescriptions"]


def test_describe_tells_fields_with_nested_types(client: Client) -> None:
    """Fields carry key marks, struct fields, decimal parameters, and of a MAP only the value type."""
    (entity,) = client.ksql("DESCRIBE TRANSACTION_STREAM;")
    fields = {field["name"]: field for field in entity["sourceDescription"]["fields"]}

    assert fields["TRANSACTION_ID"]["type"] == "KEY"
    assert "type" not in fields["USER_ID"]
    assert fields["AMOUNT"]["schema"]["parameters"] == {"precision": 12, "scale": 2}
    merchant = {field["name"]: field["schema"]["type"] for field in fields["MERCHANT"]["schema"]["fields"]}
    assert merchant == {
        "ID": "INTEGER", "NAME": "STRING", "CATEGORY": "STRING", "COUNTRY": "STRING", "LOCATION": "STRUCT",
    }  # fmt: skip
    assert fields["ITEMS"]["schema"]["memberSchema"]["type"] == "STRUCT"
    assert fields["ATTRIBUTES"]["schema"] == {
        "type": "MAP", "fields": None, "memberSchema": {"type": "STRING", "fields": None, "memberSchema": None},
    }  # fmt: skip


def test_lineage_can_be_read_from_the_descriptions(client: Client) -> None:
    """TRANSACTION_STREAM feeds TRANSACTION_FLATTENED feeds USER_TRANSACTION_SUMMARY."""

    def description(name: str) -> dict[str, Any]:
        return dict(client.ksql(f"DESCRIBE {name};")[0]["sourceDescription"])

    def sinks(name: str) -> set[str]:
        return {sink for query in description(name)["readQueries"] for sink in query["sinks"]}

    assert sinks("TRANSACTION_STREAM") == {"TRANSACTION_FLATTENED"}
    assert sinks("TRANSACTION_FLATTENED") == {"USER_TRANSACTION_SUMMARY", "DAILY_MERCHANT_VOLUME"}
    (writer,) = description("USER_TRANSACTION_SUMMARY")["writeQueries"]
    assert writer["id"].startswith("CTAS_USER_TRANSACTION_SUMMARY_")
    (reader,) = description("MERCHANTS")["readQueries"]
    assert reader["id"].startswith("CST_MERCHANTS_")
    (listed,) = client.ksql("SHOW QUERIES;")
    assert {sink for query in listed["queries"] for sink in query["sinks"]} == {
        "TRANSACTION_FLATTENED", "USER_TRANSACTION_SUMMARY", "DAILY_MERCHANT_VOLUME",
    }  # fmt: skip
    (explained,) = client.ksql(f"EXPLAIN {writer['id']};")
    assert explained["queryDescription"]["sources"] == ["TRANSACTION_FLATTENED"]


def test_extended_descriptions_show_end_offsets(client: Client) -> None:
    """The writing query's offsets show where its source's topic ends."""
    (entity,) = client.ksql("DESCRIBE TRANSACTION_FLATTENED EXTENDED;")
    (group,) = entity["sourceDescription"]["queryOffsetSummaries"]
    (topic,) = group["topicSummaries"]

    assert topic["kafkaTopic"] == "transactions"
    assert sum(offset["logEndOffset"] for offset in topic["offsets"]) == 2000


@pytest.mark.parametrize(
    ("statement", "code", "message"),
    [
        ("DESCRIBE NOPE;", 40001, "Could not find STREAM/TABLE 'NOPE' in the Metastore"),
        ("SELECT * FROM MERCHANTS;", 40002, "The following statement types should be issued to the websocket"),
        ("PRINT 'transactions';", 40002, "The following statement types should be issued to the websocket"),
        ("LIST STREAMS", 40001, "line 1:13: Syntax Error\nmissing ';'"),
        ("SELEKT;", 40001, "line 1:1: Syntax Error\nUnknown statement 'SELEKT'\nDid you mean 'SELECT'?\n"),
        ("CREATE STREAM LOGIN_EVENTS (A INT) WITH (KAFKA_TOPIC='t');", 40001,
         "Cannot add stream 'LOGIN_EVENTS': A stream with the same name already exists"),
        ("CREATE TABLE T (A INT) WITH (KAFKA_TOPIC='t');", 40001, "Tables require a PRIMARY KEY."),
        ("CREATE STREAM T (ROWTIME INT) WITH (KAFKA_TOPIC='t');", 40001,
         "'ROWTIME' is a reserved column name."),
        ("CREATE STREAM T AS SELECT USER_ID, COUNT(*) FROM LOGIN_EVENTS GROUP BY USER_ID;", 40001,
         "Invalid result type. Your SELECT query produces a TABLE."),
        ("DROP STREAM TRANSACTION_STREAM;", 40001,
         "Cannot drop TRANSACTION_STREAM.\nThe following queries read"),
        ("DROP TABLE NOPE;", 40001, "Source NOPE does not exist."),
        ("TERMINATE CSAS_NOPE_1;", 40001, "Unknown queryId: CSAS_NOPE_1"),
        ("EXPLAIN CSAS_NOPE_1;", 40001, "Query with id:CSAS_NOPE_1 does not exist"),
        ("INSERT INTO USER_TRANSACTION_SUMMARY VALUES (1);", 40001,
         "INSERT INTO USER_TRANSACTION_SUMMARY, a table that a query writes, is not something"),
    ],
)  # fmt: skip
def test_statements_are_refused_in_ksqldbs_words(
    client: Client, statement: str, code: int, message: str
) -> None:
    """A refused statement is a statement_error with its code, its text, and the statement."""
    error = client.refused(statement)

    assert error["@type"] == "statement_error"
    assert error["error_code"] == code
    assert error["message"].startswith(message)
    assert error["statementText"] == statement


def test_entities_before_a_refused_statement_are_lost(client: Client) -> None:
    """The error of the second statement has a place for the first one's entity, and nothing in it."""
    error = client.refused("LIST STREAMS; DESCRIBE NOPE;")

    assert (error["statementText"], error["entities"]) == ("DESCRIBE NOPE;", [])


def test_unknown_close_query_is_a_bad_request(client: Client) -> None:
    """Closing a query that does not run is 400/40000."""
    answer = requests.post(f"{client.url}/close-query", json={"queryId": "nope"}, timeout=PATIENCE)

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
    assert answer.json()["message"] == "No query with id nope"


def test_inserts_stream_needs_http2(client: Client) -> None:
    """/inserts-stream says what the real one says over HTTP/1.1."""
    answer = requests.post(f"{client.url}/inserts-stream", data=b"", timeout=PATIENCE)

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40004)


def test_the_server_says_what_it_is(client: Client) -> None:
    """Its own route names it a stand-in and counts rows."""
    about = requests.get(f"{client.url}/devserver", timeout=PATIENCE).json()

    assert "not ksqlDB" in about["server"]
    assert about["rows"]["TRANSACTION_STREAM"] == 2000

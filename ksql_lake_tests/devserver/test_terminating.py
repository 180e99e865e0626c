"""TERMINATE and /close-query: what each of them ends, and what it does not."""

from __future__ import annotations

import json

import requests

from ksql_lake_tests.devserver.conversation import MIGRATE, PATIENCE, Client, lines_of, object_lines

EARLIEST: dict[str, object] = {"auto.offset.reset": "earliest"}


def test_a_push_query_can_be_terminated(client: Client) -> None:
    """The answer has an entity of its own, with the id in capitals, and the query ends as if complete."""
    with client.query("SELECT USER_ID FROM LOGIN_EVENTS EMIT CHANGES;", stream=True) as answer:
        lines = lines_of(answer)
        next(lines)
        (query_id,) = client.running()
        (entity,) = client.ksql(f"TERMINATE {query_id};")

        assert entity == {
            "@type": "terminate_query", "statementText": f"TERMINATE {query_id};", "queryId": query_id.upper(),
            "wasTerminated": True, "warnings": [],
        }  # fmt: skip
        assert list(lines) == ['{"finalMessage":"Query Completed"}]']


def test_a_pull_of_a_stream_cannot_be_terminated(client: Client) -> None:
    """TERMINATE is refused and the pull goes on to its end; /close-query ends it early, looking complete."""
    sql = "SELECT TRANSACTION_ID FROM TRANSACTION_STREAM;"
    client.faults({"kind": "slow", "rows_per_second": 2000})
    with client.query(sql, stream=True) as answer:
        lines = lines_of(answer)
        next(lines)
        (query_id,) = client.running()
        refused = client.refused(f"TERMINATE {query_id};")
        assert (refused["@type"], refused["error_code"]) == ("generic_error", 40000)
        assert refused["message"] == f"Failed to terminate query with query ID: '{query_id.upper()}'"
        client.faults()
        assert sum(line.startswith('{"row"') for line in lines) == 2000

    client.faults({"kind": "slow", "rows_per_second": 100})
    with client.query(sql, stream=True) as answer:
        lines = lines_of(answer)
        next(lines)
        (query_id,) = client.running()
        closed = requests.post(f"{client.url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)
        assert closed.status_code == 200
        received = list(lines)
        assert len(received) < 2000
        assert received[-1] == '{"finalMessage":"Query Completed"}]'


def test_a_table_whose_query_is_terminated_ends_in_an_error(client: Client) -> None:
    """Rows, then the error of a store that was closed; afterwards the table is not queryable."""
    client.ksql("CREATE TABLE SHORT_LIVED AS SELECT USER_ID, COUNT(*) AS N FROM LOGIN_EVENTS GROUP BY USER_ID;")
    (query_id,) = [
        query["id"] for query in client.ksql("DESCRIBE SHORT_LIVED;")[0]["sourceDescription"]["writeQueries"]
    ]
    try:
        client.faults({"kind": "slow", "rows_per_second": 20})
        with client.query("SELECT * FROM SHORT_LIVED;", properties={MIGRATE: False}, stream=True) as answer:
            lines = lines_of(answer)
            received = [next(lines), next(lines)]
            (entity,) = client.ksql(f"TERMINATE {query_id};")
            received += lines
        assert entity["commandId"] == f"terminate/{query_id}/execute"
        *rows, error = object_lines("\n".join(received) + "\n")
        assert rows[1].startswith('{"row"')
        assert "RocksDB iterator for store" in json.loads(error)["errorMessage"]["message"]
        assert "isn't queryable" in client.query("SELECT * FROM SHORT_LIVED;").json()["message"]
    finally:
        client.faults()
        client.ksql("DROP TABLE SHORT_LIVED;")

"""Silent failures of real servers, as switches: what a client of either writer sees."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import PATIENCE, Client
from ksql_lake_tests.devserver.nodes import LEGACY, pull, until

STREAM = "SELECT TRANSACTION_ID FROM TRANSACTION_STREAM;"
TABLE = "SELECT USER_ID FROM USER_TRANSACTION_SUMMARY;"
SETTINGS = {
    "ksql.streams.consumer.session.timeout.ms": 1_500_000,
    "ksql.streams.consumer.max.poll.interval.ms": 2_147_483_647,
}


def test_a_failure_is_lost_by_the_newer_writer_only(client: Client) -> None:
    """The rows so far and a clean end; the older writer ends with the error."""
    client.faults({"kind": "failure", "after_rows": 5})

    lost, told = pull(client.url, TABLE, legacy=False), pull(client.url, TABLE)

    assert (len(lost.rows), lost.well) == (5, True)
    assert (len(told.rows), told.error) == (5, "java.lang.RuntimeException: boom")


def test_a_stream_tells_its_failure_with_either_writer(client: Client) -> None:
    """No stream pull that failed ends with `Query Completed`."""
    client.faults({"kind": "failure", "after_rows": 5})

    for properties in ({}, LEGACY):
        text = client.query(STREAM, accept="application/json", properties=properties).text
        assert "boom" in text
        assert "Query Completed" not in text


def test_a_store_that_is_not_restored_is_empty_and_complete(client: Client) -> None:
    """The newer writer returns no row and ends without an error; the older one says that it cannot scan."""
    client.faults({"kind": "unrestored", "source": "USER_TRANSACTION_SUMMARY"})

    lost, told = pull(client.url, TABLE, legacy=False), pull(client.url, TABLE)

    assert (lost.rows, lost.well) == ([], True)
    assert told.error.endswith("Failed to scan materialized table")


def test_a_stranger_closes_queries_of_the_newer_writer(client: Client) -> None:
    """Its stream pulls end early with `Query Completed`; those of the older writer are whole."""
    client.faults({"kind": "stranger_close", "after_rows": 7})

    closed = client.query(STREAM).text
    whole = client.query(STREAM, properties=LEGACY).text

    assert closed.count('"row"') == 7
    assert closed.endswith('{"finalMessage":"Query Completed"}]')
    assert whole.count('"row"') > 7


def test_a_lost_session_repeats_rows_unless_the_request_asks_for_a_longer_one(client: Client) -> None:
    """Rows since the last commit come twice, and the answer ends with `Query Completed`."""
    client.faults({"kind": "session_lost", "after_rows": 50, "rows": 20})
    whole = len(set(map(tuple, client.rows(STREAM, **SETTINGS))))

    doubled = client.rows(STREAM)

    assert len(client.rows(STREAM, **SETTINGS)) == whole
    assert len(doubled) >= whole + 20
    assert len(set(map(tuple, doubled))) == whole
    bare = {"session.timeout.ms": 1_500_000, "max.poll.interval.ms": 2_147_483_647}
    assert len(client.rows(STREAM, **bare)) >= whole + 20


def test_a_stalled_query_is_silent_or_sends_newlines(client: Client) -> None:
    """The older writer goes on showing that it is alive; the newer one says nothing; neither ends."""
    client.faults({"kind": "stall", "after_rows": 1})

    with client.query(STREAM, properties=LEGACY, stream=True) as answer:
        tail = b""
        for piece in answer.iter_content(chunk_size=1):
            tail = (tail + piece)[-4:]
            if tail.endswith(b",\n\n\n"):
                break
    body = {"ksql": STREAM, "streamsProperties": {}}
    answer = requests.post(f"{client.url}/query", json=body, stream=True, timeout=2)
    with answer, pytest.raises(requests.ConnectionError):
        answer.content  # noqa: B018
    until(lambda: not client.running())


def test_the_wrong_context_keeps_queries_from_being_closed(client: Client) -> None:
    """/close-query is 500, and the query goes on."""
    client.faults({"kind": "wrong_context", "times": 1})
    with client.query("SELECT USER_ID FROM LOGIN_EVENTS EMIT CHANGES;", stream=True):
        (query_id,) = client.running()
        first = requests.post(f"{client.url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)
        assert (first.status_code, first.json()["message"]) == (500, "On wrong context or worker")
        assert client.running() == [query_id]
        again = requests.post(f"{client.url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)
        assert again.status_code == 200


def test_a_deleted_topic_is_503_or_nothing(client: Client) -> None:
    """Streams over it are refused; a table made from it is empty and complete."""
    client.faults({"kind": "topic_deleted"})

    refused = client.query(STREAM)
    assert (refused.status_code, refused.json()["message"]) == (503, "Internal Server Error")
    assert pull(client.url, TABLE, legacy=False).rows == []
    assert pull(client.url, TABLE, legacy=False).well


def test_a_reader_that_pauses_is_cut_off(client: Client) -> None:
    """A client pauses a table pull for longer than the server waits: its answer has no end."""
    client.ksql(
        "CREATE STREAM WIDE (K STRING KEY, V STRING) WITH (KAFKA_TOPIC='wide', PARTITIONS=1, FORMAT='JSON');"
        "CREATE TABLE WIDEST AS SELECT K, LATEST_BY_OFFSET(V) AS V FROM WIDE GROUP BY K;"
    )
    try:
        for part in range(4):
            rows = [{"K": f"{part}-{number}", "V": "x" * 20_000} for number in range(500)]
            client.append("WIDE", *rows)
        client.faults({"kind": "slow_reader", "pause_ms": 200})
        answer = pausing_reader(client.url, "SELECT K, V FROM WIDEST;")
        assert not answer.endswith(b"\r\n0\r\n\r\n")
        assert answer.count(b'"row"') < 2000
    finally:
        client.faults()
        client.ksql("DROP TABLE WIDEST; DROP STREAM WIDE;")


def pausing_reader(url: str, sql: str) -> bytes:
    """Everything a client gets that reads nothing for a second after it has asked."""
    place = urlsplit(url)
    body = b'{"ksql": "%s", "streamsProperties": {"ksql.endpoint.migrate.query": false}}' % sql.encode()
    with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as connection:
        head = f"POST /query HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(1)
        parts = []
        while part := connection.recv(1 << 20):
            parts.append(part)
            if parts[-1].endswith(b"\r\n0\r\n\r\n"):
                break
    return b"".join(parts)


@pytest.fixture
def stopping() -> Iterator[DevServer]:
    """A server that takes four seconds to stop."""
    phases = ["--phase", "stopping=4"]
    with DevServer.start(sample=True, arguments=["--sample-rows", "200", *phases]) as server:
        yield server


def test_a_shutdown_goes_through_its_phases(stopping: DevServer) -> None:
    """Pending, then not queryable and without its query, all the while "RUNNING"; the exit is clean."""
    client = Client(stopping.url)
    stopping.terminate()

    until(lambda: "PENDING_SHUTDOWN" in pull(stopping.url, TABLE).error)
    assert (
        requests.get(f"{stopping.url}/info", timeout=PATIENCE).json()["KsqlServerInfo"]["serverStatus"]
        == "RUNNING"
    )
    until(lambda: "isn't queryable" in pull(stopping.url, TABLE).error)
    described = client.ksql("DESCRIBE USER_TRANSACTION_SUMMARY;")[0]["sourceDescription"]
    assert described["writeQueries"] == []
    assert stopping.stop() == 0


@pytest.mark.parametrize("legacy", [False, True])
def test_a_shutdown_ends_table_pulls_of_the_newer_writer_like_whole_ones(legacy: bool) -> None:
    """Half the rows, `]` and the last chunk; the older writer's answer has no end."""
    arguments = ["--sample-rows", "2000", "--fault", "slow:rows_per_second=50"]
    with DevServer.start(sample=True, arguments=arguments) as server:
        properties = LEGACY if legacy else {}
        client = Client(server.url)
        with client.query(TABLE, accept="application/json", properties=properties, stream=True) as answer:
            received, pieces = b"", answer.iter_content(chunk_size=1)
            while received.count(b'"row"') < 10:
                received += next(pieces)
            server.terminate()
            try:
                for piece in pieces:
                    received += piece
                ended = True
            except requests.exceptions.ChunkedEncodingError:
                ended = False
        assert ended == (not legacy)
        assert received.endswith(b"]") == (not legacy)
        assert received.count(b'"row"') < 100
        assert server.stop() == 0


def test_a_start_goes_through_its_phases() -> None:
    """503, then no node is known to hold the partitions, then an empty complete answer, then the rows."""
    phases = ["--phase", "starting=2", "--phase", "locating=2", "--phase", "restoring=2"]
    with DevServer.start(sample=True, arguments=["--sample-rows", "200", *phases]) as server:
        seen: list[tuple[int, int, bool]] = []
        until(lambda: _note(seen, server.url) > 0)
        assert [item[0] for item in seen] == [503, 400, 200, 200]
        assert seen[2][1:] == (0, True)
        assert pull(server.url, TABLE).well


def _note(seen: list[tuple[int, int, bool]], url: str) -> int:
    answer = pull(url, TABLE, legacy=False)
    item = (answer.status, len(answer.rows), answer.well)
    if not seen or seen[-1] != item:
        seen.append(item)
    return len(answer.rows)


def test_a_consumer_that_stood_still_reads_rows_again() -> None:
    """A server paused for longer than the session doubles rows, unless the request asks for a longer one."""
    arguments = ["--sample-rows", "2000", "--session-seconds", "1", "--fault", "slow:rows_per_second=1500"]
    with DevServer.start(sample=True, arguments=arguments) as server:
        for properties, doubled in (({}, True), (SETTINGS, False)):
            answer = raw_rows_over_a_pause(server, {**LEGACY, **properties})
            assert answer.endswith('{"finalMessage":"Query Completed"}]\n')
            assert (answer.count('"row"') > 2000) == doubled


def raw_rows_over_a_pause(server: DevServer, properties: dict[str, object]) -> str:
    """A stream pull's body; the server is paused for two seconds in the middle of it."""
    with Client(server.url).query(STREAM, properties=properties, stream=True) as answer:
        pieces = answer.iter_content(chunk_size=None)
        received = [next(pieces), next(pieces)]
        server.pause()
        time.sleep(2)
        server.resume()
        received += list(pieces)
    return b"".join(received).decode()


def test_only_the_releases_that_do_so_lose_forwarded_rows() -> None:
    """Nothing is lost where there is one node, whatever the release."""
    with DevServer.start(
        sample=True, arguments=["--sample-rows", "200", "--server-version", "7.5.1"]
    ) as server:
        assert len(pull(server.url, TABLE).rows) == len(pull(server.url, TABLE, legacy=False).rows) == 10

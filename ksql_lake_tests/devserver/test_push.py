"""Push queries: rows as they arrive, tombstones, and every way they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import DELIMITED, PATIENCE, Client, lines_of

EARLIEST: dict[str, object] = {"auto.offset.reset": "earliest"}


@pytest.fixture
def source(client: Client) -> Iterator[str]:
    """A stream of its own with two rows."""
    client.ksql("CREATE STREAM TICKS (ID BIGINT KEY, V STRING) WITH (KAFKA_TOPIC='ticks', PARTITIONS=1);")
    client.append("TICKS", {"id": 1, "v": "a", "rowtime": 1000}, {"ID": 2, "V": None, "ROWTIME": 2000})
    yield "TICKS"
    client.ksql("DROP STREAM TICKS;")


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    """A plain table with two entries, one of them updated."""
    client.ksql(
        "CREATE TABLE PRICES (ITEM STRING PRIMARY KEY, CENTS INT) WITH (KAFKA_TOPIC='p', PARTITIONS=1);"
    )
    client.append("PRICES", {"ITEM": "a", "CENTS": 1}, {"ITEM": "b", "CENTS": 2}, {"ITEM": "a", "CENTS": 3})
    yield "PRICES"
    client.ksql("DROP TABLE PRICES;")


@contextmanager
def pushed(client: Client, sql: str, **arguments: object) -> Iterator[tuple[str, Iterator[str]]]:
    """A running push query: its id, and its further lines as they come."""
    with client.query(sql, stream=True, **arguments) as answer:  # type: ignore[arg-type]
        lines = lines_of(answer)
        head = json.loads(next(lines).lstrip("[").rstrip(","))
        yield head["header"]["queryId"] if "header" in head else head["queryId"], lines


def columns(line: str) -> list[object]:
    """The values of a row line."""
    values: list[object] = json.loads(line.rstrip(","))["row"]["columns"]
    return values


def test_a_push_query_follows_the_stream(client: Client, source: str) -> None:
    """From the earliest offset it sends what is there, then each row as it arrives, until it is closed."""
    select = f"SELECT ID, V, ROWTIME, ROWPARTITION, ROWOFFSET FROM {source} EMIT CHANGES;"
    with pushed(client, select, properties=EARLIEST) as (query_id, lines):
        assert columns(next(lines)) == [1, "a", 1000, 0, 0]
        assert columns(next(lines)) == [2, None, 2000, 0, 1]

        client.append(source, {"ID": 3, "V": "c", "ROWTIME": 3000})

        assert columns(next(lines)) == [3, "c", 3000, 0, 2]
        assert [
            query["id"] for query in client.ksql("SHOW QUERIES;")[0]["queries"] if query["queryType"] == "PUSH"
        ] == [query_id]
        closed = requests.post(f"{client.url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)
        assert (closed.status_code, closed.content) == (200, b"")
        assert list(lines) == ['{"finalMessage":"Query Completed"}]']
    assert query_id not in client.running()


def test_streams_start_at_the_latest_offset_by_default(client: Client, source: str) -> None:
    """Without auto.offset.reset only rows that arrive later come, here until the LIMIT."""
    with pushed(client, f"SELECT ID FROM {source} EMIT CHANGES LIMIT 2;") as (_, lines):
        client.append(source, {"ID": 10}, {"ID": 11}, {"ID": 12})

        assert list(lines) == [
            '{"row":{"columns":[10]}},', '{"row":{"columns":[11]}},', '{"finalMessage":"Limit Reached"}]',
        ]  # fmt: skip


def test_tables_send_changes_and_tombstones(client: Client, table: str) -> None:
    """A table's push query starts at its earliest change; a deleted key is a tombstone with the key alone."""
    with pushed(client, f"SELECT ITEM, CENTS, ROWTIME FROM {table} EMIT CHANGES LIMIT 4;") as (_, lines):
        assert [columns(next(lines))[:2] for _ in range(3)] == [["a", 1], ["b", 2], ["a", 3]]

        client.append(table, {"ITEM": "b", "@tombstone": True})

        assert next(lines) == '{"row":{"columns":["b",null,null],"tombstone":true}},'


def test_other_formats_leave_tombstones_out(client: Client, table: str) -> None:
    """The delimited form never shows a deleted key."""
    client.append(table, {"ITEM": "a", "@tombstone": True}, {"ITEM": "c", "CENTS": 4})

    answer = client.query(f"SELECT ITEM FROM {table} EMIT CHANGES LIMIT 4;", accept=DELIMITED)

    assert answer.text.split("\n")[1:] == ['["a"]', '["b"]', '["a"]', '["c"]', ""]


def test_a_condition_holds_for_every_row(client: Client, source: str) -> None:
    """WHERE on offsets gives a positioned read."""
    client.append(source, *({"ID": number} for number in range(20)))

    rows = client.rows(
        f"SELECT ROWOFFSET, ID FROM {source} WHERE ROWPARTITION = 0 AND ROWOFFSET > 5 EMIT CHANGES LIMIT 3;",
        **EARLIEST,
    )

    assert rows == [[6, 4], [7, 5], [8, 6]]


def test_the_legacy_writer_shows_that_it_is_alive(client: Client, source: str) -> None:
    """An idle push query of the legacy writer sends empty lines, and ends without a final message."""
    properties = {**EARLIEST, "ksql.endpoint.migrate.query": False}
    with pushed(client, f"SELECT ID FROM {source} EMIT CHANGES;", properties=properties) as (query_id, lines):
        assert [columns(next(lines)), columns(next(lines))] == [[1], [2]]
        assert next(lines) == ""
        client.ksql(f"TERMINATE {query_id};")
        assert [line for line in lines if line] == ["]"]


def test_a_client_that_leaves_ends_its_query(client: Client, source: str) -> None:
    """Closing the connection removes the query from the server."""
    with pushed(client, f"SELECT ID FROM {source} EMIT CHANGES;", properties=EARLIEST) as (query_id, lines):
        next(lines)
        assert query_id in client.running()

    # The server hears of it with the next turn of its loop; each question below is at least one turn.
    assert any(query_id not in client.running() for _ in range(1000))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT V, COUNT(*) FROM TICKS GROUP BY V EMIT CHANGES;",
        "SELECT ID FROM TICKS WINDOW TUMBLING (SIZE 1 DAY) EMIT CHANGES;",
        "SELECT ID FROM TICKS PARTITION BY V EMIT CHANGES;",
    ],
)
def test_what_push_queries_here_cannot_do_is_said(client: Client, source: str, sql: str) -> None:
    """Aggregating push queries are refused in words that say whose limit it is."""
    answer = client.query(sql.replace("TICKS", source))

    assert answer.status_code == 400
    assert "not something the ksql-lake devserver can do" in answer.json()["message"]


def test_derived_sources_follow_while_the_server_runs(client: Client, source: str) -> None:
    """A row appended to a stream shows in the stream and in the table made from it."""
    client.ksql(
        f"CREATE STREAM BIG AS SELECT ID, UCASE(V) AS V FROM {source} WHERE ID > 1;"
        "CREATE TABLE COUNTS AS SELECT V, COUNT(*) AS N FROM BIG GROUP BY V;"
    )
    try:
        with pushed(client, "SELECT V, N FROM COUNTS EMIT CHANGES LIMIT 4;") as (_, lines):
            client.append(source, {"ID": 5, "V": "x"})
            client.append(source, {"ID": 6, "V": "x"}, {"ID": 0, "V": "x"}, {"ID": 7, "V": "y"})
            client.append(source, {"ID": 8, "V": "y"})
            rows = [columns(line) for line in list(lines)[:-1]]

        assert rows == [["X", 1], ["X", 2], ["Y", 1], ["Y", 2]]
        assert client.rows("SELECT ID, V FROM BIG;") == [[2, None], [5, "X"], [6, "X"], [7, "Y"], [8, "Y"]]
        assert sorted(client.rows("SELECT * FROM COUNTS;")) == [["X", 2], ["Y", 2]]
    finally:
        client.ksql("DROP TABLE COUNTS; DROP STREAM BIG;")


def test_rows_can_come_by_insert(client: Client, source: str) -> None:
    """INSERT INTO ... VALUES adds a row, with ROWTIME if given."""
    assert client.ksql(f"INSERT INTO {source} (ROWTIME, ID, V) VALUES (7, 9, 'it''s');") == []

    assert client.rows(f"SELECT ROWTIME, ID, V FROM {source} WHERE ID = 9;") == [[7, 9, "it's"]]
    assert client.refused(f"INSERT INTO {source} (NOPE) VALUES (1);")["message"].endswith("TICKS: NOPE")
    assert "Got 1 values" in client.refused(f"INSERT INTO {source} VALUES (1);")["message"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ('{"ID": 1}\n{"NOPE": 1}', "line 2: TICKS has no column 'NOPE'"),
        ('{"ID": 1}\n{"ID": "x"}', "A row does not fit TICKS: "),
    ],
)
def test_lines_that_do_not_fit_add_nothing(client: Client, source: str, line: str, message: str) -> None:
    """A wrong line is named and none of the lines is added."""
    answer = requests.post(f"{client.url}/devserver/sources/{source}/rows", data=line, timeout=PATIENCE)

    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)
    assert len(client.rows(f"SELECT ID FROM {source};")) == 2


def offsets(client: Client, query_id: str) -> list[tuple[int, int, int]]:
    """Partition, end and committed offset of a running query, as SHOW QUERIES EXTENDED reports them."""
    described = client.ksql("SHOW QUERIES EXTENDED;")[0]["queryDescriptions"]
    return [
        (part["topicPartitionEntity"]["partition"], part["endOffset"], part["committedOffset"])
        for query in described
        if query["id"] == query_id
        for task in query["tasksMetadata"]
        for part in task["topicOffsets"]
    ]


def settled(client: Client, query_id: str, wanted: list[tuple[int, int, int]]) -> bool:
    """Whether the offsets become these; each question is at least one turn of the server's loop."""
    return any(offsets(client, query_id) == wanted for _ in range(1000))


def test_the_server_tells_how_far_a_push_query_has_read(client: Client) -> None:
    """The committed offset is one behind the last record when all are handed out; an empty partition is -1."""
    client.ksql("CREATE STREAM FAR (ID BIGINT) WITH (KAFKA_TOPIC='far', PARTITIONS=2);")
    try:
        client.append("FAR", *({"ID": number, "ROWPARTITION": 0} for number in range(3)))
        with pushed(client, "SELECT ID FROM FAR EMIT CHANGES;", properties=EARLIEST) as (query_id, lines):
            assert [columns(next(lines)) for _ in range(3)] == [[0], [1], [2]]
            assert settled(client, query_id, [(0, 2, 3), (1, -1, -1)])
            client.append("FAR", {"ID": 9, "ROWPARTITION": 1})
            assert columns(next(lines)) == [9]
            assert settled(client, query_id, [(0, 2, 3), (1, 0, 1)])
        client.faults({"kind": "hang", "after_rows": 2, "times": 1})
        with pushed(client, "SELECT ID FROM FAR EMIT CHANGES;", properties=EARLIEST) as (query_id, lines):
            assert [columns(next(lines)) for _ in range(2)] == [[0], [1]]
            assert offsets(client, query_id) == [(0, 2, -1), (1, 0, -1)]
        client.faults({"kind": "no_positions", "times": 1})
        with pushed(client, "SELECT ID FROM FAR EMIT CHANGES;", properties=EARLIEST) as (query_id, lines):
            next(lines)
            assert offsets(client, query_id) == []
    finally:
        client.ksql("DROP STREAM FAR;")


def test_a_replay_repeats_rows_in_their_order(client: Client, source: str) -> None:
    """As after a task has moved: rows from before come again, then everything goes on."""
    client.append(source, {"ID": 3}, {"ID": 4})
    client.faults({"kind": "replay", "after_rows": 3, "rows": 2, "times": 1})
    with pushed(client, f"SELECT ROWOFFSET FROM {source} EMIT CHANGES;", properties=EARLIEST) as (_, lines):
        assert [columns(next(lines))[0] for _ in range(7)] == [0, 1, 2, 3, 1, 2, 3]


def test_old_releases_know_no_offsets() -> None:
    """Before 0.23 the pseudo columns of Kafka's positions cannot be resolved, and streams answer no pulls."""
    with DevServer.start(arguments=["--server-version", "0.17.0"]) as server:
        old = Client(server.url)
        old.ksql("CREATE STREAM T (ID BIGINT) WITH (KAFKA_TOPIC='t', PARTITIONS=1);")
        old.append("T", {"ID": 1})
        refused = old.query("SELECT ID, ROWOFFSET FROM T EMIT CHANGES;")
        assert refused.json()["message"] == "Line: 1, Col: 12: SELECT column 'ROWOFFSET' cannot be resolved."
        assert "Pull queries on streams are disabled" in old.query("SELECT ID FROM T;").json()["message"]
        with pushed(old, "SELECT ID FROM T EMIT CHANGES;", properties=EARLIEST) as (query_id, lines):
            assert columns(next(lines)) == [1]
            assert offsets(old, query_id) == []

"""Faults: each breaks exactly what it says, where it says, as often as it says."""

from __future__ import annotations

import json
import threading

import pytest
import requests

from ksql_lake.devserver.faults import Fault, FaultBoard, parse_fault, parse_faults
from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import (
    PATIENCE,
    Client,
    RawAnswer,
    lines_of,
    object_lines,
    raw_query,
)

STREAM = "SELECT TRANSACTION_ID, AMOUNT FROM TRANSACTION_FLATTENED;"
TABLE = "SELECT MERCHANT_ID, NAME FROM MERCHANTS;"
SELECTS = [STREAM, TABLE]


def broken(client: Client, sql: str, **fault: object) -> RawAnswer:
    """One answer that suffers one fault once."""
    client.faults({"times": 1, **fault})
    answer = raw_query(client.url, sql)
    assert raw_query(client.url, sql).ended
    return answer


def whole_rows(answer: RawAnswer) -> int:
    """How many whole row objects arrived."""
    lines = object_lines(b"".join(answer.chunks).decode())
    return sum(line.startswith('{"row"') and line.endswith("]}}") for line in lines)


@pytest.mark.parametrize("sql", SELECTS)
@pytest.mark.parametrize("after_rows", [0, 1, 100])
def test_cut_row_stops_in_the_middle_of_a_row(client: Client, sql: str, after_rows: int) -> None:
    """The rows before arrive, half of the next one too, and TCP closes without the last chunk."""
    answer = broken(client, sql, kind="cut_row", after_rows=after_rows)

    assert whole_rows(answer) == after_rows
    assert not answer.ended
    assert not answer.reset
    last = answer.body[answer.body.rindex(b'{"row"') :]
    assert b"]}}" not in last


@pytest.mark.parametrize("sql", SELECTS)
def test_cut_chunk_stops_between_two_chunks(client: Client, sql: str) -> None:
    """Everything that arrived is whole, only the end is missing."""
    answer = broken(client, sql, kind="cut_chunk", after_rows=7)

    assert whole_rows(answer) == 7
    assert not answer.ended
    assert b"".join(answer.chunks).rstrip(b",\n").endswith(b"]}}")


def test_reset_is_a_tcp_reset_or_a_short_body(client: Client) -> None:
    """The connection breaks without the end of the body."""
    answer = broken(client, STREAM, kind="reset", after_rows=7)

    assert not answer.ended
    assert whole_rows(answer) <= 7


@pytest.mark.parametrize(("sql", "end"), [(STREAM, "]"), (TABLE, "]}}]")])
def test_no_final_ends_cleanly_without_the_final_message(client: Client, sql: str, end: str) -> None:
    """HTTP ends as it should and `]` comes, but nothing says that the rows are all."""
    answer = broken(client, sql, kind="no_final", after_rows=3)

    assert answer.ended
    assert whole_rows(answer) == 3
    assert b"finalMessage" not in answer.body
    assert b"".join(answer.chunks).decode().split("\n")[-1].endswith(end)


def test_no_bracket_ends_http_and_nothing_else(client: Client) -> None:
    """A clean chunked end proves nothing: after it neither `]` nor a message came."""
    answer = broken(client, TABLE, kind="no_bracket")

    assert answer.ended
    assert b"".join(answer.chunks).endswith(b"]}}")


@pytest.mark.parametrize(("sql", "end"), [(STREAM, "},\n]"), (TABLE, "}]")])
def test_error_comes_inside_the_answer(client: Client, sql: str, end: str) -> None:
    """After the rows an errorMessage with the given text and code, framed as the real writers do."""
    answer = broken(client, sql, kind="error", after_rows=2, message="java.io.IOException: no", code=42900)

    body = b"".join(answer.chunks).decode()
    error = json.loads(object_lines(body)[-1])
    assert error["errorMessage"] == {
        "@type": "generic_error", "error_code": 42900, "message": "java.io.IOException: no",
    }  # fmt: skip
    assert whole_rows(answer) == 2
    assert body.endswith(end)
    assert answer.ended


@pytest.mark.parametrize(("sql", "rows"), [(STREAM, 0), (TABLE, 0), (TABLE, 20)])
def test_short_looks_complete(client: Client, sql: str, rows: int) -> None:
    """Fewer rows, and every sign of completeness."""
    answer = broken(client, sql, kind="short", after_rows=rows)

    assert answer.ended
    assert whole_rows(answer) == rows
    assert (b"Query Completed" in answer.body) == (sql == STREAM)


def test_duplicate_repeats_the_last_rows(client: Client) -> None:
    """The last rows come twice, and the answer is complete all the same."""
    client.faults({"kind": "duplicate", "rows": 2, "times": 1})
    rows = client.rows(STREAM)

    assert len(rows) == 2002
    assert rows[-4:-2] == rows[-2:]


def test_overshoot_sends_what_arrived_meanwhile(client: Client) -> None:
    """Rows that arrive during a stream pull come at its end, one per partition, though it began before them."""
    client.ksql("CREATE STREAM LATE (ID INT) WITH (KAFKA_TOPIC='late', PARTITIONS=2);")
    try:
        client.append("LATE", *({"ID": number} for number in range(10)))
        client.faults({"kind": "overshoot"}, {"kind": "slow", "rows_per_second": 20})
        with client.query("SELECT ID FROM LATE;", stream=True) as answer:
            lines = lines_of(answer)
            received = [next(lines), next(lines)]
            client.append("LATE", *({"ID": number} for number in range(100, 106)))
            received += lines
        client.faults()

        rows = [json.loads(line.rstrip(","))["row"]["columns"][0] for line in received[1:-1]]
        assert rows[:10] == list(range(10))
        assert sorted(rows[10:]) == [100, 101]
        assert len(client.rows("SELECT ID FROM LATE;")) == 16
    finally:
        client.ksql("DROP STREAM LATE;")


def test_hang_keeps_silent_until_the_client_leaves(client: Client) -> None:
    """The rows before arrive, then nothing; the query stays until its client is gone."""
    client.faults({"kind": "hang", "after_rows": 4, "times": 1})
    with client.query(TABLE, stream=True) as answer:
        lines = lines_of(answer)
        received = [next(lines) for _ in range(4)]
        (query_id,) = client.running()

    assert received[-1] == '{"row":{"columns":[3,"Merchant 003"]}},'
    assert any(query_id not in client.running() for _ in range(1000))


def test_endless_never_runs_out_of_rows(client: Client) -> None:
    """A push query goes on and on with the rows there are."""
    client.faults({"kind": "endless", "source": "LOGIN_EVENTS", "times": 1})
    rows = client.rows(
        "SELECT SESSION_ID FROM LOGIN_EVENTS EMIT CHANGES LIMIT 2000;", **{"auto.offset.reset": "earliest"}
    )

    assert len(rows) == 2000
    assert rows[600:1200] == rows[:600]


def test_requests_can_be_refused_for_a_while(client: Client) -> None:
    """503 for the first requests of any kind but probes, 429 for queries only, each with ksqlDB's body."""
    client.faults({"kind": "not_ready", "times": 2})
    assert requests.get(f"{client.url}/chc/ready", timeout=PATIENCE).status_code == 200
    info = requests.get(f"{client.url}/info", timeout=PATIENCE)
    assert (info.status_code, client.query(TABLE).status_code, client.query(TABLE).status_code) == (
        503,
        503,
        200,
    )
    assert info.json() == {
        "@type": "generic_error", "error_code": 50302, "message": "KSQL is not yet ready to serve requests.",
    }  # fmt: skip

    client.faults({"kind": "busy", "times": 1})
    assert requests.get(f"{client.url}/info", timeout=PATIENCE).status_code == 200
    busy = client.query(TABLE)
    assert (busy.status_code, busy.json()["error_code"]) == (429, 42900)
    assert client.query(TABLE).status_code == 200


def test_drop_closes_without_an_answer(client: Client) -> None:
    """The connection closes before any byte of an answer."""
    client.faults({"kind": "drop", "times": 1})

    with pytest.raises(requests.ConnectionError):
        client.query(TABLE)
    assert client.query(TABLE).status_code == 200


def test_a_fault_can_be_for_one_source(client: Client) -> None:
    """Queries of other sources are spared, and do not use the fault up."""
    client.faults({"kind": "error", "source": "MERCHANTS", "times": 1})

    assert "errorMessage" not in client.query(STREAM).text
    assert "errorMessage" in client.query(TABLE).text
    assert "errorMessage" not in client.query(TABLE).text


def test_switches_show_what_is_left(client: Client) -> None:
    """GET returns which faults are on and how often they will still strike."""
    client.faults({"kind": "error", "times": 2, "after_rows": 3}, {"kind": "hang", "source": "NOPE"})
    client.query(TABLE)

    left = requests.get(f"{client.url}/devserver/faults", timeout=PATIENCE).json()
    assert left == [{"kind": "error", "times": 1, "after_rows": 3}, {"kind": "hang", "source": "NOPE"}]


def test_unknown_faults_are_refused(client: Client) -> None:
    """A misspelt kind or key changes nothing and is named."""
    for fault in ({"kind": "cut"}, {"kind": "hang", "rowz": 1}):
        answer = requests.put(f"{client.url}/devserver/faults", json=[fault], timeout=PATIENCE)
        assert answer.status_code == 400
        assert "Not a list of faults" in answer.json()["message"]


def test_faults_on_the_command_line() -> None:
    """`kind:key=value,...` is the same switch as the JSON object."""
    text = "cut_row:after_rows=100,times=1,source=S"

    assert parse_fault(text) == Fault(kind="cut_row", after_rows=100, times=1, source="S")
    assert parse_faults(b'[{"kind": "slow", "rows_per_second": 2.5}]') == (
        parse_fault("slow:rows_per_second=2.5"),
    )
    with pytest.raises(RefusedError, match="'cut_now' is not a fault"):
        parse_fault("cut_now")


def test_a_fault_strikes_exactly_as_often_as_it_says() -> None:
    """Many queries at once share one fault's `times` without striking too often."""
    board = FaultBoard((Fault(kind="error", times=50),))
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(len(board.take_for_query("S")) for _ in range(100)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == 50
    assert board.current() == []


def test_faults_hold_when_every_row_is_a_chunk() -> None:
    """With one chunk per row the cut row is also a cut chunk, and rows before it are whole chunks."""
    with DevServer.start(sample=True, arguments=["--sample-rows", "200", "--row-chunks"]) as server:
        client = Client(server.url)
        plain = raw_query(server.url, STREAM)
        rows = [chunk for chunk in plain.chunks if chunk.startswith(b'{"row"')]
        assert plain.ended
        assert len(rows) == 200
        assert all(chunk.endswith(b"]}},\n") for chunk in rows)

        cut = broken(client, STREAM, kind="cut_row", after_rows=5)
        assert len([chunk for chunk in cut.chunks if chunk.startswith(b'{"row"')]) == 5
        assert not cut.ended
        assert b'{"row"' in cut.body[cut.body.rindex(b"\r\n") :] or not cut.body.endswith(b"\r\n")


def test_the_server_remembers_what_it_was_asked(client: Client) -> None:
    """Every query stands in the log with its statement as sent, its rows, and how it ended."""
    before = len(client.asked())
    client.rows(TABLE)
    client.rows("SELECT USER_ID FROM LOGIN_EVENTS LIMIT 7;")
    broken(client, STREAM, kind="cut_row", after_rows=3)
    client.query("SELECT nope FROM MERCHANTS;")

    asked = [
        (query["statement"], query["kind"], query["rows"], query["state"]) for query in client.asked()[before:]
    ]
    assert asked == [
        (TABLE, "pull_table", 500, "completed"),
        ("SELECT USER_ID FROM LOGIN_EVENTS LIMIT 7;", "pull_stream", 7, "completed"),
        (STREAM, "pull_stream", 3, "cut_row"),
        (STREAM, "pull_stream", 2000, "completed"),
    ]

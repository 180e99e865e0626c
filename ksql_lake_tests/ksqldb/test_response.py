"""Promises of a running query: every row once, and an end that is proven or an error."""

from __future__ import annotations

import threading

import pytest

from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlError,
    NotQueryableError,
    ProtocolError,
    QueryFailedError,
    ServerBusyError,
    ServerUnavailableError,
)
from ksql_lake.ksqldb import KsqlClient, Outcome, QueryKind, RowBlock
from ksql_lake.ksqldb.wire.answer_events import FinalMessage, Tombstone
from ksql_lake_tests.fakes.scripted_server import (
    RESET,
    SILENCE,
    Script,
    ScriptedServer,
    Wait,
    answer,
    chunk,
    chunked,
    head,
)
from ksql_lake_tests.ksqldb.conftest import (
    BOOM,
    DONE,
    HEADER,
    OLD,
    ROW,
    SAFE,
    MakeClient,
    idle_limit,
    info,
)
from ksql_lake_tests.ksqldb.framing import Case, framing_cases

SQL = "SELECT `A` FROM `S`"
LIMIT = b'{"finalMessage":"Limit Reached"}]'
CUT_ROW = b'{"row":{"colu'


def rows(client: KsqlClient, kind: QueryKind = QueryKind.PULL_STREAM) -> int:
    """Read one query to its end and count."""
    with client.query(SQL, kind=kind) as response:
        return sum(block.count for block in response)


def closings(server: ScriptedServer) -> list[object]:
    """The queries that were closed on the server."""
    return [request.json["queryId"] for request in server.asked("/close-query")]


def test_a_complete_answer_gives_its_rows_and_facts(server: ScriptedServer, client: KsqlClient) -> None:
    """Header, rows and counts are there, the request is what /query reads, and nothing is closed behind it."""
    body = [HEADER, *[ROW] * 5, DONE]
    server.script("/query", chunked(*body))
    with client.query(SQL, kind=QueryKind.PULL_STREAM, properties={"p": True}) as response:
        assert (response.header.schema_text, response.query_id) == ("`A` BIGINT", "transient_S_1")
        assert response.outcome is None
        blocks = list(response)
        assert list(response) == []
    assert b",\n".join(block.data for block in blocks) == b",\n".join([ROW[:-2]] * 5)
    assert sum(block.count for block in blocks) == 5
    assert response.outcome is Outcome.COMPLETE
    assert response.bytes_read == sum(map(len, body))
    assert response.rows_read == 5
    asked, request = server.requests
    assert asked.path == "/info"
    assert request.json == {"ksql": f"{SQL};", "streamsProperties": {**SAFE, "p": True}}
    assert request.headers["accept"] == "application/vnd.ksql.v1+json"


@pytest.mark.parametrize(
    "case",
    framing_cases(),
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_only_proven_answers_end_normally(
    server: ScriptedServer, client: KsqlClient, case: Case, size: int
) -> None:
    """Over the wire, in chunks of any size, each framing case ends normally exactly when it is complete."""
    server.script("/info", answer(info(case.version)))
    server.script("/query", chunked(*(case.body[at : at + size] for at in range(0, len(case.body), size))))
    seen = 0
    sql = f"{SQL} LIMIT 9" if case.outcome is Outcome.LIMIT else SQL
    try:
        with client.query(sql, kind=case.kind) as response:
            for event in response.events():
                seen += event.count if isinstance(event, RowBlock) else isinstance(event, Tombstone)
        ended = True
    except QueryFailedError:
        ended = False
        assert case.outcome is Outcome.ERROR
    except IncompleteResponseError:
        ended = False
        assert case.outcome in (Outcome.INCOMPLETE, Outcome.CLOSED, Outcome.OPEN)
    assert ended is case.outcome.proven
    assert seen == case.rows


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (chunked(HEADER, ROW, ROW, end=False), IncompleteResponseError, "row 3: the answer was cut off"),
        (
            chunked(HEADER, ROW, ROW),
            IncompleteResponseError,
            "row 3: the answer ended after 2 rows without the mark",
        ),
        (
            chunked(HEADER, ROW, ROW, b"]"),
            IncompleteResponseError,
            "row 3: the answer ended after 2 rows without",
        ),
        (
            chunked(HEADER, ROW, ROW, CUT_ROW),
            IncompleteResponseError,
            "row 3: the answer ended after 2 rows without",
        ),
        (
            Script([head(Transfer_Encoding="chunked"), chunk(HEADER + ROW + ROW), b"ff\r\n" + CUT_ROW]),
            IncompleteResponseError,
            "row 3: the answer was cut off",
        ),
        (
            Script([head(Transfer_Encoding="chunked"), chunk(HEADER + ROW + ROW), b"oops\r\n"]),
            IncompleteResponseError,
            "row 3: the answer's HTTP framing is damaged",
        ),
        (
            Script([head(Content_Length="500"), HEADER + ROW + ROW]),
            IncompleteResponseError,
            "row 3: the answer was cut off",
        ),
        (
            chunked(HEADER, ROW + ROW, SILENCE),
            ServerUnavailableError,
            "row 3: the server fell silent for 0.5 s",
        ),
        (
            chunked(HEADER, ROW + ROW + CUT_ROW, SILENCE),
            ServerUnavailableError,
            "row 3: the server fell silent for 0.5 s",
        ),
        (
            chunked(HEADER, ROW, ROW, BOOM),
            QueryFailedError,
            "row 3: the server gave up in the middle of its answer",
        ),
        (chunked(HEADER, ROW, ROW, BOOM, end=False), QueryFailedError, "RuntimeException: boom"),
        (
            chunked(HEADER, ROW, ROW, BOOM.replace(b"50000", b"42900")),
            ServerBusyError,
            "row 3: the server is at one of its limits: RuntimeException: boom",
        ),
        (
            chunked(HEADER, ROW, ROW, BOOM.replace(b"boom", b"Table scan unsupported on session tables")),
            NotQueryableError,
            "a table with SESSION windows cannot be read by a pull query\nSet ",
        ),
        (
            chunked(HEADER, ROW, ROW, b"<b>proxy</b>\n"),
            ProtocolError,
            "row 3: a line of the response is not a ksqlDB",
        ),
    ],
)
def test_every_broken_answer_gives_its_rows_and_then_its_own_error(
    server: ScriptedServer, make_client: MakeClient, script: Script, kind: type[KsqlError], text: str
) -> None:
    """Cut, silent, failing and foreign answers raise errors of their own, with server, query and row."""
    server.script("/query", script)
    client = make_client(server.url, read_timeout=idle_limit(script))
    got: list[RowBlock] = []
    with client.query(SQL, kind=QueryKind.PULL_STREAM) as response:
        with pytest.raises(kind) as caught:
            got.extend(response)
        with pytest.raises(kind):  # trying again gives the same error, not an end
            next(iter(response))
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"server {server.url}, query transient_S_1, row 3: ")
    assert caught.value.hint
    assert sum(block.count for block in got) == 2


def test_rows_that_came_before_a_break_are_given_out_before_the_error(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """A reset does not swallow what arrived before it, nor the server's own reason."""
    arrived = threading.Event()
    server.script("/query", chunked(HEADER, ROW, Wait(arrived), RESET))
    with make_client(server.url).query(SQL, kind=QueryKind.PUSH) as response:
        blocks = iter(response)
        assert next(blocks).count == 1
        arrived.set()
        with pytest.raises(
            IncompleteResponseError, match="the connection broke in the middle of the answer: connection"
        ):
            next(blocks)


def test_a_final_message_before_a_broken_connection_is_proof_enough(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """The server's word that the query completed counts even if the connection dies right behind it."""
    server.script("/query", chunked(HEADER, ROW, DONE, end=False))
    assert rows(client) == 1
    assert closings(server) == []


def test_a_table_pull_needs_the_clean_end_of_the_body_too(server: ScriptedServer, client: KsqlClient) -> None:
    """The closing bracket of a table pull proves nothing if the connection broke."""
    server.script("/query", chunked(HEADER, ROW[:-2] + b"]", end=False), chunked(HEADER, ROW[:-2] + b"]"))
    with pytest.raises(IncompleteResponseError):
        rows(client, QueryKind.PULL_TABLE)
    assert rows(client, QueryKind.PULL_TABLE) == 1


@pytest.mark.parametrize(("version", "complete"), [("0.24.0", True), ("7.1.0", True), ("0.25.1", False)])
def test_an_end_without_final_message_is_judged_by_the_servers_version(
    server: ScriptedServer, client: KsqlClient, version: str, *, complete: bool
) -> None:
    """An end without a last word is right from releases that have none, and from no other."""
    server.script("/info", answer(info(version)))
    server.script("/query", chunked(HEADER, ROW, DONE), chunked(HEADER, ROW, b"]"))
    assert rows(client) == 1
    if complete:
        assert rows(client) == 1
    else:
        with pytest.raises(IncompleteResponseError):
            rows(client)
    assert len(server.asked("/info")) == 1


@pytest.mark.parametrize("kind", [QueryKind.PULL_STREAM, QueryKind.PUSH])
def test_leaving_early_closes_connection_and_query(
    server: ScriptedServer, client: KsqlClient, kind: QueryKind
) -> None:
    """Where a query has to be ended by its name, one that is walked away from is, once."""
    server.script("/info", answer(info(OLD)))
    server.script("/close-query", answer(b""))
    server.script("/query", chunked(HEADER, ROW * 3000, SILENCE))
    with client.query(SQL, kind=kind) as response:
        for _ in response:
            break
    response.close()
    assert closings(server) == ["transient_S_1"]
    assert server.asked("/query")[0].client_left.wait(10)
    with pytest.raises(IncompleteResponseError, match="the response was closed before its end"):
        list(response)


@pytest.mark.parametrize("kind", list(QueryKind))
def test_leaving_a_query_of_the_older_writer_hangs_up_and_asks_nothing(
    server: ScriptedServer, client: KsqlClient, kind: QueryKind
) -> None:
    """Such a query ends with its client, and cannot be ended by its name: the connection is dropped."""
    server.script("/query", chunked(HEADER, ROW * 3000, SILENCE))
    with client.query(SQL, kind=kind) as response:
        assert response.sent.legacy
        for _ in response:
            break
    assert server.asked("/query")[0].client_left.wait(10)
    assert [request.path for request in server.requests] == ["/info", "/query"]
    with pytest.raises(IncompleteResponseError, match="the response was closed before its end"):
        list(response)


def test_leaving_a_table_pull_early_only_closes_the_connection(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """A table scan has no handle on the server, so none is asked for."""
    server.script("/query", chunked(HEADER, ROW, SILENCE))
    with client.query(SQL, kind=QueryKind.PULL_TABLE):
        pass
    assert closings(server) == []
    assert server.asked("/query")[0].client_left.wait(10)


@pytest.mark.parametrize(
    "closing",
    [answer(b'{"error_code":40000,"message":"No query with id"}', 400), answer(b"", 503), Script([RESET])],
)
def test_a_failing_close_never_hides_the_first_error(
    server: ScriptedServer, make_client: MakeClient, closing: Script
) -> None:
    """Silence is still reported as silence when the query cannot be closed either."""
    server.script("/info", answer(info(OLD)))
    server.script("/close-query", closing)
    server.script("/query", chunked(HEADER, ROW, SILENCE))
    with pytest.raises(ServerUnavailableError, match="the server fell silent for"):
        rows(make_client(server.url, read_timeout=0.5))
    assert closings(server) == ["transient_S_1"]


def test_an_error_of_the_reader_closes_the_query_and_stays_the_error(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Whoever reads the rows may fail; the query is ended and the failure is what is seen."""
    server.script("/info", answer(info(OLD)))
    server.script("/close-query", Script([RESET]))
    server.script("/query", chunked(HEADER, ROW, SILENCE))

    def use_badly() -> None:
        with client.query(SQL, kind=QueryKind.PUSH) as response:
            for block in response:
                _ = block.count // 0

    with pytest.raises(ZeroDivisionError):
        use_badly()
    assert closings(server) == ["transient_S_1"]


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (
            chunked(BOOM.join([b"[", b""])),
            QueryFailedError,
            "row 1: the server gave up in the middle of its answer",
        ),
        (chunked(), IncompleteResponseError, "row 1: the answer ended after 0 rows without the mark"),
        (chunked(b"[]"), IncompleteResponseError, "row 1: the answer ended after 0 rows without the mark"),
        (chunked(b"[", end=False), IncompleteResponseError, "row 1: the answer was cut off"),
        (
            answer(b"<html>Sign in</html>"),
            ProtocolError,
            "does not begin as a ksqlDB query response: '<html>Sign in",
        ),
        (
            chunked(b"[" + DONE + b"\n"),
            ProtocolError,
            "the response has no header\nIs the server older than 0.6?",
        ),
        (Script([head(Transfer_Encoding="chunked"), SILENCE]), ServerUnavailableError, "fell silent for 0.5 s"),
    ],
)
def test_an_answer_that_fails_before_its_header_fails_the_query_call(
    server: ScriptedServer, make_client: MakeClient, script: Script, kind: type[KsqlError], text: str
) -> None:
    """No response is handed out before its header is there, and the connection is not left open."""
    server.script("/query", script)
    with pytest.raises(kind) as caught:
        make_client(server.url, read_timeout=idle_limit(script)).query(SQL, kind=QueryKind.PULL_STREAM)
    assert text in str(caught.value)


def test_a_push_query_gives_rows_while_the_query_runs(server: ScriptedServer, client: KsqlClient) -> None:
    """A push query's rows are not held back until more of them come."""
    seen = threading.Event()
    server.script("/query", chunked(HEADER, ROW, Wait(seen), ROW, LIMIT))
    with client.query(f"{SQL} EMIT CHANGES LIMIT 2", kind=QueryKind.PUSH) as response:
        blocks = iter(response)
        assert next(blocks).first_row == 0
        seen.set()
        assert [block.first_row for block in blocks] == [1]
    assert response.outcome is Outcome.LIMIT
    assert closings(server) == []


def test_a_push_query_that_the_server_closes_is_not_complete(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """TERMINATE and a server's shutdown look like completion and prove nothing."""
    server.script("/query", chunked(HEADER, ROW, DONE))
    with pytest.raises(IncompleteResponseError, match="the server closed the query after 1 row"):
        rows(client, QueryKind.PUSH)


@pytest.mark.parametrize("kind", [QueryKind.PULL_STREAM, QueryKind.PUSH])
def test_a_limit_that_was_not_asked_for_proves_nothing(
    server: ScriptedServer, client: KsqlClient, kind: QueryKind
) -> None:
    """A query without LIMIT that ends in "Limit Reached" is not whole; one with a LIMIT is."""
    server.script("/query", chunked(HEADER, ROW, LIMIT))
    with pytest.raises(IncompleteResponseError) as caught:
        rows(client, kind)
    assert "ended after 1 row with 'Limit Reached', although no LIMIT was asked for" in str(caught.value)
    with client.query(f"{SQL} LIMIT 1;", kind=kind) as response:
        assert sum(block.count for block in response) == 1
    assert response.outcome is Outcome.LIMIT


def test_deleted_keys_are_events_and_never_dropped_in_silence(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Iterating over rows refuses a tombstone; `events` gives it with its number."""
    tombstone = b'{"row":{"columns":[1],"tombstone":true}},\n'
    server.script("/query", chunked(HEADER, ROW, tombstone, LIMIT))
    with pytest.raises(ProtocolError, match="the answer holds deleted keys"):
        rows(client, QueryKind.PUSH)
    with client.query(f"{SQL} LIMIT 2", kind=QueryKind.PUSH) as response:
        events = list(response.events())
    assert events == [
        RowBlock(ROW[:-2], 1, 0),
        Tombstone(b'{"row":{"columns":[1]}}', 1),
        FinalMessage("Limit Reached"),
    ]


def test_an_iteration_begun_anew_loses_no_rows(server: ScriptedServer, client: KsqlClient) -> None:
    """Breaking out of a loop and going on later gives every row once, whatever had already arrived."""
    token = b'{"continuationToken":{"continuationToken":"t"}},\n'
    server.script("/query", chunked(HEADER + ROW + token + ROW + token + ROW + LIMIT))
    first: list[int] = []
    with client.query(f"{SQL} LIMIT 3", kind=QueryKind.PUSH) as response:
        while response.outcome is None or not first or first[-1] < 2:
            for block in response:
                first.append(block.first_row)
                break
    assert first == [0, 1, 2]

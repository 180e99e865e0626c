"""Promises about refusals: status, code and text together become the error that says who must act."""

from __future__ import annotations

import pytest

from ksql_lake.errors import (
    KsqlError,
    NotHereError,
    NotQueryableError,
    PropertyRefusedError,
    ProtocolError,
    QueryFailedError,
    Recovery,
    ServerBusyError,
    ServerUnavailableError,
    StatementError,
    UnauthorizedError,
)
from ksql_lake.ksqldb import KsqlClient, QueryKind
from ksql_lake.ksqldb.refusals import failure
from ksql_lake.ksqldb.wire.answer_events import ErrorMessage
from ksql_lake_tests.fakes.scripted_server import RESET, Script, ScriptedServer, answer, chunked, head
from ksql_lake_tests.ksqldb.conftest import HEADER, ROW, SECRET, MakeClient, generic

REFUSALS = [
    (401, generic(40100, "Unauthorized"), UnauthorizedError, "No credentials were sent; set KSQLDB_USER"),
    (403, generic(40300, "Forbidden"), UnauthorizedError, "403 Forbidden: Forbidden"),
    (407, b"", UnauthorizedError, "The proxy wants credentials"),
    (404, b"<html><title>404 Not\n Found</title></html>", ProtocolError, "a web page titled '404 Not Found'"),
    (
        404,
        b"Not Found",
        ProtocolError,
        "404 Not Found: 'Not Found'\nIs KSQLDB_URL the address of a ksqlDB server",
    ),
    (302, b"", ProtocolError, "The server redirects; set KSQLDB_URL to its real address."),
    (429, generic(42900, "rate limited"), ServerBusyError, "at one of its limits"),
    (429, b"slow down", ServerBusyError, "'slow down'"),
    (
        400,
        generic(40000, "Host is at bandwidth rate limit for pull queries."),
        ServerBusyError,
        "bandwidth rate",
    ),
    (400, generic(40001, "... exceed the configured limit of 100"), ServerBusyError, "configured limit"),
    (400, generic(40003, "too many push queries"), ServerBusyError, "Export fewer sources at once"),
    (
        500,
        generic(50000, "Host is at concurrency limit for pull queries."),
        ServerBusyError,
        "concurrency limit",
    ),
    (
        500,
        generic(50000, "Something went wrong"),
        QueryFailedError,
        "the server failed: Something went wrong (50000)",
    ),
    (
        503,
        generic(50000, "Unable to execute pull query."),
        ServerUnavailableError,
        "Unable to execute pull query.",
    ),
    (
        502,
        b"<html><title>502 Bad Gateway</title>",
        ServerUnavailableError,
        "a web page titled '502 Bad Gateway'",
    ),
    (503, b"", ServerUnavailableError, "an empty body"),
    (400, generic(40001, "line 1:8:\n Syntax Error"), StatementError, "line 1:8: Syntax Error (40001)"),
    (
        400,
        b"The plain HTTP request was sent to HTTPS port",
        ProtocolError,
        "400 Bad Request: 'The plain HTTP request",
    ),
    (421, generic(42100, "SNI mismatch"), StatementError, "SNI mismatch"),
]


STARTING = "KSQL is not yet ready to serve requests."
NO_HOST = (
    "Unable to execute pull query. [Partition 3 failed to find valid host. Hosts scanned: [b:8088 was not "
    "selected because Host is not alive as of time 1795837267162]]"
)
INTERNAL = (
    "The server encountered an internal error when processing the query. "
    "Please consult the server logs for more information."
)
TABLES_BY_EVENT = [
    # Recorded with the same words: "G table pull while the server restarts", "C unknown function" and others.
    ("starting", 503, generic(50302, STARTING), ServerUnavailableError, "not yet ready"),
    ("internal error", 500, generic(50000, INTERNAL), StatementError, "without saying why"),
    (
        "shutting down",
        400,
        generic(40001, "Error starting pull query: KafkaStreams is not running. State is PENDING_SHUTDOWN."),
        ServerUnavailableError,
        "PENDING_SHUTDOWN",
    ),
    # Constructed from the facts: no recording has these statuses.
    (
        "rebalancing",
        400,
        generic(
            40001,
            "Error starting pull query: Cannot determine which host contains the "
            "required partitions to serve the pull query.",
        ),
        ServerUnavailableError,
        "moving its work",
    ),
    ("a node missing, older writer", 400, generic(40001, NO_HOST), NotHereError, "Partition 3"),
    ("a node missing, newer writer", 503, generic(50000, NO_HOST), NotHereError, "Partition 3"),
    ("a node missing, newer writer again", 500, generic(50000, NO_HOST), NotHereError, "Partition 3"),
    ("rate limit", 429, generic(42900, "Host is at rate limit for pull queries."), ServerBusyError, "limits"),
    (
        "prohibited",
        400,
        generic(
            40000,
            "One or more properties overrides set locally are prohibited by the KSQL "
            "server (use UNSET to reset their default value): [a.b, c.d]",
        ),
        PropertyRefusedError,
        "a.b, c.d",
    ),
    (
        "unknown property, 7.1",
        400,
        generic(40000, "Not recognizable as ksql, streams, consumer, or producer property: 'a.b'"),
        PropertyRefusedError,
        "a.b",
    ),
    ("source topic deleted", 503, generic(50000, "Internal Server Error"), ServerUnavailableError, "try again"),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [refusal[1:] for refusal in TABLES_BY_EVENT],
    ids=[refusal[0] for refusal in TABLES_BY_EVENT],
)
def test_what_passes_is_tried_again_and_what_stays_is_not(
    server: ScriptedServer, client: KsqlClient, status: int, body: bytes, kind: type[KsqlError], text: str
) -> None:
    """A server that starts, stops, moves its work or misses a node is asked again; users' mistakes are not."""
    server.script("/query", answer(body, status))
    with pytest.raises(KsqlError) as caught:
        client.query("SELECT `A` FROM `T`", kind=QueryKind.PULL_TABLE)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert caught.value.hint
    passes = (ServerUnavailableError, NotHereError, ServerBusyError)
    assert (caught.value.recovery is not Recovery.FIX) is issubclass(kind, passes)
    assert len(server.asked("/query")) == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        # Recorded in bodies of status 200.
        ("Unable to execute pull query: Exhausted standby hosts to try.", ServerUnavailableError),
        ("Error executing query locally at node http://x/: Failed to scan materialized table", NotHereError),
        # Constructed from the facts.
        ("RocksDB iterator for store Aggregate-Materialize has closed", QueryFailedError),
        ("The client was closed", ServerUnavailableError),
        (NO_HOST, NotHereError),
    ],
)
def test_what_a_server_says_inside_an_answer_is_worth_another_try(
    server: ScriptedServer, client: KsqlClient, text: str, kind: type[KsqlError]
) -> None:
    """After its header an answer can fail of what passes too; its rows so far are not kept by anybody."""
    error = b'{"errorMessage":' + generic(50000, text) + b"}]\n"
    server.script("/query", chunked(HEADER, ROW, error))
    with client.query("SELECT 1", kind=QueryKind.PULL_TABLE) as response, pytest.raises(KsqlError) as caught:
        list(response)
    assert type(caught.value) is kind
    assert caught.value.recovery is Recovery.RETRY


def test_a_session_table_is_told_in_whatever_words() -> None:
    """Recorded on several releases: the sentence stands inside a longer one, or is broken over lines."""
    plain = failure(ErrorMessage(50000, "locally: Table scan unsupported on session tables"))
    broken = failure(ErrorMessage(50000, "Error: Table\n\tscan unsupported on session tables"))
    assert type(plain) is type(broken) is NotQueryableError


@pytest.mark.parametrize(("status", "body", "kind", "text"), REFUSALS)
def test_every_refusal_of_a_query_has_its_type_and_words(
    server: ScriptedServer, client: KsqlClient, status: int, body: bytes, kind: type[KsqlError], text: str
) -> None:
    """Status, code and text together decide who must act; JSON and other bodies alike; one attempt."""
    server.script("/query", answer(body, status))
    with pytest.raises(KsqlError) as caught:
        client.query("SELECT `A` FROM `S`", kind=QueryKind.PULL_STREAM)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"server {server.url}, statement SELECT `A` FROM `S`: ")
    assert caught.value.hint
    assert [request.path for request in server.requests] == ["/info", "/query"]


def test_a_refusal_whose_body_breaks_off_still_counts(server: ScriptedServer, client: KsqlClient) -> None:
    """The status decides even if the words never arrive, or not all of them."""
    server.script("/query", Script([head(401, Transfer_Encoding="chunked"), b"ff\r\n{", RESET]))
    with pytest.raises(UnauthorizedError, match=r"401 Unauthorized: ('\{'|an empty body)"):
        client.query("SELECT 1", kind=QueryKind.PUSH)


def test_a_plain_table_is_refused_with_the_statement_that_helps(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """The server's own proposal is the hint, ready to be run."""
    text = (
        "The `USERS` table isn't queryable. To derive a queryable table, you can do "
        "'CREATE TABLE QUERYABLE_USERS AS SELECT * FROM USERS'. See https://cnfl.io/queries for more info.\n"
        "Add EMIT CHANGES if you intended to issue a push query."
    )
    server.script("/query", answer(generic(40001, text), 400))
    with pytest.raises(NotQueryableError) as caught:
        client.query("SELECT * FROM USERS;", kind=QueryKind.PULL_TABLE)
    assert str(caught.value) == (
        f"server {server.url}, statement SELECT * FROM USERS;: The `USERS` table isn't queryable.\n"
        'Set "extraction": "push" in the feed file, or create a queryable copy on the server and export that '
        "one:\n"
        "CREATE TABLE QUERYABLE_USERS AS SELECT * FROM USERS;"
    )
    assert caught.value.recovery is Recovery.FIX


def test_redirects_are_not_followed(server: ScriptedServer, make_client: MakeClient) -> None:
    """Credentials never travel to an address that a server names."""
    with ScriptedServer() as other:
        server.script("/info", Script([head(307, Location=f"{other.url}/info", Content_Length="0")]))
        client = make_client(server.url, ksqldb_user="u", ksqldb_password=SECRET)
        with pytest.raises(ProtocolError, match="Credentials follow no redirect"):
            client.server_info()
        assert other.requests == []

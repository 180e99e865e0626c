"""Answers without end: heads, framing, rows, compression and waiting are bounded, and each bound says so."""

from __future__ import annotations

import gzip
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlError,
    ProtocolError,
    ServerUnavailableError,
    UnauthorizedError,
)
from ksql_lake.ksqldb import KsqlClient, QueryKind, list_sources
from ksql_lake_tests.fakes.scripted_server import (
    LAST_CHUNK,
    SILENCE,
    Script,
    ScriptedServer,
    answer,
    chunk,
    chunked,
    head,
)
from ksql_lake_tests.ksqldb.conftest import DONE, HEADER, ROW, MakeClient

CHUNKED = head(Content_Type="application/vnd.ksql.v1+json", Transfer_Encoding="chunked")
ZIPPED = head(Transfer_Encoding="chunked", Content_Encoding="gzip")
MEGABYTE = 1_000_000


def ask(client: KsqlClient) -> int:
    """Read a query's whole answer, and give how many rows it has."""
    with client.query("SELECT 1", kind=QueryKind.PULL_STREAM) as response:
        return sum(block.count for block in response)


@pytest.mark.parametrize(
    "steps",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (number, b"x" * 60_000) for number in range(90)),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 8 * MEGABYTE,
        b"HTTP/1.1 200 " + b"O" * 8 * MEGABYTE,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000,
    ],
    ids=["long headers", "a header without end", "a status without end", "interim answers without end"],
)
def test_a_head_without_end_is_refused(server: ScriptedServer, make_client: MakeClient, steps: bytes) -> None:
    """However an answer's head goes on, it is given up after half a megabyte."""
    server.script("/query", Script([steps, SILENCE]))
    client = make_client(server.url, attempts=1)
    with pytest.raises(KsqlError) as caught:
        ask(client)
    assert caught.value.hint
    assert client.attempts == 1 == len(server.asked("/query"))


@pytest.mark.parametrize(
    ("wire", "error", "text"),
    [
        (CHUNKED + chunk(HEADER) + b"5;" + b"x" * 4 * MEGABYTE, IncompleteResponseError, "framing is damaged"),
        (
            CHUNKED + chunk(HEADER) + b"0\r\n" + b"X: y\r\n" * MEGABYTE,
            IncompleteResponseError,
            "framing is damaged",
        ),
        (CHUNKED + chunk(HEADER) + b"0" * 4 * MEGABYTE, IncompleteResponseError, "framing is damaged"),
        (
            ZIPPED + chunk(gzip.compress(HEADER)) + b"5;" + b"x" * 4 * MEGABYTE,
            IncompleteResponseError,
            "damaged|cut off",
        ),
    ],
    ids=["a chunk's size", "a trailer", "leading zeros", "compressed"],
)
def test_framing_without_end_is_refused(
    server: ScriptedServer, make_client: MakeClient, wire: bytes, error: type[KsqlError], text: str
) -> None:
    """Bytes that are never rows are not waited for."""
    server.script("/query", Script([wire, SILENCE]))
    with pytest.raises(error, match=text):
        ask(make_client(server.url, attempts=1))


def test_a_row_beyond_the_limit_names_the_setting_and_takes_no_memory_to_speak_of(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """KSQLDB_MAX_ROW_MB decides how long a row may be: one of 100 MB is refused while it is sent."""
    row = b'{"row":{"columns":["' + b"x" * 100 * MEGABYTE
    server.script("/query", chunked(HEADER, row, SILENCE))
    client = make_client(server.url, attempts=1, max_row_mb=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ProtocolError, match=r"row 1: a line of the response is longer than 3,000,000 bytes"
    ) as caught:
        ask(client)
    assert "KSQLDB_MAX_ROW_MB" in caught.value.hint
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_large_row_within_the_limit_is_read(server: ScriptedServer, make_client: MakeClient) -> None:
    """The default lets rows of tens of megabytes pass."""
    row = b'{"row":{"columns":["' + b"x" * 20 * MEGABYTE + b'"]}},\n'
    server.script("/query", chunked(HEADER, row, DONE))
    assert ask(make_client(server.url)) == 1


@pytest.mark.parametrize("status", [200, 500])
def test_a_compressed_bomb_is_unpacked_no_further_than_its_limit(
    server: ScriptedServer, make_client: MakeClient, status: int
) -> None:
    """A gigabyte in a megabyte, as rows, as a refusal, or as a list of sources, does not fill memory."""
    bomb = gzip.compress(b"x" * 50 * MEGABYTE, 1) * 20
    script = Script([head(status, Content_Encoding="gzip", Content_Length=str(len(bomb))), bomb])
    zipped_head = HEADER + b'{"row":{"columns":["'
    zipped_query = Script([ZIPPED, chunk(gzip.compress(zipped_head)), chunk(bomb), LAST_CHUNK])
    server.script("/query", script, zipped_query)
    server.script("/ksql", script)
    server.script("/info", script)
    client = make_client(server.url, attempts=1, max_row_mb=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for question in (
        lambda: ask(client),
        lambda: ask(client),
        lambda: list_sources(client),
        client.server_info,
    ):
        with pytest.raises(KsqlError):
            question()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


@pytest.mark.parametrize("path", ["/info", "/ksql"])
def test_an_answer_that_is_no_query_is_read_to_32_mb(
    server: ScriptedServer, make_client: MakeClient, path: str
) -> None:
    """Whoever answers a question about sources with a film is refused."""
    server.script(path, chunked(*[b"[" + b" " * MEGABYTE] * 60))
    client = make_client(server.url, attempts=1)
    with pytest.raises(ProtocolError, match="the answer is longer than 33,554,432 bytes"):
        list_sources(client) if path == "/ksql" else client.server_info()


def test_a_refusal_without_end_still_refuses(server: ScriptedServer, make_client: MakeClient) -> None:
    """The status decides; of the words no more is read than is shown."""
    server.script("/query", Script([head(401, Transfer_Encoding="chunked"), chunk(b"no " * MEGABYTE), SILENCE]))
    with pytest.raises(UnauthorizedError, match="401 Unauthorized: 'no no no"):
        ask(make_client(server.url))


@contextmanager
def dripping(before: bytes, drop: bytes) -> Iterator[str]:
    """A server that answers with something, and then a drop at a time, always within the idle limit."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(before)
                    for _ in range(600):
                        connection.sendall(drop)
                        time.sleep(0.05)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize(
    ("before", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + chunk(HEADER) + b"5;", b"x"),
        (CHUNKED + chunk(HEADER) + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["a header", "headers", "interim answers", "a chunk's size", "trailers"],
)
def test_a_server_that_drips_bytes_that_are_no_rows_is_silent(
    make_client: MakeClient, before: bytes, drop: bytes
) -> None:
    """A byte now and then keeps a socket's time-out from ringing; the idle limit counts rows."""
    with (
        dripping(before, drop) as url,
        pytest.raises(ServerUnavailableError, match=r"within 1 s|silent for 1 s"),
    ):
        ask(make_client(url, attempts=1, read_timeout=1.0))


def test_a_slow_answer_about_sources_is_given_up(make_client: MakeClient) -> None:
    """Of anything but a query the whole answer has to be there within five times the idle limit."""
    with (
        dripping(CHUNKED, chunk(b" ")) as url,
        pytest.raises(ServerUnavailableError, match="the answer did not end within 2 s"),
    ):
        list_sources(make_client(url, attempts=1, read_timeout=0.4))


def test_an_interim_answer_before_the_real_one_is_no_harm(server: ScriptedServer, client: KsqlClient) -> None:
    """A few interim answers are HTTP; the head behind them counts."""
    script = chunked(HEADER, ROW, DONE)
    server.script("/query", Script([b"HTTP/1.1 100 Continue\r\n\r\n" * 3, *script.steps]))
    assert ask(client) == 1


def test_an_answer_without_a_body_is_an_answer(server: ScriptedServer, client: KsqlClient) -> None:
    """The head's reader closes with the connection."""
    server.script("/info", answer(b"", 204))
    with pytest.raises(ProtocolError, match="204"):
        client.server_info()


@pytest.mark.parametrize("size", [1, 4, 8, 14, 17, 18, 40, 60])
def test_a_head_that_is_cut_is_a_connection_that_ended(
    server: ScriptedServer, make_client: MakeClient, size: int
) -> None:
    """Wherever in its head an answer ends, it can be tried again; half a head is not taken for a whole one."""
    server.script("/info", Script([(CHUNKED + b"0\r\n\r\n")[:size]]))
    with pytest.raises(ServerUnavailableError, match="closed without an answer: the server hung up"):
        make_client(server.url, attempts=1).server_info()

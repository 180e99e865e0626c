"""Promises about bytes that wait for their reader: the server never waits, and nothing is lost."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.errors import IncompleteResponseError, QueryFailedError, Recovery, SpoolFullError
from ksql_lake.ksqldb import KsqlClient, Outcome, QueryKind, QueryResponse, RowBlock
from ksql_lake.ksqldb.wire.backlog import MEMORY, Backlog
from ksql_lake.ksqldb.wire.chunks import Piece
from ksql_lake_tests.fakes.scripted_server import RESET, SILENCE, Reached, ScriptedServer, Step, chunked
from ksql_lake_tests.ksqldb.conftest import BOOM, HEADER, MakeClient

SQL = "SELECT `A` FROM `T`;"
MEGABYTE = 1_000_000
PATIENCE = 30.0
WIDE = b'{"row":{"columns":["' + b"x" * 9_976 + b'"]}},\n'
"""A row of 10,000 bytes."""


def rows(megabytes: int) -> list[Step]:
    """Rows of so many megabytes, a megabyte a chunk."""
    return [WIDE * 100] * megabytes


def count(response: QueryResponse) -> int:
    """Read to the end."""
    return sum(block.count for block in response)


def receivers() -> list[threading.Thread]:
    """The threads that receive for a reader."""
    return [thread for thread in threading.enumerate() if thread.name == "ksql-lake-backlog"]


@pytest.mark.parametrize("kind", [QueryKind.PULL_TABLE, QueryKind.PUSH])
def test_the_server_can_send_everything_while_nobody_reads(
    server: ScriptedServer, make_client: MakeClient, kind: QueryKind
) -> None:
    """Far more than sockets and memory hold: a reader that pauses as long as it likes is never waited for."""
    everything, last = Reached(), b"]" if kind is QueryKind.PULL_TABLE else b'{"finalMessage":"Limit Reached"}]'
    server.script("/query", chunked(HEADER, *rows(60), WIDE[:-2] + b",\n", last, everything))
    sql = SQL if kind is QueryKind.PULL_TABLE else "SELECT `A` FROM `T` EMIT CHANGES LIMIT 6001;"
    with make_client(server.url).query(sql, kind=kind) as response:
        assert everything.sent.wait(PATIENCE)
        assert count(response) == 6001
    assert response.outcome in (Outcome.COMPLETE, Outcome.LIMIT)
    assert response.bytes_read > 60 * MEGABYTE > 3 * MEMORY
    assert not receivers()


def test_a_stream_pull_may_hold_the_server_back(server: ScriptedServer, client: KsqlClient) -> None:
    """The server waits for the reader of a stream pull, so nothing of it needs to lie on a disk."""
    everything = Reached()
    server.script("/query", chunked(HEADER, *rows(60), everything, b'{"finalMessage":"Query Completed"}]'))
    with client.query(SQL, kind=QueryKind.PULL_STREAM) as response:
        assert not everything.sent.wait(0.5)
        assert not receivers()
        assert count(response) == 6000
    assert everything.sent.is_set()


def test_a_full_spool_is_an_error_with_its_size_and_its_setting(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """More than KSQLDB_SPOOL_MB on disk fails the query; it is not worth another try as it is."""
    server.script("/query", chunked(HEADER, *rows(60), b"]"))
    with make_client(server.url, spool_mb=20).query(SQL, kind=QueryKind.PULL_TABLE) as response:
        assert server.asked("/query")[0].client_left.wait(0) is False
        until = time.monotonic() + PATIENCE
        while receivers() and time.monotonic() < until:
            threading.Event().wait(0.01)
        with pytest.raises(SpoolFullError) as caught:
            count(response)
    assert "more than 20 MB of the answer wait on disk: the server sends faster" in str(caught.value)
    assert "KSQLDB_SPOOL_MB" in caught.value.hint
    assert caught.value.recovery is Recovery.FIX
    assert str(caught.value).startswith(f"server {server.url}, query transient_S_1, row 1: ")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond a size, which is what a full disk is like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_that_names_the_place(server: ScriptedServer, client: KsqlClient) -> None:
    """What the system says is said, with the two settings that help."""
    server.script("/query", chunked(HEADER, *rows(60), b"]"))
    with largest_file(5 * MEGABYTE), client.query(SQL, kind=QueryKind.PULL_TABLE) as response:
        until = time.monotonic() + PATIENCE
        while receivers() and time.monotonic() < until:
            threading.Event().wait(0.01)
        with pytest.raises(SpoolFullError, match="the answer cannot wait on disk: File too large") as caught:
            count(response)
    assert "TMPDIR" in caught.value.hint


@pytest.mark.parametrize("megabytes", [0, 40], ids=["little", "on disk"])
def test_leaving_early_ends_connection_thread_and_disk_space(
    server: ScriptedServer, client: KsqlClient, megabytes: int
) -> None:
    """Whoever walks away leaves nothing behind, also while the server is sending."""
    server.script("/query", chunked(HEADER, *rows(megabytes), SILENCE))
    with client.query(SQL, kind=QueryKind.PUSH):
        assert receivers()
    assert server.asked("/query")[0].client_left.wait(PATIENCE)
    assert not receivers()


@pytest.mark.slow
def test_what_came_before_a_break_is_read_before_the_error(server: ScriptedServer, client: KsqlClient) -> None:
    """A broken connection and a server's own error come in their place, behind every row before them."""
    gone = Reached()
    server.script(
        "/query", chunked(HEADER, *rows(40), RESET, end=False), chunked(HEADER, *rows(40), BOOM, gone)
    )
    got: list[RowBlock] = []
    with client.query(SQL, kind=QueryKind.PULL_TABLE) as response, pytest.raises(IncompleteResponseError):
        got.extend(response)
    # A reset may take bytes with it that had not been received.
    assert 0 < sum(block.count for block in got) <= 4000
    got.clear()
    with client.query(SQL, kind=QueryKind.PULL_TABLE) as response:
        assert gone.sent.wait(PATIENCE)
        with pytest.raises(QueryFailedError, match=r"boom") as caught:
            got.extend(response)
    assert sum(block.count for block in got) == 4000
    assert caught.value.where["row"] == 4001


class Pieces:
    """A source of bytes that come piece by piece, as fast as they are let."""

    def __init__(self, pieces: list[bytes], pace: threading.Semaphore | None = None) -> None:
        self._pieces = iter(pieces)
        self._pace = pace

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:  # noqa: ARG002 - as any source
        """The next piece."""
        if self._pace is not None:
            self._pace.acquire()
        return [piece] if (piece := next(self._pieces, b"")) else []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=60),
    st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    st.integers(0, 2000),
)
def test_every_byte_comes_once_and_in_order(pieces: list[bytes], wanted: list[int], memory: int) -> None:
    """However much fits into memory, and in whatever portions it is asked for."""
    backlog = Backlog(Pieces(pieces), limit=1_000_000, memory=memory)
    got, turn = b"", 0
    while found := backlog.read(wanted[turn % len(wanted)]):
        got += b"".join(found)
        turn += 1
    assert got == b"".join(pieces)
    backlog.close()


def test_the_limit_is_about_what_waits_and_not_about_what_has_been_read() -> None:
    """An answer of any length passes as long as its reader is never far behind."""
    pace = threading.Semaphore(2)
    backlog = Backlog(Pieces([b"x" * 1000] * 500, pace), limit=3000, memory=0)
    got = 0
    while found := backlog.read():
        got += sum(map(len, found))
        for _ in range(sum(map(len, found)) // 1000):
            pace.release()
    assert got == 500_000
    backlog.close()

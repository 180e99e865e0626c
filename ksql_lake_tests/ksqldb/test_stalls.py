"""Promises about queries that are alive and bring nothing: heartbeats do not hide a query that stands still."""

from __future__ import annotations

import threading

import pytest

from ksql_lake.errors import QueryStalledError, Recovery, ServerUnavailableError
from ksql_lake.ksqldb import QueryKind, RowBlock
from ksql_lake_tests.fakes.scripted_server import (
    SILENCE,
    Heartbeat,
    Script,
    ScriptedServer,
    chunk,
    chunked,
    head,
)
from ksql_lake_tests.ksqldb.conftest import DONE, HEADER, ROW, MakeClient

SQL = "SELECT `A` FROM `S`;"
BEAT = Heartbeat(chunk(b"\n"))


def beating(*steps: bytes) -> Script:
    """An answer that goes on with the older writer's newlines for ever."""
    opening = head(Content_Type="application/json", Transfer_Encoding="chunked")
    return Script([opening, *map(chunk, steps), BEAT])


@pytest.mark.parametrize("steps", [(HEADER,), (HEADER, ROW, ROW)], ids=["no row", "two rows"])
def test_heartbeats_without_rows_are_not_waited_for_without_end(
    server: ScriptedServer, make_client: MakeClient, steps: tuple[bytes, ...]
) -> None:
    """KSQLDB_STALL_TIMEOUT ends a pull that sends neither rows nor its end, and says what it may be."""
    server.script("/query", beating(*steps))
    client = make_client(server.url, stall_timeout=0.4)
    got: list[RowBlock] = []
    with client.query(SQL, kind=QueryKind.PULL_STREAM) as response, pytest.raises(QueryStalledError) as caught:
        got.extend(response)
    assert sum(block.count for block in got) == len(steps) - 1
    assert str(caught.value).startswith(
        f"server {server.url}, query transient_S_1, row {len(steps)}: "
        "the query sent neither a row nor its end for 0.4 s, only heartbeats\n"
    )
    for way_out in ("open transaction", "aborted records", "deleted", '"isolation"', '"push"', "`columns`"):
        assert way_out in caught.value.hint
    assert "KSQLDB_STALL_TIMEOUT" in caught.value.hint
    assert caught.value.recovery is Recovery.FIX
    assert server.asked("/query")[0].client_left.wait(30)


def test_a_query_for_a_few_rows_is_waited_for_no_longer_than_a_silent_one(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """A query with a LIMIT, as the one for the server's clock, holds up no export for KSQLDB_STALL_TIMEOUT."""
    server.script("/query", beating(HEADER))
    client = make_client(server.url, read_timeout=0.4)
    with (
        client.query("SELECT UNIX_TIMESTAMP() FROM S LIMIT 1;", kind=QueryKind.PULL_STREAM) as response,
        pytest.raises(QueryStalledError, match=r"for 0\.4 s, only heartbeats"),
    ):
        list(response)


def test_a_query_that_brings_rows_now_and_then_is_not_stalled(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """The time counts from the last row: a slow query may take longer in all than the limit."""
    row = Heartbeat(chunk(ROW), every=0.2)
    server.script("/query", Script([head(Transfer_Encoding="chunked"), chunk(HEADER), row]))
    got = 0
    with make_client(server.url, stall_timeout=1.0).query(SQL, kind=QueryKind.PULL_STREAM) as response:
        for block in response:
            got += block.count
            if got >= 10:
                break
    assert got >= 10


def test_no_byte_at_all_is_still_silence(server: ScriptedServer, make_client: MakeClient) -> None:
    """Where not even heartbeats come KSQLDB_READ_TIMEOUT decides, however long the other limit is."""
    server.script("/query", chunked(HEADER, SILENCE))
    client = make_client(server.url, read_timeout=0.4)
    with (
        client.query(SQL, kind=QueryKind.PULL_STREAM) as response,
        pytest.raises(ServerUnavailableError, match=r"fell silent for 0\.4 s"),
    ):
        list(response)


def test_a_push_query_may_bring_nothing_for_any_time(server: ScriptedServer, make_client: MakeClient) -> None:
    """It has no end, so its silence is judged by others; heartbeats keep it open."""
    server.script("/query", beating(HEADER, ROW))
    with make_client(server.url, stall_timeout=0.1).listen(SQL) as listening:
        assert isinstance(listening.next(30), RowBlock)
        seen = listening.bytes_read
        while listening.bytes_read < seen + 40:
            threading.Event().wait(0.01)
        assert listening.next(0) is None


def test_a_push_query_of_the_older_writer_that_loses_its_heartbeats_is_gone(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """Its heartbeats come each second, so their absence is noticed as in a pull."""
    server.script("/query", chunked(HEADER, ROW, SILENCE))
    with make_client(server.url, read_timeout=0.4).listen(SQL) as listening:
        assert isinstance(listening.next(30), RowBlock)
        with pytest.raises(ServerUnavailableError, match="fell silent"):
            listening.next(30)


def test_heartbeats_before_and_between_rows_are_no_rows(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """Newlines, and commas in chunks of their own, change nothing about what is read."""
    pieces = [
        HEADER[:-2],
        b",\n",
        b"\n",
        b"\n",
        ROW[:-2],
        b",\n",
        b"\n",
        ROW[:5],
        ROW[5:-2],
        b",\n",
        b"\n",
        DONE,
    ]
    server.script("/query", chunked(*pieces, b"\n"))
    with make_client(server.url).query(SQL, kind=QueryKind.PULL_STREAM) as response:
        assert sum(block.count for block in response) == 2

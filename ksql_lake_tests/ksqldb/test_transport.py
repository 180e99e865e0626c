"""Promises about the bytes of a body: the same through both doors, and no end that was not one."""

from __future__ import annotations

import gzip
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httptools
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import IncompleteResponseError, ServerUnavailableError
from ksql_lake.ksqldb.wire.chunks import Piece
from ksql_lake.ksqldb.wire.transport import Body, BodyBytes, FastDoor, PublicDoor, open_door
from ksql_lake_tests.fakes.scripted_server import (
    LAST_CHUNK,
    SILENCE,
    Script,
    ScriptedServer,
    Step,
    Wait,
    answer,
    chunk,
    chunked,
    head,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PARTS = [b"one\n", b"", b"two\n" * 30, b"\r\n0\r\n\r\n", b"three"]
WHOLE = b"".join(PARTS)
WIRE = b"".join(chunk(part) for part in PARTS if part) + LAST_CHUNK
DOORS: dict[str, Callable[[requests.Response], BodyBytes]] = {
    "fast": open_door,
    "public": lambda response: PublicDoor(response.raw),
}


def read_all(body: Body, minimum: int = 1) -> bytes:
    """Read to the proper end."""
    return b"".join(iter(lambda: body.read(minimum), b""))


def read_until_error(body: Body) -> tuple[bytes, IncompleteResponseError]:
    """Read to the error that must come, and what came before it."""
    came = b""
    for _ in range(10_000):
        try:
            piece = body.read(64)
        except IncompleteResponseError as error:
            return came, error
        assert piece, "an end that was none"
        came += piece
    pytest.fail("no end at all")


class Fetch:
    """Asks the scripted server for a body and opens the named door to it; closes what it opened.

    Attributes:
        url: The server.
    """

    def __init__(self, server: ScriptedServer, opened: ExitStack) -> None:
        self.url = server.url
        self._server = server
        self._opened = opened

    def __call__(
        self, script: Script, door: str = "fast", *, timeout: float = 5.0, patience: float = 60.0
    ) -> tuple[Body, BodyBytes]:
        """Fetch one body."""
        self._server.script("/", script)
        response = self._opened.enter_context(requests.get(self.url, stream=True, timeout=timeout))
        way = DOORS[door](response)
        return Body(response, url=self.url, read_timeout=timeout, door=way, patience=patience), way


@pytest.fixture
def fetch(server: ScriptedServer) -> Iterator[Fetch]:
    """Bodies of the scripted server."""
    with ExitStack() as opened:
        yield Fetch(server, opened)


def raw(*steps: Step) -> Script:
    """A chunked answer whose chunks are written by hand."""
    return Script([head(Transfer_Encoding="chunked"), *steps])


def test_requests_still_looks_inside_as_the_fast_door_expects(fetch: Fetch) -> None:
    """If an update of requests or urllib3 moves what the fast door reads, this test says so."""
    body, door = fetch(chunked(*filter(None, PARTS)))
    assert type(door) is FastDoor
    assert read_all(body) == WHOLE


@pytest.mark.parametrize(
    "script",
    [
        answer(WHOLE, keep=False),
        Script([head(), WHOLE]),
        Script(
            [
                head(Transfer_Encoding="chunked", Content_Encoding="gzip"),
                chunk(gzip.compress(WHOLE)),
                LAST_CHUNK,
            ]
        ),
    ],
    ids=["length", "until closed", "gzip"],
)
def test_other_bodies_go_through_the_public_door(fetch: Fetch, script: Script) -> None:
    """What the fast door is not made for is read all the same."""
    body, door = fetch(script)
    assert type(door) is PublicDoor
    assert read_all(body) == WHOLE
    assert (body.ended, body.bytes_read) == (True, len(WHOLE))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "wire",
    [
        [WIRE],
        [WIRE[at : at + 1] for at in range(len(WIRE))],
        [b"3;name=value\r\none\r\n", b"00\r\nTrailer: yes\r\n\r\n"],
        [b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"],
    ],
    ids=["at once", "byte by byte", "extension and trailer", "hexadecimal"],
)
def test_both_doors_give_the_same_bytes(fetch: Fetch, door: str, wire: list[bytes]) -> None:
    """Chunks of every shape come out joined and whole."""
    plain = {3: b"one", 2: b"0123456789" * 2}
    expected = WHOLE if b"".join(wire) == WIRE else (b"one" if wire[0].startswith(b"3") else plain[2])
    body, _ = fetch(raw(*wire), door)
    assert read_all(body, 64) == expected
    assert body.read() == b""


@pytest.mark.parametrize("door", DOORS)
def test_a_body_cut_anywhere_is_never_taken_for_whole(fetch: Fetch, door: str) -> None:
    """Inside a chunk, at its border, inside a size, before the last chunk: all bytes come, then an error."""
    # The standard library takes the bare `0` of the last chunk for the end; by then every byte has come.
    proof = len(WIRE) if door == "fast" else len(WIRE) - len(LAST_CHUNK) + 1
    for end in range(proof):
        body, _ = fetch(raw(WIRE[:end]), door)
        came, error = read_until_error(body)
        assert WHOLE.startswith(came)
        assert error.where["server"] == fetch.url
        assert not body.ended


@pytest.mark.parametrize("door", DOORS)
def test_a_length_that_is_not_reached_is_a_cut(fetch: Fetch, door: str) -> None:
    """Content-Length is held against what came."""
    body, _ = fetch(Script([head(Content_Length="10"), b"12345"]), door)
    assert body.read() == b"12345"
    with pytest.raises(IncompleteResponseError, match="the answer was cut off"):
        body.read()


@pytest.mark.parametrize("door", DOORS)
def test_silence_in_the_middle_of_a_chunk_ends_after_the_idle_limit(fetch: Fetch, door: str) -> None:
    """What came before the silence is given out first, and the error stays the same when asked again."""
    body, _ = fetch(raw(chunk(b"row\n"), b"ff\r\nhalf a r", SILENCE), door, timeout=0.5)
    came = body.read(1000)
    assert came in (b"row\n", b"row\nhalf a r")
    for _ in range(2):
        with pytest.raises(ServerUnavailableError, match="the server fell silent for"):
            body.read()


def test_a_damaged_compression_is_no_end(fetch: Fetch) -> None:
    """A body that claims gzip and is not is an error."""
    body, _ = fetch(Script([head(Content_Encoding="gzip", Content_Length="4"), b"nope"]))
    with pytest.raises(IncompleteResponseError, match="the answer's compression is damaged"):
        body.read()


def test_small_pieces_are_gathered_up_to_the_minimum(fetch: Fetch) -> None:
    """One HTTP chunk per row does not mean one read per row."""
    rows = [b"row %d\n" % number for number in range(5000)]
    body, _ = fetch(chunked(*rows))
    pieces = list(iter(lambda: body.read(8192), b""))
    assert b"".join(pieces) == b"".join(rows)
    assert all(len(piece) >= 8192 for piece in pieces[:-1])


@pytest.mark.parametrize("door", DOORS)
def test_a_slow_answer_is_given_out_before_the_minimum_is_reached(fetch: Fetch, door: str) -> None:
    """Bytes that have arrived wait for more only as long as patience lasts."""
    go_on = threading.Event()
    body, _ = fetch(chunked(b"row\n", Wait(go_on), b"row\n"), door, patience=0.0)
    assert body.read(1_000_000) == b"row\n"
    go_on.set()
    assert body.read(1_000_000) == b"row\n"
    assert body.read() == b""


class Trickle(io.RawIOBase):
    """A connection that hands out its bytes in pieces of the given sizes, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = data
        self._sizes = sizes
        self._at = 0
        self._turn = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Return the next piece."""
        room = memoryview(buffer)
        size = min(self._sizes[self._turn % len(self._sizes)], len(room))
        self._turn += 1
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        room[: len(piece)] = piece
        return len(piece)


class Breaking(Trickle):
    """A connection that is reset behind its bytes, and that always seems to have more."""

    def __init__(self, data: bytes, sizes: list[int], ready: int) -> None:
        super().__init__(data, sizes)
        self._ready = ready

    def fileno(self) -> int:
        """Something that can be read."""
        return self._ready

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Return the next piece, or be reset."""
        return super().readinto(buffer) or self._break()

    def _break(self) -> int:
        raise ConnectionResetError("reset by the test")


@pytest.mark.parametrize("size", [3, 10_000, 70_000])
def test_what_was_received_before_a_reset_is_given_out_before_the_error(size: int) -> None:
    """Also while more is being waited for: it may hold the server's reason."""
    rows = [b"row %d\n" % number for number in range(20_000)]
    reading, writing = socket.socketpair()
    came: list[Piece] = []

    def receive(door: FastDoor) -> None:
        while True:
            came.extend(door.read(1_000_000, until=time.monotonic() + 60))

    with reading, writing:
        writing.send(b"!")
        wire = Breaking(b"".join(map(chunk, rows)) + b"ff\r\nhalf", [size], reading.fileno())
        with pytest.raises(ConnectionResetError):
            receive(FastDoor(io.BufferedReader(wire)))
    assert b"".join(came) == b"".join(rows)


def test_a_chunk_that_comes_too_slowly_is_given_out_in_parts() -> None:
    """Patience is for framing; a large chunk may take its time."""
    data = b"x" * 100_000
    door = FastDoor(io.BufferedReader(Trickle(chunk(data) + LAST_CHUNK, [30_000])), patience=-1.0)
    pieces = list(iter(door.read, list[Piece]()))
    assert len(pieces) > 1
    assert b"".join(part for piece in pieces for part in piece) == data


def through_fast_door(wire: bytes, sizes: list[int]) -> list[bytes]:
    """All reads of a fast door up to the proper end."""
    door = FastDoor(io.BufferedReader(Trickle(wire, sizes)))
    return [b"".join(pieces) for pieces in iter(door.read, list[Piece]())]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=20),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_the_fast_door_joins_chunks_however_they_arrive(parts: list[bytes], sizes: list[int]) -> None:
    """Any chunks, received in pieces of any size, come out as their bytes."""
    wire = b"".join(map(chunk, parts)) + LAST_CHUNK
    assert b"".join(through_fast_door(wire, sizes)) == b"".join(parts)


@given(
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
    st.data(),
)
def test_the_fast_door_never_ends_early(parts: list[bytes], sizes: list[int], data: st.DataObject) -> None:
    """A connection that ends before the body does is an error, wherever it ends."""
    wire = b"".join(map(chunk, parts)) + LAST_CHUNK
    end = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(http.client.IncompleteRead):
        through_fast_door(wire[:end], sizes)


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore", b"garbage", b"4\r\nmore\r\n"]
)
@pytest.mark.parametrize("sizes", [[1], [10_000]])
def test_nothing_behind_the_last_chunk_becomes_part_of_the_body(extra: bytes, sizes: list[int]) -> None:
    """Bytes after the end are not the body's, and do not spoil it."""
    assert b"".join(through_fast_door(WIRE + extra, sizes)) == WHOLE


def test_what_came_before_damaged_framing_is_given_out_before_the_error() -> None:
    """Chunks in the same receive as the damage are not lost."""
    door = FastDoor(io.BufferedReader(Trickle(chunk(b"row") + b"oops\r\n", [1000])))
    assert b"".join(door.read()) == b"row"
    with pytest.raises(httptools.HttpParserError):
        door.read()

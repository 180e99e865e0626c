"""Promises about chunks taken apart many at once: only what is surely a plain chunk, and all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.ksqldb.wire.chunks import last_border, whole_chunks
from ksql_lake_tests.fakes.scripted_server import LAST_CHUNK, chunk

CONTENTS = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b'{"row":{"columns":[1]}},\n', b"\r" * 7]
    ),
)


def written(parts: list[bytes], *, upper: bool, zeros: int) -> bytes:
    """Chunks as some server may write them."""
    sizes = [f"{len(part):x}".rjust(zeros, "0") for part in parts]
    lines = [(size.upper() if upper else size).encode() for size in sizes]
    return b"".join(line + b"\r\n" + part + b"\r\n" for line, part in zip(lines, parts, strict=True))


@given(st.lists(CONTENTS, max_size=30), st.booleans(), st.integers(0, 9), st.data())
def test_what_is_taken_is_the_chunks_from_the_first_on(
    parts: list[bytes], upper: bool, zeros: int, data: st.DataObject
) -> None:
    """Whatever is in the chunks and wherever they are cut: some whole ones from the beginning, no others."""
    wire = written(parts, upper=upper, zeros=zeros) + data.draw(st.sampled_from([b"", LAST_CHUNK, b"oops\r\n"]))
    wire = wire[: data.draw(st.integers(0, len(wire)))]
    borders = [len(written(parts[:count], upper=upper, zeros=zeros)) for count in range(len(parts) + 1)]

    taken, border = whole_chunks(memoryview(wire))

    count = borders.index(border)
    assert bytes(taken) == b"".join(parts[:count])
    end, plain = last_border(wire, border)
    walked = borders.index(end)
    assert walked >= count
    if zeros <= 8:
        assert walked == len(parts) or borders[walked + 1] > len(wire)
        assert plain or end == borders[-1]


@given(st.lists(st.binary(min_size=1, max_size=300).map(lambda part: part.replace(b"\r", b"-")), min_size=1))
def test_plain_chunks_are_all_taken(parts: list[bytes]) -> None:
    """Chunks without a carriage return, which is what a server of JSON sends, do not go the slow way."""
    wire = b"".join(map(chunk, parts))
    taken, border = whole_chunks(wire)
    assert (bytes(taken), border) == (b"".join(parts), len(wire))


@pytest.mark.parametrize(
    ("wire", "begins"),
    [(b"", True), (b"5", True), (b"5\r", True), (b"5\r\nhel", True), (b"0\r\n", False), (b"5;x\r\n", False)],
)
def test_a_chunk_that_is_not_whole_is_told_from_what_is_no_plain_chunk(wire: bytes, begins: bool) -> None:
    """More bytes may complete the first; the second is left to the parser of every form there is."""
    assert whole_chunks(wire) == (b"", 0)
    assert last_border(wire, 0) == (0, begins)

"""Promises about v1 rows: nothing lost, nothing doubled, nothing let through that is not a row."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb.wire.answer_events import (
    ErrorMessage,
    FinalMessage,
    Header,
    Outcome,
    QueryKind,
    RowBlock,
    Token,
    Tombstone,
)
from ksql_lake.ksqldb.wire.row_parser import RowsParser
from ksql_lake_tests.ksqldb.framing import read, row_by_row, split

HEADER = b'[{"header":{"queryId":"q_1","schema":"`A` STRING"}},\n'
DONE = b'{"finalMessage":"Query Completed"}]'

TRICKY_TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            '"tombstone":true}}',
            ']}},\n{"row":{"columns":[',
            "]}}]",
            "\\",
            '\\"',
            "\r",
            "\u2028",
            "[{",
            "]",
            ",",
            '{"row":',
        ]
    ),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TRICKY_TEXT | st.just("tombstone"), inner, max_size=3)
    ),
    max_leaves=6,
)


def row_line(values: list[Any], *, tombstone: bool = False, host: bool = False) -> bytes:
    """A row as the server writes it."""
    row = {"columns": values, **({"tombstone": True} if tombstone else {})}
    line = {"row": row, **({"sourceHost": "node1:8088"} if host else {})}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[object]]:
    """A v1 body with everything that may stand between rows, and the events it must be read as."""
    lines: list[bytes] = []
    events: list[object] = [Header("q_1", "`A` STRING")]
    row = 0
    for kind in draw(
        st.lists(st.sampled_from(["row"] * 6 + ["host", "tombstone", "token", "idle"]), max_size=30)
    ):
        values = draw(st.lists(VALUES, min_size=1, max_size=3)) if kind in ("row", "host", "tombstone") else []
        match kind:
            case "row" | "host":
                lines.append(row_line(values, host=kind == "host") + b",\n")
                events.append((row, {"row": {"columns": values}}))
                row += 1
            case "tombstone":
                lines.append(row_line(values, tombstone=True) + b",\n")
                events.append((row, {"row": {"columns": values}}, "tombstone"))
                row += 1
            case "token":
                lines.append(b'{"continuationToken":{"continuationToken":"abc"}},\n')
                events.append(Token("continuation", "abc"))
            case _:
                lines.append(b"\n")
    return HEADER + b"".join(lines) + DONE, [*events, FinalMessage("Query Completed")]


@given(bodies(), st.lists(st.integers(0, 5000), max_size=8))
def test_every_row_arrives_once_in_order_whatever_it_holds(
    made: tuple[bytes, list[object]], cuts: list[int]
) -> None:
    """Values that look like framing, messages between rows and any chunking change nothing about the rows."""
    body, expected = made
    reading = read(split(body, cuts), kind=QueryKind.PULL_STREAM)
    assert list(reading.events) == expected
    assert reading.outcome is Outcome.COMPLETE


def test_plain_rows_of_one_chunk_are_one_block_with_their_bytes_untouched() -> None:
    """Rows that arrive together leave together, exactly as sent and with commas between them."""
    parser = RowsParser(QueryKind.PULL_STREAM)
    rows = [row_line([number, "ä" * 5]) for number in range(1000)]
    first, *rest = parser.feed(HEADER + b",\n".join(rows[:600]) + b",\n")
    assert first == Header("q_1", "`A` STRING")
    assert rest == [RowBlock(b",\n".join(rows[:600]), 600, 0)]
    assert parser.feed(b",\n".join(rows[600:]) + b",\n") == [RowBlock(b",\n".join(rows[600:]), 400, 600)]
    assert parser.rows == 1000


def test_a_message_behind_the_rows_of_a_chunk_leaves_them_one_block() -> None:
    """The last chunk of an answer is not taken apart into single rows."""
    parser = RowsParser(QueryKind.PULL_STREAM)
    rows = [row_line([number]) for number in range(50)]
    events = parser.feed(HEADER + b",\n".join(rows) + b",\n") + parser.feed(b",\n".join(rows) + b",\n" + DONE)
    events += parser.finish()
    assert [event.count for event in events if isinstance(event, RowBlock)] == [50, 50]


def test_numbers_keep_every_digit() -> None:
    """A row that is not plain is passed on with its values as sent, decimals included."""
    parser = RowsParser(QueryKind.PULL_TABLE)
    columns = b"[12345678901234567890.1234567890,1.0E10,9223372036854775807]"
    events = parser.feed(HEADER + b'{"row":{"columns":' + columns + b'},"sourceHost":"n:1"},\n')
    assert events[1] == RowBlock(b'{"row":{"columns":' + columns + b"}}", 1, 0)


def test_a_row_cut_inside_a_string_that_looks_like_the_end_is_not_complete() -> None:
    """`]}}]` inside a text is no end, so a body cut behind it is incomplete."""
    body = HEADER + row_line(["a"]) + b',\n{"row":{"columns":["x]}}]'
    reading = read([body], kind=QueryKind.PULL_TABLE)
    assert (reading.outcome, reading.rows) == (Outcome.INCOMPLETE, 1)


def test_a_push_query_is_open_between_rows_and_incomplete_inside_one() -> None:
    """An answer that goes on is distinguished from one that was cut in the middle of a row."""
    whole = read([HEADER + row_line([1]) + b",\n"], kind=QueryKind.PUSH)
    cut = read([HEADER + row_line([1]) + b",\n" + row_line([2])[:-3]], kind=QueryKind.PUSH)
    assert (whole.outcome, whole.rows) == (Outcome.OPEN, 1)
    assert (cut.outcome, cut.rows) == (Outcome.INCOMPLETE, 1)


def test_an_unclean_end_of_the_body_rules_out_a_bracket_but_not_a_final_message() -> None:
    """Table pulls need the HTTP end too; the final message of a stream pull is proof by itself."""
    table, stream = RowsParser(QueryKind.PULL_TABLE), RowsParser(QueryKind.PULL_STREAM)
    for parser, end in ((table, b"]"), (stream, DONE)):
        parser.feed(HEADER + row_line([1]) + b",\n" + end)
        parser.finish()
    assert table.outcome(clean=True) is Outcome.COMPLETE
    assert table.outcome(clean=False) is Outcome.INCOMPLETE
    assert stream.outcome(clean=False) is Outcome.COMPLETE


def test_an_error_instead_of_a_header_is_an_error() -> None:
    """A response that fails before its header is read as the error it is."""
    body = b'[{"errorMessage":{"@type":"generic_error","error_code":50000,"message":"boom"}},\n]'
    reading = read([body], kind=QueryKind.PULL_STREAM)
    assert reading.events == (ErrorMessage(50000, "boom"),)
    assert reading.outcome is Outcome.ERROR


def test_a_consistency_token_is_an_event() -> None:
    """A token's event names its kind."""
    body = HEADER + b'{"consistencyToken":{"consistencyToken":"xyz"}},\n' + DONE
    assert Token("consistency", "xyz") in read([body], kind=QueryKind.PULL_STREAM).events


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b"<html><body>Sign in</body></html>\n",
            "row 1: the response does not begin as a ksqlDB query response",
        ),
        (b"<html>no newline", "does not begin as a ksqlDB query response: '<html>no newline'"),
        (HEADER + b'{"row":{"columns":[1]\n', "row 1: a line of the response is not a ksqlDB row or message"),
        (HEADER + row_line([1]) + b",\n\xff\xfe\n", "row 2: a line of the response is not a ksqlDB row"),
        (HEADER + b'{"surprise":1},\n', "a line of the response is of no known kind: '{\"surprise\":1}'"),
        (HEADER + HEADER[1:], "of no known kind"),
        (HEADER + b'{"row":{"columns":[1]},"finalMessage":"Query Completed"},\n', "of no known kind"),
        (b"[" + row_line([1]) + b",\n", "a row before its header"),
        (HEADER + b'{"row":{"columns":7}},\n', "a row of the response has no list of columns"),
        (
            HEADER + b'{"finalMessage":"Limit Reached"},\n' + row_line([1]) + b",\n",
            "a row after its final message",
        ),
        (HEADER + b"]\n" + row_line([1]) + b",\n", "the response goes on after its end"),
    ],
)
def test_bytes_that_no_ksqldb_sends_are_refused_with_the_row_and_the_bytes(body: bytes, text: str) -> None:
    """Foreign bytes are named, never skipped."""
    parser = RowsParser(QueryKind.PULL_STREAM)
    with pytest.raises(ProtocolError) as caught:
        _ = parser.feed(body), parser.finish()
    assert text in str(caught.value)
    assert "check KSQLDB_URL" in caught.value.hint


@given(st.integers(1, 200), st.lists(st.integers(0, 400), max_size=6))
def test_a_line_beyond_the_limit_is_refused_however_it_arrives(length: int, cuts: list[int]) -> None:
    """Memory stays bounded: the limit holds for whole and unfinished lines alike, and names the row."""
    body = HEADER + row_line([1]) + b",\n" + row_line(["x" * length]) + b",\n"
    longest = max(len(line) for line in body.split(b"\n"))

    def rows(limit: int) -> int:
        parser = RowsParser(QueryKind.PULL_STREAM, max_line=limit)
        return len([row for chunk in split(body, cuts) for row in row_by_row(parser.feed(chunk))])

    assert rows(longest) == 3
    with pytest.raises(ProtocolError, match=r"^row \d: a line of the response is longer than [\d,]+ bytes"):
        rows(longest - 1)


def test_tombstones_are_told_apart_from_rows_and_from_values_of_that_name() -> None:
    """Only the server's own mark makes a row a tombstone, not a field called tombstone."""
    parser = RowsParser(QueryKind.PUSH)
    body = (
        HEADER
        + row_line([{"a": {"tombstone": True}}])
        + b",\n"
        + row_line(["k", None], tombstone=True)
        + b",\n"
    )
    block, tombstone = parser.feed(body)[1:]
    assert isinstance(block, RowBlock)
    assert tombstone == Tombstone(b'{"row":{"columns":["k",null]}}', 1)


def test_memory_is_bounded_by_the_chunk_and_not_by_the_answer() -> None:
    """Reading a long answer needs no more than a few of its chunks."""
    line = row_line([1, "x" * 80]) + b",\n"
    chunk = line * (256 * 1024 // len(line))
    parser = RowsParser(QueryKind.PULL_STREAM)
    parser.feed(HEADER)
    tracemalloc.start()
    try:
        for _ in range(100):
            parser.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parser.rows == 100 * chunk.count(b"\n")
    assert peak < 8 * len(chunk)

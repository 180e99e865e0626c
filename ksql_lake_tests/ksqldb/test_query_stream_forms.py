"""Promises about the two forms of /query-stream: delimited lines and the JSON array."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb.protocol import (
    DelimitedParser,
    Header,
    JsonArrayParser,
    Outcome,
    QueryKind,
    RowBlock,
    Token,
)
from ksql_lake_tests.ksqldb.framing import read, split

METADATA = b'{"queryId":"q","columnNames":["A","B"],"columnTypes":["STRING","ARRAY<INTEGER>"]}'
TRICKY = st.text(max_size=8) | st.sampled_from(['"', "\\", '\\"', "],[", "]\n[", '{"@type":', "]]", "}"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=12)


def texts(rows: list[list[Any]]) -> list[bytes]:
    """Rows as the server writes them."""
    return [json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() for row in rows]


@given(ROWS, st.lists(st.integers(0, 600), max_size=8), st.sampled_from(["delimited", "json_array"]))
def test_rows_arrive_once_in_order_whatever_they_hold(
    rows: list[list[Any]], cuts: list[int], writer: str
) -> None:
    """Values that look like framing and any chunking change nothing about the rows."""
    parts = [METADATA, *texts(rows)]
    body = b"\n".join([*parts, b""]) if writer == "delimited" else b"[" + b",".join(parts) + b"]"
    reading = read(split(body, cuts), kind=QueryKind.PULL_TABLE, writer=writer)
    assert reading.events == (Header("q", "`A` STRING, `B` ARRAY<INTEGER>"), *enumerate(rows))
    assert reading.outcome is (Outcome.UNKNOWN if writer == "delimited" else Outcome.COMPLETE)


def test_rows_of_one_delimited_chunk_are_one_block() -> None:
    """Rows that arrive together leave together, as one JSON array without its brackets."""
    parser = DelimitedParser(QueryKind.PULL_TABLE)
    parser.feed(METADATA + b"\n")
    assert parser.feed(b'["a",1]\n["b",2]\n["c') == [RowBlock(b'["a",1],\n["b",2]', 2, 0)]
    assert parser.feed(b'",3]\n') == [RowBlock(b'["c",3]', 1, 2)]


@pytest.mark.parametrize("writer", ["delimited", "json_array"])
def test_tokens_and_cut_rows_are_seen(writer: str) -> None:
    """A token is an event, and a row cut in the middle makes the answer incomplete."""
    between = b"\n" if writer == "delimited" else b","
    opening = b"" if writer == "delimited" else b"["
    parts = [METADATA, b'["a",1]', b'{"consistencyToken":"t"}', b'["b",2']
    reading = read([opening + between.join(parts)], kind=QueryKind.PUSH, writer=writer)
    assert reading.events[1:] == ((0, ["a", 1]), Token("consistency", "t"))
    assert (reading.outcome, reading.rows) == (Outcome.INCOMPLETE, 1)


@pytest.mark.parametrize(
    ("kind", "body", "outcome"),
    [
        (QueryKind.PULL_TABLE, b"[" + METADATA, Outcome.INCOMPLETE),
        (QueryKind.PULL_TABLE, b"[]", Outcome.INCOMPLETE),
        (QueryKind.PULL_STREAM, b"[" + METADATA + b"]", Outcome.UNKNOWN),
        (QueryKind.PUSH, b"[" + METADATA + b',["a",1],', Outcome.OPEN),
    ],
)
def test_the_array_form_proves_only_table_pulls(kind: QueryKind, body: bytes, outcome: Outcome) -> None:
    """Without a final message the bracket proves a table pull and nothing else."""
    assert read([body], kind=kind, writer="json_array").outcome is outcome


@pytest.mark.parametrize(
    ("writer", "body", "text"),
    [
        ("delimited", b"<html>\n", "row 1: a line of the response is not a ksqlDB row or message: '<html>'"),
        (
            "delimited",
            METADATA + b"\n[1]\n[2\n",
            "row 2: a line of the response is not a ksqlDB row or message",
        ),
        ("delimited", METADATA + b'\n{"x":1}\n', "row 1: a line of the response is of no known kind"),
        ("json_array", b"<html>", "not one array of rows and messages: '<html>'"),
        ("json_array", b"[" + METADATA + b",7,[1]]", "row 1: the response is not one array"),
        ("json_array", b"[" + METADATA + b',"x"]', "not one array of rows and messages"),
        ("json_array", b"[" + METADATA + b"] []", "not one array of rows and messages"),
        ("json_array", b"[" + METADATA + b",[1}]", "row 1: an element of the response is not a ksqlDB row"),
        ("json_array", b"[" + METADATA + b',{"x":1}]', "an element of the response is of no known kind"),
        ("json_array", b"{}", "not one array of rows and messages"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_bytes_that_no_ksqldb_sends_are_refused(writer: str, body: bytes, text: str, *, bytewise: bool) -> None:
    """Foreign bytes are named with the row they stand at, in one piece or byte by byte."""
    chunks = split(body, range(len(body))) if bytewise else [body]
    shown = text if not bytewise else text.split(": '", maxsplit=1)[0]
    with pytest.raises(ProtocolError) as caught:
        read(chunks, kind=QueryKind.PULL_TABLE, writer=writer)
    assert shown in str(caught.value)


def test_metadata_with_more_names_than_types_is_refused() -> None:
    """Columns and types that do not pair up stop the read."""
    with pytest.raises(ProtocolError, match="the response names 2 columns and 1 types"):
        DelimitedParser(QueryKind.PUSH).feed(b'{"columnNames":["A","B"],"columnTypes":["STRING"]}\n')


def test_an_element_beyond_the_limit_is_refused() -> None:
    """Memory stays bounded in the array form too."""
    parser = JsonArrayParser(QueryKind.PULL_TABLE, max_element=100)
    parser.feed(b"[" + METADATA)
    with pytest.raises(ProtocolError, match="row 1: an element of the response is longer than 100 bytes"):
        parser.feed(b',["' + b"x" * 100)

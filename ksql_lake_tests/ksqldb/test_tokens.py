"""Continuation tokens: what the client makes, what it reads, and what it sends with them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.tokens import Span, decode_token, encode_token
from ksql_lake.ksqldb.wire.answer_events import Event, RowBlock, Token
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.recorded import recording
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.ksqldb.conftest import info

FROM_START = recording("tokens: from the start of both partitions, 20 rows")


def test_a_token_is_the_one_that_a_running_server_took() -> None:
    """The client writes the very bytes with which the recordings were made."""
    assert encode_token([0, 0]) == "eyJlIjp7Im8iOlswLDBdfSwidiI6MH0="
    assert encode_token([7, 8]) == base64.b64encode(b'{"e":{"o":[7,8]},"v":0}').decode()


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), min_size=1, max_size=4))
def test_a_token_of_a_batch_says_from_where_to_where(pairs: list[tuple[int, int]]) -> None:
    """Whatever the offsets, what a server writes is read back, and the records between are counted."""
    start, end = [min(pair) for pair in pairs], [max(pair) for pair in pairs]
    text = json.dumps({"s": {"o": start}, "e": {"o": end}, "v": 0})

    span = decode_token(base64.b64encode(text.encode()).decode())

    assert span == Span(tuple(start), tuple(end))
    assert span.records == sum(end) - sum(start)
    assert span.moved == tuple(number for number, (a, b) in enumerate(pairs) if a != b)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("%%%", "not base64"),
        ({"e": {"o": [1]}, "v": 0}, "it lacks its first or last offsets"),
        ({"s": {"o": [1]}, "e": {"o": [2]}, "v": 1}, "is of version 1"),
        ({"s": {"o": [1]}, "e": {"o": [2]}}, "is of version -1"),
        ({"s": {"o": [2]}, "e": {"o": [1]}, "v": 0}, "are no offsets of records"),
        ({"s": {"o": [-1]}, "e": {"o": [1]}, "v": 0}, "are no offsets of records"),
        ({"s": {"o": [1]}, "e": {"o": [1, 2]}, "v": 0}, "are no offsets of records"),
    ],
)
def test_a_token_that_says_less_is_refused(body: object, why: str) -> None:
    """Nothing is guessed of a token of another form: its batch counts as broken."""
    text = body if isinstance(body, str) else base64.b64encode(json.dumps(body).encode()).decode()

    with pytest.raises(ProtocolError, match=why):
        decode_token(text)


def test_a_query_from_offsets_carries_the_measured_properties_and_no_others() -> None:
    """JSON booleans, no older writer, no session: with these the recorded server heeded the token."""
    with ScriptedServer() as server:
        server.script("/info", answer(info("8.0.7")))
        server.script("/query", FROM_START.script())
        with (
            KsqlClient(load_settings(ksqldb_url=server.url)) as client,
            client.listen_from(FROM_START.sql, [0, 0]) as listening,
        ):
            pieces: list[Event] = []
            while not any(isinstance(piece, Token) for piece in pieces):
                heard = listening.next(5)
                assert heard is not None
                pieces.append(heard)
            header = listening.header
        sent = server.asked("/query")[0].json

    assert sent["streamsProperties"] == FROM_START.properties
    assert sent["requestProperties"] == {
        "request.ksql.query.push.continuation.token": "eyJlIjp7Im8iOlswLDBdfSwidiI6MH0="
    }
    assert (header.query_id or "").startswith("SCALABLE_PUSH_QUERY_")
    assert sum(piece.count for piece in pieces if isinstance(piece, RowBlock)) == 20
    (token,) = [piece for piece in pieces if isinstance(piece, Token)]
    assert decode_token(token.value) == Span((0, 0), (11, 9))

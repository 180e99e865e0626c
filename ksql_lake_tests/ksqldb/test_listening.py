"""Promises about push queries: pieces as they come, silence noticed, and always ended on the server."""

from __future__ import annotations

import logging
import threading

import msgspec
import pytest

from ksql_lake.errors import IncompleteResponseError, PropertyRefusedError, ProtocolError, QueryFailedError
from ksql_lake.ksqldb import KsqlClient, Position, RowBlock, query_positions
from ksql_lake.ksqldb.listening import Listening
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake.ksqldb.wire.answer_events import Event
from ksql_lake_tests.fakes.scripted_server import SILENCE, Script, ScriptedServer, Wait, answer, chunked
from ksql_lake_tests.ksqldb.conftest import BOOM, DONE, HEADER, OLD, ROW, generic, info

SQL = "SELECT A FROM S EMIT CHANGES;"
PATIENCE = 30.0


def expect(listening: Listening) -> Event:
    """The next piece, which must come."""
    piece = listening.next(PATIENCE)
    assert piece is not None
    return piece


def test_silence_is_noticed_and_ends_nothing(server: ScriptedServer, client: KsqlClient) -> None:
    """While the server is silent `next` returns None each time; leaving ends the query there."""
    server.script("/info", answer(info(OLD)))
    server.script("/query", chunked(HEADER, ROW, SILENCE))
    server.script("/close-query", answer(b""))
    with client.listen(SQL) as listening:
        assert expect(listening) == RowBlock(ROW[:-2], 1, 0)
        assert [listening.next(0.01) for _ in range(3)] == [None, None, None]
    assert [request.json for request in server.asked("/close-query")] == [{"queryId": "transient_S_1"}]
    assert server.asked("/query")[0].client_left.wait(PATIENCE)


def test_what_was_on_its_way_is_given_after_the_end_was_asked_for(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Rows that the server sends before its last word are not lost, and its last word is no error then."""
    server.script("/info", answer(info(OLD)))
    server.script("/query", chunked(HEADER, ROW, ROW, DONE))
    server.script("/close-query", answer(b""))
    with client.listen(SQL) as listening:
        pieces = [piece for piece in listening.rest() if isinstance(piece, RowBlock)]
    assert sum(piece.count for piece in pieces) == 2
    assert len(server.asked("/close-query")) == 1


@pytest.mark.parametrize(
    ("steps", "end", "error", "text"),
    [
        ((HEADER, ROW, DONE), True, IncompleteResponseError, "the server closed the query after 1 row"),
        ((HEADER, ROW, BOOM), True, QueryFailedError, "boom"),
        ((HEADER, ROW, b'{"row":'), False, IncompleteResponseError, "cut off"),
        ((HEADER, ROW, b"]\n"), True, IncompleteResponseError, "without the mark of a complete one"),
        ((HEADER, ROW, b"nonsense\n"), True, ProtocolError, "not a ksqlDB row"),
    ],
    ids=["closed", "failed", "cut", "legacy-stop", "foreign"],
)
def test_an_end_that_nobody_asked_for_is_an_error(
    server: ScriptedServer,
    client: KsqlClient,
    steps: tuple[bytes, ...],
    end: bool,
    error: type[Exception],
    text: str,
) -> None:
    """A server that stops in the middle is distinguished from one that was asked to."""
    server.script("/query", chunked(*steps, end=end))
    server.script("/close-query", answer(b""))
    with client.listen(SQL) as listening, pytest.raises(error, match=text):
        all(expect(listening) for _ in range(3))


def test_a_break_after_the_end_was_asked_for_is_an_error_all_the_same(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Rows may have been lost with the connection, so what came is not taken for all."""
    server.script("/info", answer(info(OLD)))
    server.script("/query", chunked(HEADER, ROW, b'{"row":', end=False))
    server.script("/close-query", answer(b""))
    with client.listen(SQL) as listening, pytest.raises(IncompleteResponseError):
        list(listening.rest())


WRONG_CONTEXT = (
    "On wrong context or worker, expected: io.vertx.core.impl.DuplicatedContext@1a2b got: "
    "io.vertx.core.impl.DuplicatedContext@3c4d"
)
"""Constructed after what several releases answer when another connection ends a query."""


def test_a_query_that_cannot_be_ended_is_read_to_silence_and_dropped(
    server: ScriptedServer, client: KsqlClient, caplog: pytest.LogCaptureFixture
) -> None:
    """With the newer writer of some releases ending a query fails; what was on its way still comes."""
    later = threading.Event()

    def refuse(_: object) -> Script:
        later.set()
        return answer(generic(50000, WRONG_CONTEXT), 500)

    server.script("/info", answer(info("7.5.1")))
    server.choose("/close-query", refuse)
    server.script("/query", chunked(HEADER, ROW, Wait(later), ROW, ROW, SILENCE))
    client.learn(PropertyRefusedError("refused", names=(LEGACY_WRITER,)))
    with client.listen(SQL) as listening, caplog.at_level(logging.WARNING):
        assert not listening.sent.legacy
        first = expect(listening)
        rest = [piece for piece in listening.rest() if isinstance(piece, RowBlock)]
    assert isinstance(first, RowBlock)
    assert first.count + sum(piece.count for piece in rest) == 3
    assert len(server.asked("/close-query")) == 1
    assert server.asked("/query")[0].client_left.wait(PATIENCE)
    assert any("query transient_S_1 cannot be ended" in line for line in caplog.messages)


def test_a_query_of_the_older_writer_ends_with_its_connection(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """What has arrived is returned, no request ends the query, and leaving hangs up at once."""
    server.script("/query", chunked(HEADER, ROW, ROW, b"\n", SILENCE))
    with client.listen(SQL) as listening:
        assert listening.sent.legacy
        first = expect(listening)
        while listening.bytes_read < len(HEADER + ROW + ROW + b"\n"):
            threading.Event().wait(0.01)
        rest = [piece for piece in listening.rest() if isinstance(piece, RowBlock)]
    assert isinstance(first, RowBlock)
    assert first.count + sum(piece.count for piece in rest) == 2
    assert server.asked("/query")[0].client_left.wait(PATIENCE)
    assert [request.path for request in server.requests] == ["/info", "/query"]


def described(*queries: tuple[str, list[tuple[str, int, int, int]]]) -> bytes:
    """The answer to SHOW QUERIES EXTENDED."""
    entities = [
        {
            "id": name,
            "queryType": "PUSH",
            "tasksMetadata": [
                {
                    "taskId": "0_0",
                    "topicOffsets": [
                        {
                            "topicPartitionEntity": {"topic": topic, "partition": partition},
                            "endOffset": end,
                            "committedOffset": committed,
                        }
                    ],
                }
                for topic, partition, end, committed in offsets
            ],
        }
        for name, offsets in queries
    ]
    return msgspec.json.encode([{"@type": "query_descriptions", "queryDescriptions": entities, "warnings": []}])


def test_positions_are_those_of_the_query_in_its_own_topic(server: ScriptedServer, client: KsqlClient) -> None:
    """Other queries and a query's own topics count for nothing; ends lie behind the newest record."""
    other = ("transient_S_2", [("s", 0, 9, 9)])
    ours = ("transient_S_1", [("s", 0, 6, 5), ("s", 1, -1, -1), ("s", 2, 6, 7), ("s-repartition", 0, 3, 3)])
    server.script("/ksql", answer(described(other, ours)))
    found = query_positions(client, "transient_S_1", topic="s")
    assert found == {0: Position(7, 5), 1: Position(-1, -1), 2: Position(7, 7)}
    assert [(part.known, part.caught_up) for part in found.values()] == [
        (True, False),
        (False, True),
        (True, True),
    ]


@pytest.mark.parametrize(
    "told",
    [
        answer(described(("transient_S_2", [("s", 0, 9, 9)]))),
        answer(b'[{"@type":"query_descriptions","queryDescriptions":[{"id":"transient_S_1"}]}]'),
        answer(generic(40001, "no such statement"), 400),
        answer(generic(40300, "not allowed"), 403),
        answer(b'[{"@type":"queries","queries":[]}]'),
        answer(b'[{"@type":"query_descriptions","queryDescriptions":{"transient_S_1":{}}}]'),
        answer(b"[]"),
        answer(b"<html>"),
    ],
    ids=["not-listed", "old", "unknown-statement", "forbidden", "other", "reshaped", "nothing", "no-json"],
)
def test_a_server_that_does_not_tell_is_no_error(
    server: ScriptedServer, client: KsqlClient, told: object
) -> None:
    """None means: judge in another way."""
    server.script("/ksql", told)  # type: ignore[arg-type]
    assert query_positions(client, "transient_S_1", topic="s") is None

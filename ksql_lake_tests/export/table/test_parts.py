"""Promises about a table read partition by partition, node by node: recorded nodes, and nodes that fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from ksql_lake.errors import IncompleteResponseError, NotHereError, ProtocolError, QueryFailedError, Recovery
from ksql_lake.export.table.parts import Parts
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.fakes.recorded import recording
from ksql_lake_tests.fakes.scripted_server import SILENCE, Request, Script, ScriptedServer, answer, chunked
from ksql_lake_tests.ksqldb.conftest import generic, info

SQL = "SELECT K,N,ID,V FROM CL_T WHERE ID < 40"
HEADER = b'[{"header":{"queryId":"query_1","schema":"`K` STRING KEY, `N` BIGINT"}},\n'
ELSEWHERE = (
    b'{"errorMessage":{"@type":"generic_error","error_code":50000,"message":"Unable to execute pull query: '
    b"io.confluent.ksql.util.KsqlException: Error executing query locally at node http://x/: Failed to scan "
    b'materialized table"}}]\n'
)
"""Constructed after a recorded one."""


def partition_of(request: Request) -> int:
    """Which partition a request asks for; it must ask for no forwarding."""
    asked = request.json["requestProperties"]
    assert asked["request.ksql.query.pull.skip.forwarding"] is True
    assert isinstance(asked["request.ksql.query.pull.partition"], str)
    return int(asked["request.ksql.query.pull.partition"])


def recorded_node(node: str, suffix: str) -> Callable[[Request], Script]:
    """A node that answers each partition as it was recorded."""
    return lambda request: recording(
        f"node {node}, partition {partition_of(request)}, no forwarding{suffix}"
    ).script()


def rows(*keys: str) -> bytes:
    """Rows of the constructed table, a comma between them."""
    return b",\n".join(b'{"row":{"columns":["%b",1]}}' % key.encode() for key in keys)


def holding(parts: dict[int, Script]) -> Callable[[Request], Script]:
    """A node that holds some partitions, and says of all others that it does not."""
    return lambda request: parts.get(partition_of(request), chunked(HEADER, ELSEWHERE))


@contextmanager
def nodes(
    *answers: Callable[[Request], Script],
) -> Iterator[tuple[list[ScriptedServer], dict[str, KsqlClient]]]:
    """Nodes with a client each; all clients know of the same refused properties, as those of one service do."""
    servers: list[ScriptedServer] = []
    clients: dict[str, KsqlClient] = {}
    with ScriptedServer() as first, ScriptedServer() as second:
        for server, choice in zip((first, second), answers, strict=False):
            server.script("/info", answer(info("8.0.7")))
            server.choose("/query", choice)
            servers.append(server)
            known = next(iter(clients.values())).properties if clients else None
            settings = Settings(ksqldb_url=server.url, attempts=1)
            clients[server.url] = KsqlClient(settings, properties=known)
        yield servers, clients
        for client in clients.values():
            client.close()


def read(parts: Parts) -> list[list[Any]]:
    """Everything, as rows; their numbers must go on from part to part."""
    found: list[list[Any]] = []
    parts.open()
    try:
        for block in parts:
            assert block.first_row == len(found)
            found += [row["row"]["columns"] for row in json.loads(b"[" + bytes(block.data) + b"]")]
    finally:
        parts.close()
    return found


def plain(found: Sequence[object]) -> list[str]:
    """Rows in an order of their own."""
    return sorted(json.dumps(row) for row in found)


def test_the_parts_of_two_recorded_nodes_are_the_whole_table() -> None:
    """Recorded with default settings: eight partitions, each held by one of two nodes, 40 rows together."""
    suffix = " (lag reporting off)"
    with nodes(recorded_node("A", suffix), recorded_node("B", suffix)) as (_, clients):
        parts = Parts(SQL, clients, range(8))
        found = read(parts)
    assert plain(found) == plain(recording("whole table through node A (lag reporting off)").rows)
    first, second = clients
    assert parts.answered == {number: first if number % 2 else second for number in range(8)}
    assert parts.legacy


def test_a_refusal_with_lag_reporting_means_the_same() -> None:
    """Recorded with lag reporting: a node that does not hold a partition refuses with 400."""
    with nodes(recorded_node("A", ""), recorded_node("B", "")) as (_, clients):
        parts = Parts(SQL, clients, range(4))
        found = read(parts)
    suffix = " (lag reporting off)"
    wanted = [
        row
        for node, numbers in (("A", (1, 3)), ("B", (0, 2)))
        for number in numbers
        for row in recording(f"node {node}, partition {number}, no forwarding{suffix}").rows
    ]
    assert plain(found) == plain(wanted)
    assert len(found) == 20


def test_every_partition_is_asked_for_at_the_older_writer_alone() -> None:
    """The newer one says of a partition that it does not hold: no rows, complete."""
    with nodes(holding({0: chunked(HEADER, rows("a"), b"]")}), holding({1: chunked(HEADER, b"]")})) as (
        servers,
        clients,
    ):
        parts = Parts(SQL, clients, range(2))
        assert read(parts) == [["a", 1]]
    asked = [request.json["streamsProperties"] for server in servers for request in server.asked("/query")]
    assert asked
    assert all(properties == {LEGACY_WRITER: False} for properties in asked)


def test_a_partition_that_no_node_holds_is_an_error_with_what_each_said() -> None:
    """All nodes refuse: nothing is taken for empty, and the table is read again from its first step."""
    with nodes(holding({0: chunked(HEADER, rows("a"), b"]")}), holding({})) as (servers, clients):
        with pytest.raises(NotHereError) as caught:
            read(Parts(SQL, clients, range(2)))
        for server in servers:
            assert f"{server.url}: " in caught.value.message
    assert caught.value.message.startswith("no node answers for partition 1 of the table: ")
    assert "Failed to scan materialized table" in caught.value.message
    assert caught.value.recovery is Recovery.RETRY


def test_a_first_partition_that_no_node_holds_is_the_same_error() -> None:
    """It is noticed when the reading is opened, before anything is written."""
    with nodes(holding({}), holding({})) as (_, clients), pytest.raises(NotHereError, match="partition 0"):
        Parts(SQL, clients, range(2)).open()


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (answer(generic(50302, "KSQL is not yet ready to serve requests."), 503), "not yet ready"),
        (
            answer(generic(40001, "KafkaStreams is not running. State is PENDING_SHUTDOWN."), 400),
            "PENDING_SHUTDOWN",
        ),
        (answer(generic(40001, "The `CL_T` table isn't queryable."), 400), "isn't queryable"),
        (Script([]), "hung up"),
    ],
    ids=["starting", "stopping", "orphaned", "killed"],
)
def test_a_node_that_is_going_or_coming_does_not_answer_for_its_partitions(refusal: Script, text: str) -> None:
    """Its partitions are asked of the other node; if that does not hold them the reading fails."""
    whole = {number: chunked(HEADER, rows(f"k{number}"), b"]") for number in range(4)}
    with nodes(lambda _: refusal, holding(whole)) as (_, clients):
        assert len(read(Parts(SQL, clients, range(4)))) == 4
    half = {number: whole[number] for number in (0, 2)}
    with nodes(lambda _: refusal, holding(half)) as (_, clients):
        with pytest.raises(NotHereError, match="no node answers for partition 1") as caught:
            read(Parts(SQL, clients, range(4)))
        assert text in caught.value.message


def test_a_node_that_is_not_there_at_all_is_passed_over() -> None:
    """Connection refused counts as not here."""
    whole = {number: chunked(HEADER, rows(f"k{number}"), b"]") for number in range(4)}
    with nodes(holding(whole)) as (_, clients):
        gone = KsqlClient(Settings(ksqldb_url=f"http://127.0.0.1:{free_port()}", attempts=1, read_timeout=5))
        with gone:
            assert len(read(Parts(SQL, {"gone": gone, **clients}, range(4)))) == 4


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (chunked(HEADER, rows("b") + b",\n", ELSEWHERE), NotHereError),
        (
            chunked(
                HEADER,
                rows("b") + b",\n",
                ELSEWHERE.replace(b"Error executing query locally", b"RuntimeException").replace(
                    b"Failed to scan materialized table", b"boom"
                ),
            ),
            QueryFailedError,
        ),
        (chunked(HEADER, rows("b") + b",\n", end=False), IncompleteResponseError),
        (chunked(HEADER, rows("b")), IncompleteResponseError),
    ],
    ids=["moved", "failed", "cut", "no bracket"],
)
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_part_that_fails_in_its_middle_fails_the_whole(
    script: Script, error: type[Exception], number: int
) -> None:
    """Rows of a part that ended with an error are never kept beside those of others, nor requested again."""
    whole = {part: chunked(HEADER, rows(f"k{part}"), b"]") for part in range(4)}
    with nodes(holding({**whole, number: script}), holding({})) as (_, clients), pytest.raises(error):
        read(Parts(SQL, clients, range(4)))


def test_nodes_that_describe_the_table_differently_are_refused() -> None:
    """A table that is replaced while it is read has no rows of both."""
    other = chunked(HEADER.replace(b"`N` BIGINT", b"`M` BIGINT"), rows("b"), b"]")
    parts = {0: chunked(HEADER, rows("a"), b"]"), 1: other}
    with (
        nodes(holding(parts)) as (_, clients),
        pytest.raises(ProtocolError, match="describe the table differently"),
    ):
        read(Parts(SQL, clients, range(2)))


def test_a_node_that_has_no_older_writer_is_not_believed() -> None:
    """Where one node refuses the property, its newer writer would call a partition of another node empty."""

    def newer(request: Request) -> Script:
        if LEGACY_WRITER in request.json["streamsProperties"]:
            return answer(
                generic(40000, f"overrides: properties overrides set locally are prohibited [{LEGACY_WRITER}]"),
                400,
            )
        return chunked(HEADER, b"]")

    held = {0: chunked(HEADER, rows("a"), b"]"), 1: chunked(HEADER, rows("b"), b"]")}
    with nodes(holding(held), newer) as (_, clients):
        with pytest.raises(NotHereError, match="refuses the writer that reports what it does not hold"):
            read(Parts(SQL, clients, range(2)))
        # From then on it is known, and whoever opens the parts sees that they would prove nothing.
        parts = Parts(SQL, clients, range(2))
        parts.open()
        assert not parts.legacy
        parts.close()


def test_leaving_early_lets_go_of_every_connection() -> None:
    """Also of parts that were asked for ahead."""
    endless = {number: chunked(HEADER, rows(f"k{number}") + b",\n", SILENCE) for number in range(6)}
    with nodes(holding(endless)) as (servers, clients):
        parts = Parts(SQL, clients, range(6))
        parts.open()
        blocks = iter(parts)
        assert next(blocks).count == 1
        parts.close()
        for request in servers[0].asked("/query"):
            assert request.client_left.wait(30)

"""Promises about a service's nodes: each is reached by itself, or it is said why not; who gets credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.nodes import Nodes
from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.fakes.scripted_server import SILENCE, Script, ScriptedServer, answer
from ksql_lake_tests.ksqldb.conftest import MakeClient, info

SIGNED = {"ksqldb_user": "ada", "ksqldb_password": "long secret"}


def host(server: ScriptedServer) -> str:
    """A node as it advertises itself."""
    return f"127.0.0.1:{server.port}"


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """A second node of the same service."""
    with ScriptedServer() as running:
        running.script("/info", answer(info()))
        yield running


def test_one_node_is_the_client_itself(server: ScriptedServer, client: KsqlClient) -> None:
    """Behind an address with one node there is no other node to ask, whatever that node calls itself."""
    with Nodes(client) as nodes:
        reached = nodes.reach(["ksqldb-0.internal:8088"])
    assert list(reached.clients.values()) == [client]
    assert server.requests == []


def test_advertised_nodes_are_asked_by_themselves(
    server: ScriptedServer, other: ScriptedServer, client: KsqlClient
) -> None:
    """Each node gets a client of its own, which shares what is known of refused properties."""
    with Nodes(client) as nodes:
        reached = nodes.reach([host(server), host(other)])
        again = nodes.reach([host(server), host(other)])
    assert set(reached.clients) == {server.url, other.url}
    assert reached.reason == ""
    assert all(node.properties is client.properties for node in reached.clients.values())
    assert again.clients == reached.clients
    assert len(other.asked("/info")) == 1


@pytest.mark.parametrize(
    "script", [None, Script([]), answer(b"<html>", 502)], ids=["refused", "hang-up", "proxy"]
)
def test_a_node_that_cannot_be_asked_leaves_none(
    server: ScriptedServer, client: KsqlClient, script: Script | None
) -> None:
    """A part of the nodes is no use: either all can be asked, or it is said which one cannot, and why."""
    with ScriptedServer() as broken:
        if script is not None:
            broken.script("/info", script)
        address = host(broken) if script is not None else f"127.0.0.1:{free_port()}"
        with Nodes(client) as nodes:
            reached = nodes.reach([host(server), address])
        assert reached.clients == {}
        assert reached.reason.startswith(f"the node http://{address} cannot be asked from here: ")
        # One try: a table is read in another way, and not after minutes of waiting.
        assert len(broken.asked("/info")) == (script is not None)


def test_a_silent_node_is_given_up_after_the_read_timeout(
    server: ScriptedServer, other: ScriptedServer, make_client: MakeClient
) -> None:
    """It is one try, and the reason names it."""
    other.script("/info", Script([SILENCE]))
    with Nodes(make_client(server.url, read_timeout=0.5)) as nodes:
        assert "no answer within 0.5 s" in nodes.reach([host(server), host(other)]).reason


def test_a_node_of_another_service_is_not_asked(
    server: ScriptedServer, other: ScriptedServer, client: KsqlClient
) -> None:
    """An address that leads to another cluster must not add its rows."""
    foreign = json.loads(info())
    foreign["KsqlServerInfo"]["ksqlServiceId"] = "staging_"
    other.script("/info", answer(json.dumps(foreign).encode()))
    with Nodes(client) as nodes:
        reached = nodes.reach([host(server), host(other)])
    assert (reached.clients, reached.reason) == (
        {},
        f"the node {other.url} belongs to another service, staging_",
    )


def test_named_nodes_take_the_place_of_advertised_ones(
    server: ScriptedServer, other: ScriptedServer, make_client: MakeClient
) -> None:
    """KSQLDB_NODES is for advertised addresses that lead nowhere from here."""
    client = make_client(server.url, nodes=f"{server.url}, {other.url}/")
    with Nodes(client) as nodes:
        reached = nodes.reach(["ksqldb-0.internal:8088", "ksqldb-1.internal:8088"])
    assert set(reached.clients) == {server.url, other.url}


def test_fewer_named_nodes_than_there_are_leave_none(server: ScriptedServer, make_client: MakeClient) -> None:
    """A node that is not named may hold partitions."""
    with Nodes(make_client(server.url, nodes=server.url)) as nodes:
        reached = nodes.reach(["b:8088", "a:8088"])
    assert reached.clients == {}
    assert reached.reason == "KSQLDB_NODES names 1 of the 2 nodes (a:8088, b:8088)"


@pytest.mark.parametrize(
    ("advertised", "more", "signed"),
    [
        ("{host}", {}, True),
        ("http://{host}", {}, True),
        ("{host}", {"nodes": "{url},{other}"}, True),
    ],
    ids=["host and port", "same scheme", "named"],
)
def test_credentials_go_to_nodes_of_the_same_scheme_and_to_named_ones(
    server: ScriptedServer,
    other: ScriptedServer,
    make_client: MakeClient,
    advertised: str,
    more: dict[str, str],
    signed: bool,
) -> None:
    """Whoever answers where the service says that a node is gets what KSQLDB_URL gets."""
    named = {key: value.format(url=server.url, other=other.url) for key, value in more.items()}
    with Nodes(make_client(server.url, **SIGNED, **named)) as nodes:
        assert nodes.reach([host(server), advertised.format(host=host(other))]).clients
    assert ("authorization" in other.requests[0].headers) is signed


@pytest.mark.parametrize("trusted", [False, True])
def test_credentials_go_to_another_scheme_only_where_that_is_allowed(
    other: ScriptedServer, make_client: MakeClient, *, trusted: bool
) -> None:
    """A service behind https that advertises http would otherwise send passwords in the clear."""
    client = make_client(f"https://localhost:{free_port()}", trust_advertised=trusted, attempts=1, **SIGNED)
    with Nodes(client) as nodes:
        # KSQLDB_URL itself is not there, which is the reason; the advertised node was asked before that.
        assert nodes.reach([f"http://{host(other)}", "http://127.0.0.1:9"]).clients == {}
    (request,) = other.requests
    assert ("authorization" in request.headers) is trusted

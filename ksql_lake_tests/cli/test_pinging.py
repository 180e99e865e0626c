"""`ksql-lake ping`: what it says of a server that works, one that limits, and one that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ksql_lake.devserver.process import DevCluster, DevServer
from ksql_lake_tests.cli.conftest import Cli

SMALL = ("--sample-rows", "300", "--sample-days", "2")


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    """A server that refuses nothing, and may be continued."""
    setting = "ksql.query.push.v2.registry.installed=true"
    with DevServer.start(sample=True, arguments=[*SMALL, "--setting", setting]) as started:
        yield started


def _findings(cli: Cli, code: int = 0) -> dict[str, dict[str, str]]:
    said = cli("ping", "--json")
    assert said.code == code, said.out + said.err
    told = json.loads(said.out)
    assert told["works"] is (code == 0)
    return {finding["name"]: finding for finding in told["findings"]}


def test_a_server_that_refuses_nothing(cli: Cli, server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything works, and each finding says what was found; exit code 0."""
    monkeypatch.setenv("KSQLDB_URL", server.url)

    found = _findings(cli)
    said = cli("ping")

    assert {finding["state"] for finding in found.values()} == {"works"}
    assert found["version"]["text"].startswith("0.29.0, service ")
    assert found["sources"]["text"] == "4 streams and 4 tables; pull queries can read all of them"
    assert found["streams"]["text"] == "a row of CARD_AUTHORIZATIONS came whole"
    assert found["nodes"]["text"] == f"1 node, reached from here: {server.url}"
    assert found["tables' evidence"]["text"].startswith("proven")
    assert found["only new rows"]["text"].startswith("possible")
    assert said.code == 0
    assert said.out.startswith(f"ok      server: {server.url} answers, without TLS; no credentials are sent\n")
    assert said.out.endswith(f"\nExports from {server.url} can run.\n")


def test_what_the_server_refuses_is_named_with_what_it_costs(
    cli: Cli, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused property is a limit, with its name and the fix; exports can run, so the exit code stays 0."""
    monkeypatch.setenv("KSQLDB_URL", server.url)
    server.set_faults(
        {"kind": "prohibit", "property": "ksql.endpoint.migrate.query"},
        {"kind": "prohibit", "property": "ksql.streams.consumer.isolation.level"},
    )
    try:
        found = _findings(cli)
    finally:
        server.set_faults()

    assert found["properties"]["state"] == "limited"
    assert "ksql.endpoint.migrate.query: failed answers may end like whole ones" in found["properties"]["text"]
    assert found["streams"]["state"] == "limited"
    assert "isolation" in found["streams"]["text"]
    assert found["tables' evidence"]["text"].startswith("checked")


def test_credentials_that_are_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that wants credentials is no success: exit code 1, and which variables to set."""
    with DevServer.start(sample=True, arguments=[*SMALL, "--user", "me:secret"]) as closed:
        monkeypatch.setenv("KSQLDB_URL", closed.url)
        refused = cli("ping")
        monkeypatch.setenv("KSQLDB_USER", "me")
        monkeypatch.setenv("KSQLDB_PASSWORD", "secret")
        accepted = cli("ping")

    assert refused.code == 1
    assert "No credentials were sent; set KSQLDB_USER and KSQLDB_PASSWORD, or KSQLDB_TOKEN." in refused.out
    assert f"Nothing can be exported from {closed.url} until this is corrected: " in refused.out
    assert accepted.code == 0
    assert "the user me is sent" in accepted.out
    assert "secret" not in accepted.out + accepted.err


def test_an_old_release_and_no_sources(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.23 streams need push queries, and nothing can be continued; an empty server is no failure."""
    with DevServer.start(arguments=["--server-version", "0.22.0"]) as old:
        monkeypatch.setenv("KSQLDB_URL", old.url)
        found = _findings(cli)

    assert found["version"]["state"] == "limited"
    assert "pull queries on streams came with ksqlDB 0.23" in found["version"]["text"]
    assert (
        found["sources"]["text"] == "the server has no stream and no table, so there is nothing to export yet"
    )
    assert found["only new rows"]["fix"] == "Use a newer server."
    assert (found["tables' evidence"]["state"], found["tables' evidence"]["text"][:8]) == (
        "limited",
        "checked:",
    )


def test_each_node_is_tried(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that advertise themselves are asked one by one; KSQLDB_NODES that leaves one out is named."""
    with DevCluster.start(2, sample=True, arguments=SMALL) as cluster:
        monkeypatch.setenv("KSQLDB_URL", cluster.urls[0])
        both = _findings(cli)
        monkeypatch.setenv("KSQLDB_NODES", cluster.urls[0])
        one = _findings(cli)

    assert both["nodes"]["text"].startswith("2 nodes, reached from here: ")
    assert one["nodes"]["state"] == "limited"
    assert one["nodes"]["text"].startswith("KSQLDB_NODES names 1 of the 2 nodes")
    assert one["tables' evidence"]["state"] == "limited"


def test_nobody_there_and_wrong_settings(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is exit code 1, valid JSON all the same; a wrong variable is 2."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    found = _findings(cli, code=1)
    monkeypatch.setenv("KSQLDB_URL", "ftp://somewhere")
    wrong = cli("ping")

    assert list(found) == ["server"]
    assert found["server"]["state"] == "fails"
    assert "set KSQLDB_URL to its address" in found["server"]["fix"]
    assert wrong.code == 2
    assert "KSQLDB_URL: must start with http:// or https://" in wrong.err

"""What has to hold so that a stream can be read on, and what is said where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export.continuing import check_conditions
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings
from ksql_lake_tests.export.continuing.scene import Scene
from ksql_lake_tests.export.push.server import Server, held, row


@pytest.fixture
def scene(server: Server, request: pytest.FixtureRequest) -> Scene:
    """A source and its derived stream of this test's own, with four rows."""
    scene = Scene(f"C{abs(hash(request.node.name)) % 10**9}")
    scene.create(server)
    server.append(scene.source, *(row(number) for number in range(4)))
    return scene


def unmet(url: str, feed: StreamFeed) -> dict[str, str]:
    """The conditions that do not hold, with their explanations."""
    with KsqlClient(load_settings(ksqldb_url=url, attempts=1)) as client:
        return {found.name: found.text for found in check_conditions(feed, client) if not found.met}


def test_a_prepared_stream_meets_every_condition(server: Server, scene: Scene) -> None:
    """Each is said in words, the release with what was measured."""
    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        found = {condition.name: condition for condition in check_conditions(scene.feed(), client)}

    assert all(condition.met for condition in found.values()), found
    assert list(found) == ["release", "positions", "one query", "key", "ends", "token"]
    assert found["release"].text.endswith("tokens came with 0.24, and were measured on 8.0.7 only")
    assert found["positions"].text == f"P and O are the offsets of {scene.source}"


def test_columns_that_do_not_carry_the_offsets_are_named(server: Server, scene: Scene) -> None:
    """A column that is missing, of another type, or not the source's offset."""
    of = {"partition": "P"}
    assert unmet(server.url, scene.feed(positions={**of, "offset": "Q"}))["positions"].startswith(
        f"`positions` names Q, which in {scene.derived} does not exist"
    )
    assert "NOTE, which in" in unmet(server.url, scene.feed(positions={**of, "offset": "NOTE"}))["positions"]
    wrong = unmet(server.url, scene.feed(positions={**of, "offset": "ID"}))["positions"]
    assert "with ROWPARTITION AS P and ROWOFFSET AS ID" in wrong
    assert "feeds prepare" in wrong


def test_a_stream_without_a_query_of_its_own_cannot_be_read_on(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """No query writes the stream, or it does not run: the result says so, and the rows are pulled."""
    name = f"{scene.source}_PLAIN"
    server.ksql(f"CREATE STREAM {name} (ID BIGINT, P INT, O BIGINT) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1, "
                "VALUE_FORMAT='JSON');")  # fmt: skip
    server.append(name, {"ID": 1, "P": 0, "O": 0, "ROWTIME": row(1)["ROWTIME"]})
    feed = scene.feed(source=name, name=name.lower(), columns=["ID"])
    found = unmet(server.url, feed)

    assert found["one query"] == f"0 queries write {name}; it has to be exactly one, which runs"
    assert found["token"].startswith("the server ignored the token")
    assert server.export(tmp_path, feed, days=None).fell_back == found["positions"]
    assert held(tmp_path, feed) == {1: 1}


def test_a_stream_with_two_writers_cannot_be_read_on(server: Server, scene: Scene) -> None:
    """Rows of a second query would have offsets of another source."""
    server.ksql(
        f"INSERT INTO {scene.derived} SELECT STRUCT(P := ROWPARTITION, O := ROWOFFSET) AS K, ID, NOTE, "
        f"ROWPARTITION AS P, ROWOFFSET AS O FROM {scene.source} "
        "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET);"
    )

    assert unmet(server.url, scene.feed())["one query"] == (
        f"2 queries write {scene.derived}; it has to be exactly one, which runs"
    )


def test_a_server_without_the_setting_says_so_by_its_query(tmp_path: Path) -> None:
    """Such a server begins an ordinary query; validate explains the setting, and exports fall back."""
    with DevServer.start() as running:
        server, scene = Server(running.url), Scene("PLAINLY")
        scene.create(server)
        server.append(scene.source, *(row(number) for number in range(4)))
        found = unmet(running.url, scene.feed())
        first, second = (server.export(tmp_path, scene.feed(), days=None) for _ in range(2))

    assert list(found) == ["token"]
    assert "it has to run with ksql.query.push.v2.registry.installed=true" in found["token"]
    assert first.fell_back == ""  # in by the door, which needs no setting
    assert "registry.installed=true" in second.fell_back
    assert held(tmp_path, scene.feed()) == dict.fromkeys(range(4), 1)


def test_an_older_release_is_told(tmp_path: Path) -> None:
    """Before 0.24 there are no tokens; the feed is read by pull query, and says why."""
    with DevServer.start(arguments=["--server-version", "0.23.1"]) as running:
        server, scene = Server(running.url), Scene("OLD")
        scene.create(server)
        server.append(scene.source, *(row(number) for number in range(4)))
        found = unmet(running.url, scene.feed())
        result = server.export(tmp_path, scene.feed(), days=None)

    assert "use a newer server" in found["release"]
    assert result.fell_back == found["release"]
    assert held(tmp_path, scene.feed()) == dict.fromkeys(range(4), 1)

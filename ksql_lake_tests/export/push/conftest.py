"""One server process for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.export.push.server import Server


@pytest.fixture(scope="package")
def process() -> Iterator[DevServer]:
    """A server without sources."""
    with DevServer.start() as running:
        yield running


@pytest.fixture
def server(process: DevServer) -> Iterator[Server]:
    """The server; its faults are off again afterwards, and no query may run any more."""
    talk = Server(process.url)
    yield talk
    talk.faults()
    assert any(not talk.running() for _ in range(1000)), "a query still runs on the server"


@pytest.fixture
def old_server() -> Iterator[Server]:
    """A server from before pull queries on streams, offsets and reported positions."""
    with DevServer.start(arguments=["--server-version", "0.17.0"]) as running:
        yield Server(running.url)

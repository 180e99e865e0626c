"""One devserver with a small sample for all tests that only read; switches are put back after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import PATIENCE, Client

SAMPLE_ROWS = 2000


@pytest.fixture(scope="session")
def sample_server() -> Iterator[DevServer]:
    """A server with the sample."""
    with DevServer.start(sample=True, arguments=["--sample-rows", str(SAMPLE_ROWS)]) as server:
        yield server


@pytest.fixture
def client(sample_server: DevServer) -> Iterator[Client]:
    """A client of the shared server."""
    yield Client(sample_server.url)
    requests.delete(f"{sample_server.url}/devserver/faults", timeout=PATIENCE)

"""One server with orders for the tests of this package that only look at them, or add what they take away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import PATIENCE, Client
from ksql_lake_tests.devserver.nodes import SETUP, until
from ksql_lake_tests.export.orders import (
    KEYS,
    fill,
)


@pytest.fixture(scope="package")
def orders_process() -> Iterator[DevServer]:
    """A server with 60 orders and a table made of them."""
    with DevServer.start() as running:
        Client(running.url).ksql(SETUP)
        fill(running.url, KEYS)
        yield running


@pytest.fixture
def url(orders_process: DevServer) -> Iterator[str]:
    """The server's address; its faults are off again afterwards, and no query may be left on it."""
    yield orders_process.url
    requests.delete(f"{orders_process.url}/devserver/faults", timeout=PATIENCE).raise_for_status()
    until(lambda: not Client(orders_process.url).running())

"""One server that heeds tokens, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.export.continuing.scene import ARGUMENTS
from ksql_lake_tests.export.push.conftest import server

__all__ = ["process", "server"]


@pytest.fixture(scope="package")
def process() -> Iterator[DevServer]:
    """A server without sources."""
    with DevServer.start(arguments=ARGUMENTS) as running:
        yield running

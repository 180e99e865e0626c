"""What the lake's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksql_lake_tests.lake.crashing.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that has everything imported and forks a child for every task."""
    with Nursery() as nursery:
        yield nursery

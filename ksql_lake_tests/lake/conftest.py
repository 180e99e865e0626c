"""What the lake's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksql_lake.lake.storage import bucket
from ksql_lake_tests.lake.crashing.nursery import Nursery
from ksql_lake_tests.stores.proxy import Proxy, proxied
from ksql_lake_tests.stores.servers import Store


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that has everything imported and forks a child for every task."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def proxy(moto_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before moto, with the environment that leads through it and little patience."""
    monkeypatch.setitem(bucket._RETRY, "max_retries", 1)
    with proxied(moto_store.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running

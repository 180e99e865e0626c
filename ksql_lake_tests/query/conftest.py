"""The lake of tests that follow its changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake_tests.lake.landing import stream_feed, table_feed


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake whose feeds `events` and `users` have feed files."""
    for feed in (stream_feed(), table_feed(retention=2)):
        FeedStore(tmp_path / "feeds").add(feed)
    return Lake(tmp_path / "lake")

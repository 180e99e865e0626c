"""Exports while rows are appended, late ones too: each row lands once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pyarrow.dataset as ds
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.ksqldb import KsqlClient, QueryKind
from ksql_lake.settings import load_settings
from ksql_lake_tests.cli.conftest import Cli, Project


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> Iterator[DevServer]:
    """A server whose sample goes on, a row of each stream every few seconds."""
    arguments = ["--sample-at", "now", "--sample-live", "--sample-rows", "100000", "--sample-days", "1"]
    with DevServer.start(arguments=arguments) as server:
        monkeypatch.setenv("KSQLDB_URL", server.url)
        yield server


def _count() -> int:
    with (
        KsqlClient(load_settings()) as client,
        client.query("SELECT SESSION_ID FROM LOGIN_EVENTS;", kind=QueryKind.PULL_STREAM) as answer,
    ):
        return sum(block.count for block in answer)


def _wait_for_more(than: int) -> None:
    while _count() <= than:
        time.sleep(0.5)


def test_exports_lose_and_double_nothing_while_rows_arrive(
    project: Project, cli: Cli, living: DevServer
) -> None:
    """Exported twice while the server appends, a stream has every row that had arrived, once."""
    assert living.url
    today = datetime.now(UTC).date().isoformat()
    project.feed(
        {"name": "logins", "kind": "stream", "source": "LOGIN_EVENTS", "start_date": today, "lookback_days": 1}
    )
    before = _count()
    assert cli("export", "--all").code == 0
    first = project.rows("logins")
    _wait_for_more(first)
    least = _count()
    assert cli("export", "--all").code == 0

    found = ds.dataset(project.root / "data_lake" / "streams" / "logins", format="parquet", partitioning="hive")
    sessions = found.to_table(columns=["SESSION_ID"])["SESSION_ID"].to_pylist()
    assert before <= first < least <= len(sessions)
    # Rows are numbered in order of arrival, and a session is its number's digest.
    numbers = range(len(sessions))
    assert sorted(sessions) == sorted(
        hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest() for number in numbers
    )

"""A project folder with two streams and a table, over one real server process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.orchestration.project import Project, write_source_files


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """The embedded server with PAYMENTS (8 rows on five days of January), REFUNDS and TOTALS."""
    folder = tmp_path_factory.mktemp("sources")
    write_source_files(folder)
    with DevServer.start(data=folder) as running:
        yield running


@pytest.fixture
def project(server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A fresh project whose settings are in the environment, as they are for a person."""
    made = Project(tmp_path)
    made.write_feeds()
    for name, value in made.environment(server.url).items():
        monkeypatch.setenv(name, value)
    return made

"""What every test gets: an environment without the caller's settings, and skips that fail in CI."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest

from ksql_lake_tests.quick import (
    configure,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_ignore_collect,
    pytest_runtest_logstart,
)
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.servers import Store, moto, seaweedfs
from ksql_lake_tests.workers import pytest_xdist_auto_num_workers

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_ignore_collect",
    "pytest_runtest_logstart",
    "pytest_xdist_auto_num_workers",
]

REQUIRE_ALL = os.environ.get("KSQL_LAKE_TEST_REQUIRE_ALL") == "1"  # noqa: TID251 - tests have a switch of their own
SETTINGS = ("KSQLDB_", "KSQL_LAKE_", "DAGSTER_HOME", "DAGSTER_", "AWS_", "GOOGLE_", "AZURE_")

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
ROOM = 8 << 30
"""Free bytes from which on the tests' folders are in memory; a test run needs less than half."""


def pytest_configure(config: pytest.Config) -> None:
    """Let processes that tests start, and Dagster in this one, end on signals as at a prompt.

    A test run in the background ignores SIGINT, its children inherit that, and Dagster makes SIGTERM follow it.
    """
    configure(config)
    # Hundreds of processes import Dagster; without bytecode on the disk each compiles it, at twice the CPU.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - Python's own
    sys.dont_write_bytecode = False
    # Dagster's databases wait for the disk at every event, and so does the lake at every commit.
    if MEMORY.is_dir() and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # noqa: TID251 - pytest's own
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's settings out of every test and of the processes it starts."""
    for name in list(os.environ):  # noqa: TID251
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)
    # A test must never fall back to a developer's own server.
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    # What never comes is waited for long enough to show a fault, and not for as long as a user would.
    monkeypatch.setenv("KSQLDB_TABLE_WAIT", "40")
    monkeypatch.setenv("KSQLDB_SETTLE_TIME", "1")


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Store]:
    """Moto's S3, one for all tests of a process; each test has a prefix of its own."""
    with moto() as store:
        yield store


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """SeaweedFS, one for all tests of a process; each test has a prefix of its own."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture(params=["moto_server", "seaweedfs_server"], ids=["moto", "seaweedfs"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Each of the S3 servers, with the environment that leads to it."""
    found: Store = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def moto_store(moto_server: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The fast S3 server, with the environment that leads to it."""
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    return moto_server


@pytest.fixture(params=["local", "moto_server", "seaweedfs_server"], ids=["local", "moto", "seaweedfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An unused place for a lake: a folder, and a prefix in each of the stores."""
    if request.param == "local":
        return Place(tmp_path / "lake")
    found: Store = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return Place(found.fresh())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but KSQL_LAKE_TEST_REQUIRE_ALL=1: {reason}"
    return report

"""What every test gets: an environment without the caller's settings, and skips that fail in CI."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

REQUIRE_ALL = os.environ.get("KSQL_LAKE_TEST_REQUIRE_ALL") == "1"  # noqa: TID251 - tests have a switch of their own
SETTINGS = ("KSQLDB_", "KSQL_LAKE_", "DAGSTER_HOME", "DAGSTER_")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's settings out of every test and of the processes it starts."""
    for name in list(os.environ):  # noqa: TID251
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)
    # A test must never fall back to somebody's own server.
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but KSQL_LAKE_TEST_REQUIRE_ALL=1: {reason}"
    return report

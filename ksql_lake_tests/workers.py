"""How test files are handed to workers: the longest ones first, and one worker more than processors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LONGEST = (
    "deploy/test_celery.py",
    "orchestration/test_below_live.py",
    "cli/test_demo.py",
    "orchestration/test_interrupted_runs.py",
    "orchestration/test_sample_in_the_ui.py",
    "orchestration/test_daemon.py",
    "orchestration/test_checks_in_the_ui.py",
    "site/test_snippets.py",
    "orchestration/test_component_page.py",
    "orchestration/test_component_in_the_ui.py",
    "cli/test_living_demo.py",
    "lake/test_crashes.py",
    "devserver/test_cluster.py",
    "deploy/test_wheel.py",
    "orchestration/test_below.py",
    "faultloop/test_faultloop.py",
    "export/test_nodes.py",
    "orchestration/test_dagster_dev.py",
    "orchestration/test_nginx.py",
    "orchestration/test_processes.py",
    "test_secrets.py",
    "test_reader_guides.py",
    "test_flights.py",
    "lake/test_restoring.py",
    "report/test_report_page.py",
    "query/test_spark.py",
    "soak/test_soak.py",
    "tokenloop/test_tokenloop.py",
    "hourly/test_hourly.py",
)
"""Test files that take half a minute and more, the longest first; a file is one worker's as a whole."""

_HERE = Path(__file__).parent


def in_turn(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests of the longest files first, so that none begins when the other workers are done."""
    places = {_HERE / name: number for number, name in enumerate(LONGEST)}
    return sorted(items, key=lambda item: places.get(item.path, len(places)))


def pytest_xdist_auto_num_workers() -> int | None:
    """Start one worker more than there are processors: many tests wait for daemons, clocks and kills."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # noqa: TID251 - xdist's own
        return None
    return (os.cpu_count() or 1) + 1

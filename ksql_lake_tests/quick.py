"""Markers of the tests that need more than this process, and `--quick`, which leaves those tests out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ksql_lake_tests.workers import in_turn

MARKERS = {
    "slow": "starts a process, or takes several seconds",
    "browser": "drives a browser through Dagster's UI",
    "spark": "needs Java",
    "stores": "needs an S3 server",
    "crash": "kills processes, cuts the power or breaks the disk",
}

PLACES = {
    "cli/test_beginning.py": "slow",
    "cli/test_demo.py": "slow",
    "cli/test_doctoring_many.py": "slow",
    "cli/test_exit_codes.py": "slow",
    "cli/test_habits.py": "slow",
    "cli/test_export.py": "slow",
    "cli/test_feed_adding.py": "slow",
    "cli/test_feed_preparing.py": "slow",
    "cli/test_glancing.py": "slow",
    "cli/test_large_topics.py": "slow",
    "cli/test_living_demo.py": "slow",
    "cli/test_output.py": "slow",
    "cli/test_pinging.py": "slow",
    "cli/test_pushing.py": "slow",
    "cli/test_registering.py": "slow",
    "cli/test_restoring.py": "crash",
    "cli/test_alerting.py": "slow",
    "cli/test_retaining.py": "slow",
    "cli/test_running.py": "slow",
    "cli/test_sql.py": "slow",
    "cli/test_start.py": "slow",
    "cli/test_watching.py": "slow",
    "decode/test_nested.py": "slow",
    "decode/test_times.py": "slow",
    "orchestration": "slow",
    "orchestration/test_checks_in_the_ui.py": "browser",
    "orchestration/test_component_in_the_ui.py": "browser",
    "orchestration/test_dagster_dev.py": "browser",
    "orchestration/test_interrupted_runs.py": "browser",
    "orchestration/test_nginx.py": "browser",
    "orchestration/test_sample_in_the_ui.py": "browser",
    "report/test_reads.py": "slow",
    "report/test_report_page.py": "browser",
    "deploy": "slow",
    "devserver/test_cluster.py": "slow",
    "devserver/test_continuation.py": "slow",
    "devserver/test_faults.py": "slow",
    "devserver/test_faults_page.py": "slow",
    "devserver/test_http2.py": "slow",
    "devserver/test_loading.py": "slow",
    "devserver/test_mishaps.py": "slow",
    "devserver/test_process.py": "slow",
    "devserver/test_properties.py": "slow",
    "devserver/test_push.py": "slow",
    "devserver/test_recordings.py": "slow",
    "devserver/test_writers.py": "slow",
    "export/test_check_reads.py": "slow",
    "export/push/test_kills.py": "crash",
    "export/table": "slow",
    "export/continuing": "slow",
    "export/test_any_values.py": "slow",
    "export/test_certify.py": "slow",
    "export/test_completeness.py": "slow",
    "export/test_export.py": "slow",
    "export/test_fifty_tries.py": "crash",
    "export/test_network_faults.py": "slow",
    "export/test_nodes.py": "slow",
    "export/test_recorded_streams.py": "slow",
    "export/test_recorded_tables.py": "slow",
    "export/test_shrinkage.py": "slow",
    "export/test_stream_faults.py": "slow",
    "export/test_type_table.py": "slow",
    "export/test_values.py": "slow",
    "faultloop": "slow",
    "fuzzing": "slow",
    "hourly": "slow",
    "judges": "slow",
    "ksqldb/test_backlog.py": "slow",
    "ksqldb/test_endless.py": "slow",
    "ksqldb/test_listening.py": "slow",
    "ksqldb/test_response.py": "slow",
    "ksqldb/test_stalls.py": "slow",
    "ksqldb/test_transport.py": "slow",
    "lake/test_crashes.py": "crash",
    "lake/test_change_log.py": "slow",
    "lake/test_checksum.py": "slow",
    "lake/test_dictionaries.py": "slow",
    "lake/test_spilling.py": "slow",
    "lake/test_disks.py": "crash",
    "lake/test_identity.py": "slow",
    "lake/test_object_store.py": "stores",
    "lake/test_power.py": "crash",
    "lake/test_races.py": "crash",
    "lake/test_restoring.py": "crash",
    "lake/test_statistics.py": "slow",
    "lake/test_store_at_work.py": "stores",
    "query/test_catalog.py": "slow",
    "query/test_folders_above.py": "slow",
    "query/test_increments.py": "crash",
    "query/test_pruning.py": "slow",
    "query/test_spark.py": "spark",
    "register": "slow",
    "report/test_plots.py": "slow",
    "report/test_silence.py": "slow",
    "report/test_statuses.py": "slow",
    "site": "slow",
    "site/test_site.py": "browser",
    "soak": "slow",
    "tokenloop": "slow",
    "test_flights.py": "slow",
    "test_reader_guides.py": "spark",
    "test_secrets.py": "slow",
    "test_stubs.py": "slow",
}
"""Folders and files below `ksql_lake_tests` whose tests all have a marker."""

PERCENT = {"quick": 10, "everyday": 30, "nightly": 100}
"""Profiles of Hypothesis, and the share of a property's examples that each of them tries."""

_PROCESSES = frozenset(
    {"devserver", "nursery", "orders_process", "plain_server", "process", "sample_server", "old_server"}
)
"""Fixtures that start a server of ours as a process."""
_STORES = frozenset({"moto_server", "seaweedfs_server", "moto_store", "place", "store"})
_HERE = Path(__file__).parent
_forbidden: list[str] = []
"""The test that runs, while it may start no process."""

# A busy machine is no failure of a property: nothing here is judged by the clock.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
for _name, _percent in PERCENT.items():
    settings.register_profile(_name, _UNTIMED, max_examples=_percent)


def marker(path: Path, *, fixtures: frozenset[str] = frozenset(), parameter: object = None) -> str | None:
    """Return the marker of a test by where it stands and what it uses; None if it needs nothing."""
    places = [path, *path.parents]
    found = next((PLACES[key] for place in places if (key := _key(place)) in PLACES), None)
    if found is None and fixtures & _STORES and parameter != "local":
        return "stores"
    return found or ("slow" if fixtures & _PROCESSES else None)


def _key(path: Path) -> str:
    return path.relative_to(_HERE).as_posix() if path.is_relative_to(_HERE) else ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--quick`."""
    parser.addoption("--quick", action="store_true", help="only tests that need this process and nothing else")


def configure(config: pytest.Config) -> None:
    """Make the markers known, take time limits out of properties, and with `--quick` watch for processes."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    asked = config.getoption("--hypothesis-profile", None)
    settings.load_profile("quick" if config.getoption("--quick") else asked or "everyday")
    if config.getoption("--quick"):
        sys.addaudithook(_refuse_processes)


def examples(nightly: int) -> int:
    """How many examples a property gets that is tried with so many at night."""
    return max(10, nightly * settings().max_examples // 100)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what `--quick` leaves out."""
    return True if config.getoption("--quick") and marker(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test, take out what `--quick` leaves out, and let workers begin with the longest files."""
    for item in items:
        call = getattr(item, "callspec", None)
        fixtures = frozenset(getattr(item, "fixturenames", ()))
        found = marker(item.path, fixtures=fixtures, parameter=call.params.get("place") if call else None)
        if found:
            item.add_marker(found)
    if config.getoption("--quick"):
        left_out = [item for item in items if any(item.get_closest_marker(name) for name in MARKERS)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    if hasattr(config, "workerinput"):
        items[:] = in_turn(items)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Say which test runs."""
    _forbidden[:] = [nodeid]


def _refuse_processes(event: str, _arguments: tuple[object, ...]) -> None:
    if event in {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty"} and _forbidden:
        raise AssertionError(f"{_forbidden[0]} starts a process; give it the marker slow")

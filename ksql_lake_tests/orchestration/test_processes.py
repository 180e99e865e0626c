"""The same through real processes: Dagster's own commands, as a person types them."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.orchestration.recording import create_databases
from ksql_lake_tests.orchestration.dev_server import PATIENCE
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project

REPOSITORY = Path(__file__).parents[2]
MODULE = ("-m", "ksql_lake.definitions")


def _dagster(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dagster", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    return output


def test_the_workspace_is_valid() -> None:
    """`dagster definitions validate -w workspace.yaml` passes in the repository, with the server down."""
    process = _dagster("definitions", "validate", "-w", "workspace.yaml", cwd=REPOSITORY)

    assert "All code locations passed validation" in _said(process)
    assert process.returncode == 0


def test_version_one_works_in_a_fresh_home(project: Project) -> None:
    """`dagster asset materialize --partition v1` needs no preparation, and refuses what is not open."""
    command = ("asset", "materialize", *MODULE, "--select", "totals", "--partition")

    first = _dagster(*command, "v1", cwd=project.folder)
    assert "Materialized value totals" in _said(first)
    assert first.returncode == 0
    again = _dagster(*command, "v1", cwd=project.folder)
    assert "v1 exists already" in _said(again)
    assert again.returncode != 0

    assert project.lake("totals").state().partition_keys() == ["v1"]


def test_the_demo_leaves_a_real_lake_alone(project: Project) -> None:
    """In a user's own project the demo refuses, and names a way to run it elsewhere."""
    with dg.DagsterInstance.ephemeral() as instance:
        project.materialize(instance, "payments", partition=DAYS[0])

    command = [str(Path(sys.executable).with_name("ksql-lake")), "demo", "."]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert ". exists already and is not a folder of the demo" in done.stderr
    assert "ksql-lake demo FOLDER" in done.stderr
    assert project.lake("payments").state().sequence == 1


def test_two_runs_of_the_same_days_at_once_double_nothing(project: Project) -> None:
    """A range and a single day of the same feed, in two processes at the same time, leave each row once."""
    create_databases(project.folder / "home")
    command = ("asset", "materialize", *MODULE, "--select", "payments")
    runs = [
        _dagster(*command, "--partition-range", f"{DAYS[0]}...{DAYS[-1]}", cwd=project.folder),
        _dagster("job", "execute", *MODULE, "-j", "streams", cwd=project.folder),
    ]

    told = [_said(run) for run in runs]

    assert [run.returncode for run in runs] == [0, 0], told
    state = project.lake("payments").state()
    assert {day: part.records for day, part in state.partitions.items()} == {
        day: count for day, count in ROWS_PER_DAY.items() if count
    }


def test_a_run_that_waited_reads_nothing_that_was_read_meanwhile(
    project: Project, server: DevServer, tmp_path: Path
) -> None:
    """Of two processes that wait the first sends the query, the second none; both show all rows."""
    create_databases(project.folder / "home")
    before = len(_queries(server, "PAYMENTS"))
    command = ("asset", "materialize", *MODULE, "--select", "payments")
    span = f"{DAYS[0]}...{DAYS[-1]}"
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with ExitStack() as held:
        held.enter_context(project.lake("payments").exclusive())
        runs = [_logged(log, *command, "--partition-range", span, cwd=project.folder) for log in logs]
        for run, log in zip(runs, logs, strict=True):
            while "waiting for the lock" not in log.read_text():
                assert run.poll() is None, log.read_text()
                time.sleep(0.2)
        held.close()
        codes = [run.wait() for run in runs]

    assert codes == [0, 0], [log.read_text() for log in logs]
    assert len(_queries(server, "PAYMENTS")) == before + 1
    assert project.lake("payments").state().sequence == 1
    assert (
        sum("were read by another export (commit 1) while this one waited" in log.read_text() for log in logs)
        == 1
    )
    with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
        events = instance.fetch_materializations(dg.AssetKey("payments"), limit=100).records
        rows = [
            (event.partition_key, event.asset_materialization.metadata["partition_rows"].value)
            for event in events
            if event.asset_materialization is not None
        ]
    assert sorted(rows) == sorted([*ROWS_PER_DAY.items()] * 2)


def _logged(log: Path, *arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dagster", *arguments]
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)


def _queries(server: DevServer, source: str) -> list[str]:
    """The statements that the server was asked to read a source by, the time apart."""
    asked = requests.get(f"{server.url}/devserver/queries", timeout=PATIENCE).json()
    said = [query["statement"] for query in asked if "UNIX_TIMESTAMP" not in query["statement"]]
    return [statement for statement in said if f"`{source}`" in statement]

"""The same through real processes: Dagster's own commands, as a person types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg

from ksql_lake.orchestration.recording import create_databases
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project

REPOSITORY = Path(__file__).parents[2]
MODULE = ("-m", "ksql_lake.definitions")
PATIENCE = 90
"""Seconds after which a process that should answer is taken for dead."""


def _dagster(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dagster", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
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
    """In a project of somebody's own the demo refuses, and names a way to run it elsewhere."""
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

"""A real `dagster dev`, or the web server alone, on a project of a test; ended with all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from ksql_lake.cli.dagster_process import stop
from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.orchestration.project import Project

REPOSITORY = Path(__file__).parents[2]
WORKSPACE = REPOSITORY / "workspace.yaml"
PATIENCE = 300
"""Seconds after which what should have happened is taken for not happening."""

T = TypeVar("T")


def ask_graphql(url: str, query: str, variables: Mapping[str, object], *, seconds: float) -> dict[str, Any]:
    """Ask Dagster's web server, as the UI does."""
    asked = {"query": query, "variables": variables}
    told = requests.post(f"{url}/graphql", json=asked, timeout=seconds).json()
    assert "errors" not in told, told["errors"]
    data: dict[str, Any] = told["data"]
    return data


def wait_for(what: Callable[[], T | None], *, seconds: float) -> T | None:
    """Wait for something to be there; None if it does not come."""
    deadline, pause = time.monotonic() + seconds, 0.2
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(pause)
        # What takes long is asked for less often: an answer costs Dagster as much CPU as what is waited for.
        pause = min(1.0, pause * 1.2)
    return None


@dataclass(frozen=True)
class DagsterDev:
    """A running `dagster dev` or web server."""

    url: str
    log: Path
    pid: int

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask GraphQL, as the UI does."""
        return ask_graphql(self.url, query, variables, seconds=PATIENCE)

    def assets(self) -> dict[str, str | None]:
        """Every asset node the UI shows with its description."""
        nodes = self.ask("{assetNodes {assetKey {path} description}}")["assetNodes"]
        return {"/".join(node["assetKey"]["path"]): node["description"] for node in nodes}

    def materialised(self, asset: str) -> list[str]:
        """The partitions of an asset's materialisations, newest first."""
        query = (
            "query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path})"
            " {... on AssetNode {assetMaterializations {partition}}}}"
        )
        events = self.ask(query, path=asset.split("/"))["assetNodeOrError"]["assetMaterializations"]
        return [event["partition"] for event in events]

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first: `runId`, `status`, `tags` by key."""
        query = "{runsOrError {... on Runs {results {runId status tags {key value}}}}}"
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in self.ask(query)["runsOrError"]["results"]
        ]

    def until(self, what: Callable[[], T | None]) -> T:
        """Wait for something to be there."""
        found = wait_for(what, seconds=PATIENCE)
        if found:
            return found
        raise AssertionError(f"nothing came; dagster dev said:\n{self.log.read_text()[-5000:]}")


@contextmanager
def dagster_dev(
    project: Project, *, asset: str = "payments", workspace: Path = WORKSPACE
) -> Iterator[DagsterDev]:
    """Start `dagster dev` on a project, with the daemon, and wait until its code location shows an asset."""
    with _serving(project, "dagster", "dev", asset=asset, workspace=workspace) as server:
        yield server


@contextmanager
def dagster_webserver(project: Project, *arguments: str) -> Iterator[DagsterDev]:
    """Start the web server alone, and wait until its code location shows the asset `payments`."""
    with _serving(project, "dagster_webserver", *arguments, asset="payments") as server:
        yield server


@contextmanager
def dg_dev(folder: Path, environment: Mapping[str, str], *, asset: str) -> Iterator[DagsterDev]:
    """Start `dg dev` in the folder of a project that `dg` made, and wait until it shows an asset.

    Args:
        folder: The project's folder.
        environment: What the processes are to have beside this one's.
        asset: The asset.
    """
    command = [str(Path(sys.executable).with_name("dg")), "dev"]
    with _running(command, folder, environment, asset) as server:
        yield server


@contextmanager
def _serving(
    project: Project, module: str, *arguments: str, asset: str, workspace: Path = WORKSPACE
) -> Iterator[DagsterDev]:
    (project.folder / "home" / "dagster.yaml").write_text((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    command = [sys.executable, "-m", module, *arguments, "-w", str(workspace)]
    with _running(command, project.folder, {}, asset) as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], asset: str
) -> Iterator[DagsterDev]:
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / f"dagster_{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=folder,
            env={**os.environ, "KSQL_LAKE_DAGSTER_URL": url, **environment},  # noqa: TID251 - handed on, not read
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        server = DagsterDev(url, log, process.pid)
        server.until(lambda: _loaded(server, process, asset))
        yield server
    finally:
        stop(process)


def _loaded(server: DagsterDev, process: subprocess.Popen[bytes], asset: str) -> bool:
    assert process.poll() is None, server.log.read_text()
    try:
        return asset in server.assets()
    except requests.ConnectionError:
        return False

"""The fleet that deploy/celery/try.sh starts: real PostgreSQL, Redis, workers, daemon and web server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ksql_lake_tests.fakes.ports import free_ports
from ksql_lake_tests.orchestration.dev_server import ask_graphql, wait_for

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds after which what should have happened is taken for not happening."""

T = TypeVar("T")

_EVENTS = """query ($run: ID!, $after: String) {
  logsForRun(runId: $run, afterCursor: $after, limit: 1000) { ... on EventConnection {
    cursor hasMore
    events { ... on MessageEvent { message stepKey }
             ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } } } } }
}"""
_LAUNCH = """mutation ($job: String!) {
  launchRun(executionParams: {selector: {jobName: $job, repositoryName: "__repository__",
                                         repositoryLocationName: "ksql_lake"}, runConfigData: {}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""


@dataclass(frozen=True)
class Fleet:
    """A running fleet; `state` is the folder of logs and process ids."""

    url: str
    state: Path
    log: Path

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask GraphQL, as the UI does."""
        return ask_graphql(self.url, query, variables, seconds=PATIENCE)

    def until(self, what: Callable[[], T | None]) -> T:
        """Wait for something to be there."""
        found = wait_for(what, seconds=PATIENCE)
        if found:
            return found
        said = {path.name: path.read_text()[-2000:] for path in (self.state / "log").iterdir()}
        raise AssertionError(f"nothing came; the fleet said:\n{said}")

    def launch(self, job: str) -> str:
        """Launch a job as its page in the UI does; gives the run's id."""
        told = self.ask(_LAUNCH, job=job)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        run: str = told["run"]["runId"]
        return run

    def status(self, run: str) -> str:
        """What Dagster says of a run."""
        status: str = self.ask("query ($run: ID!) {runOrError(runId: $run) {... on Run {status}}}", run=run)[
            "runOrError"
        ]["status"]
        return status

    def ended(self, run: str) -> str | None:
        """Return the status of a run that is over."""
        status = self.status(run)
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

    def executions(self, run: str) -> list[tuple[str, str]]:
        """Every step that a worker began with the worker's name, in order."""
        found: list[tuple[str, str]] = []
        after = None
        while True:
            page = self.ask(_EVENTS, run=run, after=after)["logsForRun"]
            found += [
                (event["stepKey"], entry["text"].split("@")[0])
                for event in page["events"]
                for entry in event.get("metadataEntries", [])
                if entry["label"] == "Celery worker"
            ]
            if not page["hasMore"]:
                return found
            after = page["cursor"]

    def kill(self, process: str) -> None:
        """SIGKILL a process of the fleet with all its children, as a machine that loses its power would."""
        os.killpg(int((self.state / f"{process}.pid").read_text()), signal.SIGKILL)


@contextmanager
def fleet(environment: dict[str, str]) -> Iterator[Fleet]:
    """Run deploy/celery/try.sh until the block ends."""
    if shutil.which("redis-server") is None or not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("Redis or PostgreSQL is not installed")
    ports = free_ports(3)
    # Not pytest's folder: that one is closed to the user PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="ksql_lake_fleet_") as folder:
        Path(folder).chmod(0o755)
        state, log = Path(folder) / "state", Path(folder) / "try.log"
        environment = {
            **os.environ,  # noqa: TID251 - handed on, not read
            **environment,
            "CELERY_TRY_FOLDER": str(state),
            **dict(zip(("WEB_PORT", "REDIS_PORT", "POSTGRES_PORT"), map(str, ports), strict=True)),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(REPOSITORY / "deploy" / "celery" / "try.sh")],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            made = Fleet(f"http://127.0.0.1:{ports[0]}", state, log)
            made.until(lambda: _ready(process, log))
            yield made
        finally:
            process.terminate()
            process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return "Dagster is on" in log.read_text()

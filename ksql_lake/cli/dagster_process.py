"""Run Dagster's commands as child processes, with the project's own DAGSTER_HOME."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ksql_lake.cli.project_folder import HOME

STOP_SECONDS = 30

_POLL_SECONDS = 0.05

_SERVER_VARIABLES = "KSQLDB_"
_SAID = re.compile(
    r"^dagster\._core\.definitions\.events\.Failure: (.*?)^\s*Stack Trace:", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Task:
    """One process of Dagster: a name for its log, what it does in words, what follows `python`."""

    name: str
    what: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """How a task ended."""

    task: Task
    success: bool
    seconds: float
    log: Path


@dataclass(frozen=True, slots=True)
class DagsterProject:
    """A project folder and what its Dagster processes are told.

    Attributes:
        folder: Where workspace.yaml is.
        url: The ksqlDB server.
        lake_root: Where the lake is, absolute.
        feeds_root: Folder of the feed files.
    """

    folder: Path
    url: str
    lake_root: str
    feeds_root: Path

    @property
    def home(self) -> Path:
        """The project's DAGSTER_HOME."""
        return self.folder / HOME

    def environment(self) -> dict[str, str]:
        """Return the children's environment: ours, without anything that is meant for another server."""
        ours = os.environ  # noqa: TID251 - handed on, not read
        return {
            **{name: value for name, value in ours.items() if not name.startswith(_SERVER_VARIABLES)},
            "KSQLDB_URL": self.url,
            "KSQL_LAKE_ROOT": self.lake_root,
            "KSQL_LAKE_FEEDS": str(self.feeds_root),
            "DAGSTER_HOME": str(self.home),
        }

    def start(
        self, arguments: Sequence[str], *, log: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `python ARGUMENTS` in a process group of its own, so that an interrupt is ours to pass on.

        Args:
            arguments: What follows `python`, as `-m dagster dev`.
            log: File for everything it says; None lets it speak on our terminal.
            variables: What its environment has besides.
        """
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("wb")) if log else None
            return subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**self.environment(), **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )

    def run(self, tasks: Iterable[Task], *, at_once: int, logs: Path) -> Iterator[Done]:
        """Run tasks, so many at once, and give each as it ends; leaving early ends those that still run."""
        waiting, running = deque(tasks), dict[Task, tuple[subprocess.Popen[bytes], float]]()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    task = waiting.popleft()
                    process = self.start(task.arguments, log=logs / f"{task.name}.log")
                    running[task] = (process, time.monotonic())
                time.sleep(_POLL_SECONDS)
                for task, (process, started) in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[task]
                        log = logs / f"{task.name}.log"
                        yield Done(task, code == 0, time.monotonic() - started, log)
        finally:
            for process, _ in running.values():
                stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` gave, with everything it started."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def what_failed(log: Path) -> str:
    """Return the failures a run wrote into its log, or the log's last lines when it never came to run."""
    text = log.read_text(errors="replace")
    said = list(dict.fromkeys(match.strip() for match in _SAID.findall(text)))
    return "\n".join(said) or "\n".join(text.strip().splitlines()[-5:])

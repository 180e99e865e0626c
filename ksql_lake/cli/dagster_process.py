"""Run Dagster's commands as child processes with the project's DAGSTER_HOME."""

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

from ksql_lake.cli.entry import FOR_THIS_PROCESS
from ksql_lake.cli.project_folder import HOME

STOP_SECONDS = 30

_POLL_SECONDS = 0.05

_SERVER_VARIABLES = "KSQLDB_"
_SAID = re.compile(
    r"^dagster\._core\.definitions\.events\.Failure: (.*?)^\s*Stack Trace:", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Task:
    """One process of Dagster: a name for its log, a description, and the arguments of `python`."""

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
    """A project folder and the settings of its Dagster processes.

    Attributes:
        folder: Where workspace.yaml is.
        url: The ksqlDB server.
        lake_root: The lake's absolute path.
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
        """Return the children's environment: this process's, without settings for another server."""
        ours = os.environ  # noqa: TID251 - handed on, not read
        return {
            **{
                name: value
                for name, value in ours.items()
                if not name.startswith(_SERVER_VARIABLES) and name not in FOR_THIS_PROCESS
            },
            "KSQLDB_URL": self.url,
            "KSQL_LAKE_ROOT": self.lake_root,
            "KSQL_LAKE_FEEDS": str(self.feeds_root),
            "DAGSTER_HOME": str(self.home),
        }

    def start(
        self, arguments: Sequence[str], *, log: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `python ARGUMENTS` in a new process group, so that only this process receives an interrupt.

        Args:
            arguments: The arguments of `python`, e.g. `-m dagster dev`.
            log: File for its output; None lets it write to this terminal.
            variables: Further variables of its environment.
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
        """Run tasks, at most `at_once` together; yield each as it ends. Leaving early ends the running ones."""
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
    """End a process that `start` returned, and every process that it started."""
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
    """Return the failures that a run logged, or the log's last lines when the run did not start."""
    text = log.read_text(errors="replace")
    said = list(dict.fromkeys(match.strip() for match in _SAID.findall(text)))
    return "\n".join(said) or "\n".join(text.strip().splitlines()[-5:])

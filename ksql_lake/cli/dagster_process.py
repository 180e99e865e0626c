"""Dagster as child processes: its home folder, the environment it is given, its commands and what they said.

The demo drives Dagster from outside, exactly as a person with a shell would. It refuses to touch a DAGSTER_HOME
that somebody else set up: the home here is the project's own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ksql_lake.errors import ConfigError

HOME = ".dagster_home"
STOP_SECONDS = 30

_SERVER_VARIABLES = "KSQLDB_"
_SAID = re.compile(
    r"^dagster\._core\.definitions\.events\.Failure: (.*?)^\s*Stack Trace:", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class DagsterProject:
    """A project folder and what its Dagster processes are told.

    Attributes:
        folder: Where workspace.yaml is.
        url: The ksqlDB server.
        lake_root: Folder of the lake.
        feeds_root: Folder of the feed files.
    """

    folder: Path
    url: str
    lake_root: Path
    feeds_root: Path

    @property
    def home(self) -> Path:
        """The project's DAGSTER_HOME."""
        return self.folder / HOME

    def prepare(self) -> None:
        """Make the home folder with our dagster.yaml; one that is there already is left as it is.

        Raises:
            ConfigError: This is not the project's folder.
        """
        example = self.folder / "deploy" / "dagster.yaml"
        for needed in (self.folder / "workspace.yaml", example):
            if not needed.is_file():
                raise ConfigError(
                    f"there is no {needed.relative_to(self.folder)} here",
                    hint="Run this in the project's folder.",
                    folder=self.folder,
                )
        self.home.mkdir(exist_ok=True)
        if not (self.home / "dagster.yaml").exists():
            shutil.copyfile(example, self.home / "dagster.yaml")

    def environment(self) -> dict[str, str]:
        """Give the children's environment: ours, without anything that is meant for another server."""
        ours = os.environ  # noqa: TID251 - handed on, not read
        return {
            **{name: value for name, value in ours.items() if not name.startswith(_SERVER_VARIABLES)},
            "KSQLDB_URL": self.url,
            "KSQL_LAKE_ROOT": str(self.lake_root),
            "KSQL_LAKE_FEEDS": str(self.feeds_root),
            "DAGSTER_HOME": str(self.home),
        }

    def run(self, arguments: Sequence[str], *, log: Path) -> int:
        """Run `dagster ARGUMENTS` to its end, its output into a file, and give the exit code."""
        with log.open("wb") as output:
            done = subprocess.run(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "dagster", *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return done.returncode

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start `dagster ARGUMENTS` in a process group of its own, so that an interrupt is ours to pass on."""
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "dagster", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


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
    """Give the failures a run wrote into its log, or the log's last lines when it never came to run."""
    text = log.read_text(errors="replace")
    said = list(dict.fromkeys(match.strip() for match in _SAID.findall(text)))
    return "\n".join(said) or "\n".join(text.strip().splitlines()[-5:])

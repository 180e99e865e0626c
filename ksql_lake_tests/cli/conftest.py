"""A project folder, and the command line run in it: in this process, or as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ksql_lake.cli.running import run

COMMAND = (sys.executable, "-c", "from ksql_lake.cli import main; main()")
"""The console script, independent of where it was installed."""

STREAM: dict[str, object] = {
    "name": "orders",
    "kind": "stream",
    "source": "ORDERS",
    "start_date": "2025-01-01",
}
TABLE: dict[str, object] = {"name": "totals", "kind": "table", "source": "TOTALS"}


def _environ() -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251 - what a child process inherits


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Project:
    """A folder with feeds, and nothing of the caller's environment."""

    root: Path

    def feed(self, content: Mapping[str, object] | str, *, file: str = "", folder: str = "active") -> Path:
        """Write a feed file; `file` is needed when the content tells no name."""
        path = self.root / "feeds" / folder / (file or f"{dict(content)['name']}.json")  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command run as a process."""
        dropped = ("KSQL", "DAGSTER", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
        kept = {name: value for name, value in _environ().items() if not name.startswith(dropped)}
        return kept | {"TERM": "xterm-256color"} | more

    def process(self, *arguments: str, **environment: str) -> Said:
        """Run a command as a process of its own."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project folder, made the current one."""
    for name in [name for name in _environ() if name.startswith(("KSQL", "DAGSTER", "COLUMNS"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds" / "active").mkdir(parents=True)
    return Project(tmp_path)


Cli = Callable[..., Said]


@pytest.fixture
def cli(project: Project, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process, in the project folder."""
    assert Path.cwd() == project.root

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return command

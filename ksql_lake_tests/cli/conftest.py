"""A project folder, and the command line run in it: in this process, or as one of its own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake.cli.entry import run
from ksql_lake.devserver.process import DevServer

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
        """Write a feed file; `file` is needed when the content has no name."""
        path = self.root / "feeds" / folder / (file or f"{dict(content)['name']}.json")  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command run as a process."""
        dropped = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
        kept = {name: value for name, value in _environ().items() if not name.startswith(dropped)}
        return kept | {"TERM": "xterm-256color"} | more

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        return self.start_with("", *arguments, **environment)

    def start_with(self, preamble: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own, that first runs some Python."""
        python, option, program = COMMAND
        return subprocess.Popen(
            [python, option, f"{preamble}\n{program}", *arguments],
            cwd=self.root,
            env=self.environment(**environment),
            stdin=subprocess.PIPE if preamble else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def process(self, *arguments: str, **environment: str) -> Said:
        """Run a command as a process of its own."""
        return ended(self.start(*arguments, **environment))

    def rows(self, feed: str) -> int:
        """How many rows any glob reader finds for a feed; of a table the newest version's."""
        (folder,) = self.root.glob(f"data_lake/*/{feed}")
        if folder.parent.name == "tables":
            folder = max(folder.iterdir(), key=lambda version: int(version.name.removeprefix("version=v")))
        return sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))

    @property
    def parquet(self) -> list[Path]:
        """Every Parquet file a reader could find."""
        return sorted(self.root.rglob("*.parquet"))


def ended(process: subprocess.Popen[str]) -> Said:
    """Wait for a process."""
    with process:
        out, err = process.communicate(timeout=120)
    return Said(process.returncode, out, err)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project folder, made the current one."""
    monkeypatch.delenv("COLUMNS", raising=False)
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


SAMPLE_ROWS = 300
"""Rows of the sample's largest stream, spread over two days from 2025-01-06 on."""

NOT_QUERYABLE = (
    "CREATE TABLE PLAIN (ID BIGINT PRIMARY KEY, V STRING) WITH (KAFKA_TOPIC='p', VALUE_FORMAT='JSON');"
)


@dataclass(frozen=True)
class Server:
    """A devserver with the sample, and its switches."""

    url: str

    def fault(self, **fault: object) -> None:
        """Switch one fault on, and all others off."""
        requests.put(f"{self.url}/devserver/faults", json=[fault], timeout=30).raise_for_status()

    @property
    def queries(self) -> list[str]:
        """The queries that are running."""
        return list(requests.get(f"{self.url}/devserver", timeout=30).json()["queries"])

    def wait_for_queries(self, count: int) -> None:
        """Wait until this many queries are running."""
        for _ in range(3000):
            if len(self.queries) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"never were {count} queries running")


@pytest.fixture(scope="session")
def devserver() -> Iterator[DevServer]:
    """One devserver for all tests of the command line."""
    arguments = ["--sample-rows", str(SAMPLE_ROWS), "--sample-days", "2"]
    with DevServer.start(sample=True, arguments=arguments) as running:
        statement = {"ksql": NOT_QUERYABLE, "streamsProperties": {}}
        requests.post(f"{running.url}/ksql", json=statement, timeout=30).raise_for_status()
        yield running


@pytest.fixture
def server(devserver: DevServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The devserver as the one the environment names, without faults."""
    monkeypatch.setenv("KSQLDB_URL", devserver.url)
    yield Server(devserver.url)
    requests.delete(f"{devserver.url}/devserver/faults", timeout=30).raise_for_status()


@pytest.fixture
def sample(project: Project, server: Server) -> Project:
    """A project with two stream feeds and one table feed on the sample."""
    assert server.url
    dated = {"kind": "stream", "start_date": "2025-01-06"}
    project.feed({"name": "transactions", "source": "TRANSACTION_STREAM", **dated})
    project.feed({"name": "logins", "source": "LOGIN_EVENTS", **dated})
    project.feed({"name": "merchants", "kind": "table", "source": "MERCHANTS"})
    return project


@dataclass(frozen=True)
class Orders:
    """A stream of its own on a running server, exported by the feed `orders`; rows are given by their hour."""

    project: Project
    url: str
    source: str

    def append(self, *hours: int, note: str = "n") -> None:
        """Add a row at half past each hour since 2025-01-06 00:00 UTC."""
        rows = [
            {"ROWTIME": 1_736_121_600_000 + hour * 3_600_000 + 1_800_000, "ID": hour, "NOTE": note}
            for hour in hours
        ]
        lines = "\n".join(map(json.dumps, rows))
        address = f"{self.url}/devserver/sources/{self.source}/rows"
        requests.post(address, data=lines, timeout=30).raise_for_status()

    def run(self, statement: str) -> list[dict[str, Any]]:
        """Run a statement on the server."""
        body = {"ksql": statement, "streamsProperties": {}}
        answer = requests.post(f"{self.url}/ksql", json=body, timeout=30)
        answer.raise_for_status()
        return list(answer.json())

    def file(self, day: str) -> Path:
        """The one Parquet file of a day."""
        year, month, number = day.split("-")
        (path,) = self.project.root.glob(
            f"data_lake/streams/orders/year={year}/month={month}/day={number}/*.parquet"
        )
        return path


_SOURCES = itertools.count(1)


@pytest.fixture(scope="session")
def plain_server() -> Iterator[DevServer]:
    """One devserver without the sample, for tests that bring streams of their own."""
    with DevServer.start() as running:
        yield running


@pytest.fixture
def orders(project: Project, plain_server: DevServer, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """A project with one stream feed, whose source has a row in every hour of two days."""
    monkeypatch.setenv("KSQLDB_URL", plain_server.url)
    found = Orders(project, plain_server.url, f"ORDERS_{next(_SOURCES)}")
    found.run(
        f"CREATE STREAM {found.source} (ID BIGINT, NOTE STRING) "
        f"WITH (KAFKA_TOPIC='{found.source}', VALUE_FORMAT='JSON', PARTITIONS=2);"
    )
    found.append(*range(48))
    project.feed({"name": "orders", "kind": "stream", "source": found.source, "start_date": "2025-01-06"})
    return found

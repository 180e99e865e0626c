"""A server of one's own, from `init` on: what the README says, typed in order."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.cli.conftest import COMMAND, Cli, Project

WRITTEN = [
    "workspace.yaml",
    ".dagster_home/dagster.yaml",
    ".gitignore",
    ".env.example",
    "feeds/active/.gitkeep",
    "feeds/archived/.gitkeep",
    "feeds/feed.schema.json",
]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server that has none of the sample's sources."""
    data = tmp_path_factory.mktemp("data")
    (data / "1_orders.sql").write_text(
        "CREATE STREAM ORDERS (ID BIGINT KEY, AMOUNT DECIMAL(10, 2)) "
        "WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', PARTITIONS=2);\n"
    )
    yesterday = datetime.now(UTC) - timedelta(days=1)
    rows = [
        {"ROWTIME": int(yesterday.timestamp() * 1000) + number, "ID": number, "AMOUNT": "1.50"}
        for number in range(20)
    ]
    (data / "1_orders.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (data / "2_totals.sql").write_text(
        "CREATE TABLE TOTALS AS SELECT ID, SUM(AMOUNT) AS TOTAL FROM ORDERS GROUP BY ID EMIT CHANGES;\n"
    )
    with DevServer.start(data=data) as server:
        yield server


def test_a_project_has_all_that_it_needs_and_no_feed(project: Project, cli: Cli) -> None:
    """`init` writes every file it names, none of them a feed, and says how to go on."""
    said = cli("init", "shop")
    listed = json.loads(cli("init", "shop", "--json").out)

    assert said.code == 0
    assert [line.split()[1] for line in said.out.splitlines()] == [f"shop/{name}" for name in WRITTEN]
    for step in ("cd shop", "ksql-lake ping", "ksql-lake feeds add", "ksql-lake export --all", "dagster dev"):
        assert step in said.err
    assert all(len(line) <= 80 for line in said.err.splitlines())
    assert listed == {"folder": str(project.root / "shop"), "written": [], "kept": WRITTEN}
    assert not list((project.root / "shop").rglob("active/*.json"))


def test_nothing_is_overwritten(project: Project, cli: Cli) -> None:
    """What stands in a folder already is left as it is, and said to be; what is missing is added."""
    (project.root / ".gitignore").write_text("mine\n")
    (project.root / "workspace.yaml").write_text("load_from: []\n")

    said = cli("init")

    assert said.code == 0
    assert (project.root / ".gitignore").read_text() == "mine\n"
    assert (project.root / "workspace.yaml").read_text() == "load_from: []\n"
    assert "kept     .gitignore" in said.out
    assert "written  .env.example" in said.out
    assert "cd " not in said.err


def test_a_file_is_no_folder(project: Project, cli: Cli) -> None:
    """Naming a file is a usage error of one paragraph."""
    (project.root / "shop").write_text("")

    said = cli("init", "shop")

    assert said.code == 2
    assert "Traceback" not in said.err


def test_the_first_hour_typed_in_order(
    project: Project, cli: Cli, foreign: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `init` to the report, on a server with other sources than the sample's: no failed feed, no error."""
    start = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    assert cli("init", "shop").code == 0
    monkeypatch.chdir(project.root / "shop")
    monkeypatch.setenv("KSQLDB_URL", foreign.url)
    lines = [
        "ping",
        "feeds discover",
        f"feeds add --source ORDERS --start-date {start}",
        "feeds add --source TOTALS",
        "feeds validate --server",
        "plan --all",
        "plan --all --server",
        "export --all",
        "report",
        "doctor",
    ]
    for line in lines:
        said = cli(*line.split())
        assert said.code == 0, (line, said.out, said.err)
        assert "error:" not in said.err
        assert "failed" not in said.out + said.err, (line, said.out, said.err)

    told = json.loads(cli("report", "--format", "json").out)
    assert {feed["name"]: feed["records"] for feed in told["feeds"]} == {"orders": 20, "totals": 20}


def test_at_a_terminal_feeds_add_asks(project: Project, foreign: DevServer) -> None:
    """Without --source the sources are offered by number, and a stream's first day; a pipe has to name one."""
    environment = project.environment(KSQLDB_URL=foreign.url)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "feeds", "add"],
        cwd=project.root,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"1\n2026-01-05\n")
    shown = _everything(ours)

    assert process.wait() == 0, shown
    assert "1  ORDERS  (stream, read by pull query)" in shown
    written = json.loads((project.root / "feeds" / "active" / "orders.json").read_text())
    assert (written["source"], written["start_date"]) == ("ORDERS", "2026-01-05")
    piped = project.process("feeds", "add", KSQLDB_URL=foreign.url)
    assert piped.code == 2
    assert "--source is needed; see what the server has: ksql-lake feeds discover" in piped.err


def _everything(terminal: int) -> str:
    """Read a terminal until its last program is gone."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_dagster_loads_the_project(project: Project) -> None:
    """`dagster definitions validate` passes in a project without feeds, with its own Dagster home."""
    assert project.process("init").code == 0
    done = subprocess.run(
        [Path(sys.executable).with_name("dagster"), "definitions", "validate", "-w", "workspace.yaml"],
        cwd=project.root,
        env=project.environment(DAGSTER_HOME=str(project.root / ".dagster_home")),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr

"""The demo as a newcomer meets it: one command, what it leaves, the UI on it, and running it again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from ksql_lake.cli.demo_folder import open_demo
from ksql_lake.errors import ConfigError
from ksql_lake_tests.fakes.ports import free_port

KSQL_LAKE = Path(sys.executable).with_name("ksql-lake")
STREAMS = ("card_authorizations", "login_events", "transaction_flattened", "transaction_stream")
TABLES = ("daily_merchant_volume", "fx_rates", "merchants", "user_transaction_summary")
TRIES = 2400
"""Half seconds after which something that should happen is taken for never happening."""


AT = "2025-01-19T12:00Z"
"""The moment at which the sample ends: the rows are the same every day."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder inside an empty one."""
    return tmp_path_factory.mktemp("empty") / "demo"


def _demo(folder: Path, *arguments: str) -> str:
    command = [str(KSQL_LAKE), "demo", "--at", AT, *arguments]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def first(folder: Path) -> str:
    """What the first run printed."""
    with pytest.MonkeyPatch.context() as patch:
        # A user's own Dagster and server must be left alone.
        patch.setenv("DAGSTER_HOME", str(folder / "not-this-one"))
        patch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
        return _demo(folder)


def _records(folder: Path, kind: str, name: str) -> int:
    path = folder / "data_lake" / "metadata" / kind / name / "_metadata.json"
    records: int = json.loads(path.read_text())["total_records"]
    return records


def _columns(printed: str) -> dict[str, list[str]]:
    """The printed table: feed -> its other cells."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    return {cells[0]: cells[1:] for cells in rows if cells[0] in (*STREAMS, *TABLES)}


def test_one_command_leaves_a_lake(folder: Path, first: str) -> None:
    """Eight feeds land under their paths, and the printed table says so."""
    printed = _columns(first)

    assert set(printed) == {*STREAMS, *TABLES}
    for kind, names in (("streams", STREAMS), ("tables", TABLES)):
        for name in names:
            count = len(list((folder / "data_lake" / kind / name).iterdir()))
            assert count > 0
            assert int(printed[name][2].replace(",", "")) == _records(folder, kind, name) > 0
    assert printed["transaction_stream"][:2] == ["14", "2025-01-06 .. 2025-01-19"]
    assert all(float(cells[-1]) > 0 for cells in printed.values())
    assert "ksql-lake demo --ui" in first


def test_one_check_fails_on_purpose_and_is_explained(folder: Path, first: str) -> None:
    """The demo names the feed whose check fails, a warning; the feed file has it, and its rows are so."""
    assert "One check fails on purpose: some rows of login_events have no DEVICE.\n" in first
    checks = json.loads((folder / "feeds" / "active" / "login_events.json").read_text())["checks"]
    assert checks["severity"] == {"not_null": "warn"}
    devices = pd.read_parquet(folder / "data_lake" / "streams" / "login_events", columns=["DEVICE"])["DEVICE"]
    assert 0 < devices.isna().sum() < len(devices) / 10
    for name in STREAMS:
        feed = json.loads((folder / "feeds" / "active" / f"{name}.json").read_text())
        assert feed["start_date"] == "2025-01-06"


def test_pandas_reads_a_month_of_it(folder: Path, first: str) -> None:  # noqa: ARG001
    """A plain reader with a filter on the path's columns gets the right rows, typed."""
    frame = pd.read_parquet(
        folder / "data_lake" / "streams" / "transaction_stream",
        filters=[("year", "=", 2025), ("month", "=", 1)],
    )

    assert len(frame) == _records(folder, "streams", "transaction_stream")
    assert str(frame["ROWTIME"].dtype) == "datetime64[ms, UTC]"


def test_the_ui_shows_it_and_can_materialise(folder: Path, first: str) -> None:  # noqa: ARG001
    """`demo --ui` serves what landed, materialises days and a version on request, and ends without a trace."""
    before = {name: _records(folder, "streams", name) for name in STREAMS}
    with _ui(folder) as door:
        shown = door.ask("{assetNodes{assetKey{path} partitionStats{numMaterialized}}}")["assetNodes"]
        stats = {node["assetKey"]["path"][-1]: node["partitionStats"] for node in shown}
        assert stats["transaction_stream"]["numMaterialized"] == 14
        assert stats["user_transaction_summary"]["numMaterialized"] >= 1

        keys = door.ask(
            '{assetNodeOrError(assetKey:{path:["user_transaction_summary"]}){... on AssetNode{partitionKeys}}}'
        )
        latest = keys["assetNodeOrError"]["partitionKeys"][-1]
        days = {
            "dagster/asset_partition_range_start": "2025-01-10",
            "dagster/asset_partition_range_end": "2025-01-12",
        }
        runs = [
            door.launch("transaction_stream", days),
            door.launch("user_transaction_summary", {}),
        ]
        assert [door.outcome(run) for run in runs] == ["SUCCESS", "SUCCESS"]

    assert "superseded" not in (folder / "ui.log").read_text()  # nothing a reader could do about
    assert {name: _records(folder, "streams", name) for name in STREAMS} == before
    version = f"v{int(latest.removeprefix('v')) + 1}"
    assert (folder / "data_lake" / "tables" / "user_transaction_summary" / f"version={version}").is_dir()


def test_running_it_again_adds_only_versions(folder: Path, first: str) -> None:  # noqa: ARG001
    """The second run reads every stream row again and adds none; each table gets one version more."""
    streams = {name: _records(folder, "streams", name) for name in STREAMS}
    versions = {name: len(list((folder / "data_lake" / "tables" / name).iterdir())) for name in TABLES}

    _demo(folder)

    assert {name: _records(folder, "streams", name) for name in STREAMS} == streams
    for name in TABLES:
        assert len(list((folder / "data_lake" / "tables" / name).iterdir())) == versions[name] + 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that the demo did not make is refused, and so is another moment; one paragraph, exit code 2."""
    (tmp_path / "notes.txt").write_text("mine")
    done = subprocess.run([KSQL_LAKE, "demo", "."], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert ". exists already and is not a folder of the demo" in done.stderr
    assert "ksql-lake demo FOLDER" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_demo_begun_now_has_rows_up_to_now(tmp_path: Path) -> None:
    """Its folder is dated from the present, two weeks with today as the last day; begun again it goes on."""
    now = datetime(2026, 3, 5, 13, 7, tzinfo=UTC)
    made = open_demo(tmp_path / "demo", None, now=now)
    again = open_demo(tmp_path / "demo", None, now=now + timedelta(days=3))
    feed = json.loads((tmp_path / "demo" / "feeds" / "active" / "transaction_stream.json").read_text())

    assert (made.begun, made.live) == (now, True)
    assert made == again
    assert made.server_arguments == ["--sample-at", "2026-03-05T13:07:00+00:00", "--sample-live"]
    assert made.closed_days(now) == ("2026-02-20", "2026-03-04")
    assert again.closed_days(now + timedelta(days=3)) == ("2026-02-20", "2026-03-07")
    assert feed["start_date"] == "2026-02-20"
    with pytest.raises(ConfigError, match="holds a demo that ends at another time"):
        open_demo(tmp_path / "demo", now, now=now)


class _Ui:
    """The GraphQL door of a running `demo --ui`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer = json.load(response)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def answers(self) -> bool:
        try:
            location = self.ask("{workspaceOrError{... on Workspace{locationEntries{loadStatus}}}}")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        entries = location["workspaceOrError"]["locationEntries"]
        return [entry["loadStatus"] for entry in entries] == ["LOADED"]

    def launch(self, asset: str, tags: dict[str, str]) -> str:
        launched = self.ask(
            """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            p={
                "selector": {
                    "repositoryLocationName": "ksql_lake",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                },
                "mode": "default",
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            },
        )["launchPipelineExecution"]
        run: str = launched["run"]["runId"]
        return run

    def outcome(self, run: str) -> str:
        query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        for _ in range(TRIES):
            status: str = self.ask(query, id=run)["runOrError"]["status"]
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(0.5)
        return "it never ended"


@contextmanager
def _ui(folder: Path) -> Iterator[_Ui]:
    """Run `ksql-lake demo --ui` and end it by SIGTERM; every process it started must be gone afterwards."""
    port = free_port()
    with (folder / "ui.log").open("wb") as log:
        command = [str(KSQL_LAKE), "demo", "--ui", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder.parent, stdout=log, stderr=log)
    try:
        yield _wait_for(_Ui(port), process)
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait()
        _, alive = psutil.wait_procs(started, timeout=30)
        for left in alive:
            left.kill()
    assert started
    assert alive == []


def _wait_for(door: _Ui, process: subprocess.Popen[bytes]) -> _Ui:
    for _ in range(TRIES):
        if door.answers():
            return door
        assert process.poll() is None
        time.sleep(0.5)
    raise AssertionError("the UI never answered")

"""Runs that end in the middle of an export, in a running Dagster: killed, or terminated with a click."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from playwright.sync_api import Page, expect

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.orchestration.browser import choose_days, chromium_page, materialize_dialog, shoot
from ksql_lake_tests.orchestration.dev_server import PATIENCE, REPOSITORY, DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import Project

FEED, SOURCE = "transaction_flattened", "TRANSACTION_FLATTENED"
COLUMNS = ("TRANSACTION_ID", "USER_ID", "AMOUNT", "MERCHANT_NAME", "IS_ONLINE")
MIDNIGHT = {"2025-01-06": 1736121600000, "2025-01-07": 1736208000000, "2025-01-08": 1736294400000}
ROWS_PER_DAY = 1000


@dataclass(frozen=True)
class Scene:
    """A project, its server and its Dagster."""

    project: Project
    server: DevServer
    dagster: DagsterDev

    def slow(self, *, seconds: int, times: int = 1) -> None:
        """Let the source's next queries take so long for a day."""
        fault = {"kind": "slow", "source": SOURCE, "rows_per_second": ROWS_PER_DAY / seconds, "times": times}
        requests.put(f"{self.server.url}/devserver/faults", json=[fault], timeout=PATIENCE).raise_for_status()

    def queries(self) -> list[dict[str, Any]]:
        """The source's queries so far, oldest first."""
        told = requests.get(f"{self.server.url}/devserver/queries", timeout=PATIENCE).json()
        return [query for query in told if SOURCE in query["statement"]]

    def launch(self, page: Page, day: str) -> str:
        """Materialise a day with clicks; gives the run once its rows are on their way."""
        known, asked = {run["runId"] for run in self.dagster.runs()}, len(self.queries())
        dialog = materialize_dialog(page, self.dagster.url, FEED)
        choose_days(dialog, day)
        dialog.get_by_role("button", name="Launch 1 run").click()
        self.dagster.until(lambda: [query for query in self.queries()[asked:] if query["rows"] > 10])
        (run,) = [run for run in self.dagster.runs() if run["runId"] not in known]
        return str(run["runId"])

    def status(self, run: str) -> str:
        """A run's status."""
        return next(str(each["status"]) for each in self.dagster.runs() if each["runId"] == run)

    def retries(self, run: str) -> list[dict[str, Any]]:
        """The runs that began because this one had failed."""
        return [each for each in self.dagster.runs() if each["tags"].get("dagster/parent_run_id") == run]

    def worker(self, run: str) -> psutil.Process:
        """The process a run is in: one that our own `dagster dev` started."""
        query = (
            "query($id: ID!) {logsForRun(runId: $id)"
            " {... on EventConnection {events {... on MessageEvent {message}}}}}"
        )
        messages = [
            event.get("message", "") for event in self.dagster.ask(query, id=run)["logsForRun"]["events"]
        ]
        pids = {int(found[1]) for each in messages if (found := re.search(r"process \(pid: (\d+)\)", each))}
        (process,) = [
            each for each in psutil.Process(self.dagster.pid).children(recursive=True) if each.pid in pids
        ]
        return process

    def source_rows(self, day: str) -> Counter[tuple[str, ...]]:
        """What the source holds of a day, asked without any of our reading code."""
        days = sorted(MIDNIGHT)
        first, last = MIDNIGHT[day], MIDNIGHT[days[days.index(day) + 1]]
        sql = f"SELECT {', '.join(COLUMNS)} FROM {SOURCE} WHERE ROWTIME >= {first} AND ROWTIME < {last};"
        answer = requests.post(
            f"{self.server.url}/query",
            json={"ksql": sql, "streamsProperties": {}},
            headers={"Accept": "application/vnd.ksql.v1+json"},
            timeout=PATIENCE,
        )
        rows = [item["row"]["columns"] for item in answer.json() if "row" in item]
        return Counter(tuple(_text(value) for value in row) for row in rows)

    def lake_rows(self, day: str) -> Counter[tuple[str, ...]]:
        """What the lake holds of a day, as any reader of Parquet sees it."""
        table = self.project.lake(FEED).dataset(partitions=[day]).to_table(columns=list(COLUMNS))
        return Counter(tuple(_text(row[name]) for name in COLUMNS) for row in table.to_pylist())

    def data_files(self) -> list[Path]:
        """Every file in the feed's dataset folder, as a reader that globs finds them."""
        folder = Path(self.project.lake(FEED).dataset_path)
        return [path for path in folder.rglob("*") if path.is_file()]

    def staged(self) -> list[Path]:
        """Every file that waits for a commit."""
        folder = self.project.folder / "data_lake" / "metadata" / "streams" / FEED / "staging"
        return [path for path in folder.rglob("*") if path.is_file()]


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The sample feeds and the sample, in one `dagster dev` for all tests here."""
    project = Project(tmp_path_factory.mktemp("interrupted"))
    project.copy_feeds(REPOSITORY / "feeds" / "active")
    rows = ["--sample-rows", str(14 * ROWS_PER_DAY)]
    with DevServer.start(sample=True, arguments=rows) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment(server.url).items():
            patch.setenv(name, value)
        with dagster_dev(project, asset=FEED) as dagster:
            yield Scene(project, server, dagster)


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a browser with a profile of its own."""
    with chromium_page() as made:
        yield made


def test_a_killed_run_is_retried_with_a_click_and_its_rows_are_exact(scene: Scene, page: Page) -> None:
    """SIGKILL in mid-export: nothing is visible; Dagster's retry and a person's together land each row once."""
    day = "2025-01-06"
    # Two: Dagster begins a killed run again by itself, and shall not be done before we have looked.
    scene.slow(seconds=40, times=2)
    killed = scene.launch(page, day)
    os.kill(scene.worker(killed).pid, signal.SIGKILL)

    scene.dagster.until(lambda: scene.status(killed) == "FAILURE")
    assert scene.data_files() == []
    assert scene.project.lake(FEED).state().sequence == 0
    page.goto(f"{scene.dagster.url}/runs/{killed}")
    expect(page.get_by_text("was terminated by signal 9 (SIGKILL)").first).to_be_visible()
    shoot(page, "killed-run")
    page.get_by_role("button", name=re.compile("^Re-execute")).first.click()
    scene.dagster.until(lambda: len(scene.retries(killed)) == 2)
    scene.dagster.until(lambda: all(run["status"] in {"SUCCESS", "FAILURE"} for run in scene.retries(killed)))

    assert [run["status"] for run in scene.retries(killed)] == ["SUCCESS", "SUCCESS"]
    assert {query["state"] for query in scene.queries()} == {"gone", "completed"}
    assert scene.lake_rows(day) == scene.source_rows(day)
    assert scene.lake_rows(day).total() == ROWS_PER_DAY
    # Either takes the feed's lock first and reads the day. The other waits, and has nothing to read if that
    # reading began after it was asked for.
    seen = []
    for run in scene.retries(killed):
        page.goto(f"{scene.dagster.url}/runs/{run['runId']}?levels=INFO")
        outcome = page.get_by_text(re.compile(f"1,000 rows read|nothing to read: {day} was read by another"))
        expect(outcome.first).to_be_visible()
        seen.append("rows read" in (outcome.first.text_content() or ""))
    assert True in seen
    shoot(page, "retried-run")


def test_a_terminated_run_closes_its_query_and_leaves_nothing(scene: Scene, page: Page) -> None:
    """The query ends on the server, nothing is staged or committed, and the day can be exported at once."""
    day = "2025-01-07"
    before = (scene.data_files(), scene.staged(), scene.project.lake(FEED).state().sequence)
    scene.slow(seconds=240)
    run = scene.launch(page, day)
    page.goto(f"{scene.dagster.url}/runs/{run}")
    page.get_by_role("button", name="Terminate").first.click()
    shoot(page, "terminate-dialog")
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^Terminate")).click()
    scene.dagster.until(lambda: scene.status(run) in {"CANCELED", "FAILURE", "SUCCESS"})

    assert scene.status(run) == "CANCELED"
    scene.dagster.until(lambda: scene.queries()[-1]["state"] in {"stopped", "gone"})
    assert scene.queries()[-1]["rows"] < ROWS_PER_DAY
    assert (scene.data_files(), scene.staged(), scene.project.lake(FEED).state().sequence) == before
    page.goto(f"{scene.dagster.url}/runs/{run}")
    expect(page.get_by_text("Canceled").first).to_be_visible()
    shoot(page, "terminated-run")

    dialog = materialize_dialog(page, scene.dagster.url, FEED)
    choose_days(dialog, day)
    dialog.get_by_role("button", name="Launch 1 run").click()
    scene.dagster.until(lambda: day in scene.dagster.materialised(FEED))
    assert scene.lake_rows(day) == scene.source_rows(day)

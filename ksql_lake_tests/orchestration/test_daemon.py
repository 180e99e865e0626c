"""A real daemon: schedules, conditions, sensors tick, alerts go out, a cancelled run leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.orchestration.dev_server import DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import ROWS_PER_DAY, Project, write_source_files

EVERY_MINUTE = "* * * * *"
HERE = {"repositoryLocationName": "ksql_lake", "repositoryName": "__repository__"}

_LAUNCH = """mutation($params: ExecutionParams!) {launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess {run {id}} ... on PythonError {message}}}"""
_STATUS = "query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}"
_TERMINATE = "mutation($id: String!) {terminateRun(runId: $id) {__typename}}"
_LOG = """query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {
  events {... on MessageEvent {message}}}}}"""
_START_SENSOR = "mutation($which: SensorSelector!) {startSensor(sensorSelector: $which) {__typename}}"
_TICKS = """query($which: InstigationSelector!) {instigationStateOrError(instigationSelector: $which) {
  ... on InstigationState {id status ticks(limit: 20) {status skipReason error {message}}}}}"""
_RUNS = """query($which: String!) {runsOrError(filter: {tags: [{key: "dagster/sensor_name", value: $which}]}) {
  ... on Runs {results {creationTime assetSelection {path}}}}}"""
_PAGE = """query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path}) {
  ... on AssetNode {metadataEntries {label ... on TextMetadataEntry {text}}}}}"""
_PARTITIONS = """query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path}) {
  ... on AssetNode {assetMaterializations {partition runId}}}}"""


@dataclass(frozen=True)
class Scene:
    """A project in a running Dagster, with a ksqlDB server and a webhook of its own."""

    project: Project
    dagster: DagsterDev
    ksqldb: str
    webhook: ScriptedServer

    def launch(self, asset: str, partition: str) -> str:
        """Materialise a partition as the UI does; gives the run's id."""
        params = {
            "selector": {**HERE, "jobName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        }
        told = self.dagster.ask(_LAUNCH, params=params)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        run: str = told["run"]["id"]
        return run

    def ended(self, run: str) -> str:
        """Wait until a run is over; gives its status."""

        def status() -> str | None:
            found: str = self.dagster.ask(_STATUS, id=run)["runOrError"]["status"]
            return found if found in {"SUCCESS", "FAILURE", "CANCELED"} else None

        return self.dagster.until(status)

    def log(self, run: str) -> str:
        """What a run's log says."""
        events = self.dagster.ask(_LOG, id=run)["logsForRun"]["events"]
        return "\n".join(str(event.get("message")) for event in events)

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The ticks of a schedule or sensor, newest first."""
        found = self.dagster.ask(_TICKS, which={**HERE, "name": name})["instigationStateOrError"]
        ticks: list[dict[str, Any]] = found.get("ticks", [])
        return ticks

    def started_by(self, sensor: str, asset: str) -> list[datetime]:
        """When a sensor started runs of an asset."""
        runs = self.dagster.ask(_RUNS, which=sensor)["runsOrError"]["results"]
        return [
            datetime.fromtimestamp(run["creationTime"], UTC)
            for run in runs
            if {"path": [asset]} in (run["assetSelection"] or [])
        ]

    def page(self, asset: str) -> dict[str, str]:
        """The texts on an asset's page."""
        node = self.dagster.ask(_PAGE, path=[asset])["assetNodeOrError"]
        return {entry["label"]: entry.get("text", "") for entry in node["metadataEntries"]}

    def partitions(self, asset: str) -> dict[str, str]:
        """The materialised partitions of an asset with the run of each."""
        node = self.dagster.ask(_PARTITIONS, path=[asset])["assetNodeOrError"]
        return {event["partition"]: event["runId"] for event in node["assetMaterializations"]}

    def queries(self, source: str) -> list[dict[str, Any]]:
        """What the ksqlDB server was asked to read of a source, the time apart, and how each went."""
        asked = requests.get(f"{self.ksqldb}/devserver/queries", timeout=30).json()
        reading = [query for query in asked if "UNIX_TIMESTAMP" not in query["statement"]]
        return [query for query in reading if f"`{source}`" in query["statement"]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One `dagster dev` for all tests here."""
    sources = tmp_path_factory.mktemp("sources")
    write_source_files(sources)
    project = Project(tmp_path_factory.mktemp("daemon"))
    project.write_feed(
        "payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", schedule=EVERY_MINUTE
    )
    project.write_feed("totals", kind="table", source="TOTALS", schedule=EVERY_MINUTE, automation="condition")
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01", schedule="@yearly")
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-02-01", schedule="@yearly")
    with (
        DevServer.start(data=sources) as ksqldb,
        ScriptedServer() as webhook,
        pytest.MonkeyPatch.context() as patch,
    ):
        webhook.script("/hook", answer(b"ok"))
        environment = {**project.environment(ksqldb.url), "KSQL_LAKE_ALERT_WEBHOOK": f"{webhook.url}/hook"}
        for name, value in environment.items():
            patch.setenv(name, value)
        with dagster_dev(project) as dagster:
            yield Scene(project, dagster, ksqldb.url, webhook)


def test_a_failed_run_is_told_by_the_daemon(scene: Scene) -> None:
    """The sensor runs from the start; the webhook gets the alert, and the run's log says that it was sent."""
    # Its first tick decides from when on failures are news.
    scene.dagster.until(lambda: scene.ticks("run_failures") or None)
    run = scene.launch("missing", "2025-02-01")

    assert scene.ended(run) == "FAILURE"
    scene.dagster.until(lambda: scene.webhook.asked("/hook") or None)

    text = scene.webhook.requests[0].json["text"]
    assert text.startswith("ksql-lake: run of missing, 2025-02-01 failed\nfeed missing")
    assert text.endswith(f"{scene.dagster.url}/runs/{run}")
    scene.dagster.until(lambda: 'Sensor "run_failures" acted on run status' in scene.log(run) or None)


def test_a_cancelled_run_leaves_nothing_behind(scene: Scene) -> None:
    """The query ends on the server, nothing is staged, no attempt follows; the next run lands every row."""
    hang = [{"kind": "hang", "after_rows": 1, "source": "VISITS"}]
    requests.put(f"{scene.ksqldb}/devserver/faults", json=hang, timeout=30).raise_for_status()
    run = scene.launch("visits", "2025-02-03")
    scene.dagster.until(lambda: [query for query in scene.queries("VISITS") if query["rows"]] or None)

    scene.dagster.ask(_TERMINATE, id=run)

    assert scene.ended(run) == "CANCELED"
    scene.dagster.until(lambda: all(query["state"] != "running" for query in scene.queries("VISITS")) or None)
    asked = len(scene.queries("VISITS"))
    lake = scene.project.folder / "data_lake"
    assert _staged(lake, "visits") == []
    assert not (lake / "streams" / "visits").exists()
    requests.delete(f"{scene.ksqldb}/devserver/faults", timeout=30).raise_for_status()

    assert scene.ended(scene.launch("visits", "2025-02-03")) == "SUCCESS"
    assert scene.project.lake("visits").state().records == 20
    assert len(scene.queries("VISITS")) == asked + 1
    assert scene.project.lake("visits").state().sequence == 1


def test_schedule_and_condition_tick(scene: Scene) -> None:
    """Switched on, a cron expression starts a run of its stream and a condition one of the open version."""
    scene.dagster.ask(_START_SENSOR, which={**HERE, "sensorName": "streams_due"})
    scene.dagster.ask(_START_SENSOR, which={**HERE, "sensorName": "automation"})

    filled = {day for day, rows in ROWS_PER_DAY.items() if rows}

    def landed() -> bool:
        return filled <= set(scene.partitions("payments")) and bool(scene.partitions("totals"))

    scene.dagster.until(landed)

    assert "SUCCESS" in {tick["status"] for tick in scene.ticks("streams_due")}
    assert scene.project.lake("payments").state().records == sum(ROWS_PER_DAY.values())
    versions = scene.project.lake("totals").state().partition_keys()
    assert versions[0] == "v1"


def test_new_sources_are_proposed_when_it_is_wanted(scene: Scene) -> None:
    """Switched on, the sensor writes proposals, and Dagster's assets stay as they are."""
    before = set(scene.dagster.assets())
    scene.dagster.ask(_START_SENSOR, which={**HERE, "sensorName": "new_sources"})

    proposed = scene.project.folder / "feeds" / "proposed"
    scene.dagster.until(lambda: len(list(proposed.glob("*.json"))) == 3 or None)

    assert json.loads((proposed / "refunds.json").read_text())["source"] == "REFUNDS"
    assert set(scene.dagster.assets()) == before
    tick = scene.dagster.until(lambda: scene.ticks("new_sources") or None)[0]
    assert tick["error"] is None


def test_the_sensors_that_run_by_themselves_do(scene: Scene) -> None:
    """Each of them has ticked, and none of them failed."""
    for name in ("feed_files", "lake_in_step", "run_failures", "failed_checks"):
        ticks = scene.dagster.until(lambda name=name: scene.ticks(name) or None)  # type: ignore[misc]
        assert [tick["error"] for tick in ticks if tick["error"]] == [], name


def test_an_edited_cron_ticks_at_its_new_time(scene: Scene) -> None:
    """The sensor keeps its name and runs on; it starts the feed when the new expression ticks, not before."""
    scene.dagster.ask(_START_SENSOR, which={**HERE, "sensorName": "streams_due"})
    before = _state(scene, "streams_due")
    assert before["status"] == "RUNNING"
    assert scene.started_by("streams_due", "visits") == []

    tried = []
    while True:
        moment = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
        tried.append(moment)
        cron = f"{moment.minute} {moment.hour} * * *"
        scene.project.write_feed(
            "visits", kind="stream", source="VISITS", start_date="2025-02-01", schedule=cron
        )
        scene.dagster.until(lambda cron=cron: cron in scene.page("visits").get("exported", ""))  # type: ignore[misc]
        # On a slow machine the location may be loaded too late for this moment: then another one.
        if datetime.now(UTC) < moment - timedelta(seconds=5):
            break
    started = scene.dagster.until(lambda: scene.started_by("streams_due", "visits"))

    # A moment for which the location was loaded at the last second may have been taken yet.
    assert min(started) >= tried[0]
    after = _state(scene, "streams_due")
    assert (after["id"], after["status"]) == (before["id"], "RUNNING")


def _state(scene: Scene, name: str) -> dict[str, Any]:
    state: dict[str, Any] = scene.dagster.ask(_TICKS, which={**HERE, "name": name})["instigationStateOrError"]
    return state


def _staged(lake: Path, feed: str) -> list[Path]:
    folder = lake / "metadata" / "streams" / feed / "staging"
    return sorted(folder.rglob("*")) if folder.exists() else []

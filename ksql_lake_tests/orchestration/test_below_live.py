"""A user's assets below ours in a running Dagster: they follow by condition, and load whatever a feed does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.feeds import FeedStore
from ksql_lake.orchestration.conditions import STREAMS_DUE, TABLES_DUE
from ksql_lake_tests.orchestration.dev_server import REPOSITORY, DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import Project, write_source_files
from ksql_lake_tests.orchestration.user_project import TICK

HERE = {"repositoryLocationName": "theirs", "repositoryName": "__repository__"}
WORKSPACE = f"""load_from:
  - python_module:
      module_name: ksql_lake_tests.orchestration.user_project
      working_directory: {REPOSITORY}
      location_name: theirs
"""

SENSORS = (STREAMS_DUE, TABLES_DUE)

_STOP_SENSOR = "mutation($id: String!) {stopSensor(id: $id) {__typename}}"
_SENSOR = """query($which: InstigationSelector!) {instigationStateOrError(instigationSelector: $which) {
  ... on InstigationState {id}}}"""
_START_SENSOR = "mutation($which: SensorSelector!) {startSensor(sensorSelector: $which) {__typename}}"
_LAUNCH = """mutation($params: ExecutionParams!) {launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess {run {id}} ... on PythonError {message}}}"""
_RUN = "query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}"
_LOG = """query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {
  events {... on ExecutionStepFailureEvent {error {message}}}}}}"""
_LOCATION = """{workspaceOrError {... on Workspace {locationEntries {
  locationOrLoadError {__typename ... on PythonError {message}}}}}}"""
_MADE = """query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path}) {
  ... on AssetNode {assetMaterializations {partition}}}}"""


@dataclass(frozen=True)
class Scene:
    """A user's project in a running Dagster."""

    project: Project
    dagster: DagsterDev

    def loaded(self) -> dict[str, str | None]:
        """The assets with their descriptions; the location must have loaded."""
        (entry,) = self.dagster.ask(_LOCATION)["workspaceOrError"]["locationEntries"]
        told = entry["locationOrLoadError"]
        assert told["__typename"] == "RepositoryLocation", told
        return self.dagster.assets()

    def shows(self, name: str, text: str) -> dict[str, str | None]:
        """Wait until an asset's description holds a text; the location must be loaded all the time."""
        return self.dagster.until(lambda: shown if text in ((shown := self.loaded()).get(name) or "") else None)

    def made(self, asset: str) -> list[str | None]:
        """The partitions of an asset's materialisations."""
        node = self.dagster.ask(_MADE, path=[asset])["assetNodeOrError"]
        return [event["partition"] for event in node["assetMaterializations"]]

    def run(self, asset: str) -> tuple[str, str]:
        """Materialise an asset without partitions; gives how it went and what the failed step said."""
        params = {
            "selector": {**HERE, "jobName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]},
            "mode": "default",
        }
        told = self.dagster.ask(_LAUNCH, params=params)["launchRun"]
        assert told["__typename"] == "LaunchRunSuccess", told
        run = told["run"]["id"]

        def status() -> str | None:
            found: str = self.dagster.ask(_RUN, id=run)["runOrError"]["status"]
            return found if found in {"SUCCESS", "FAILURE"} else None

        ended = self.dagster.until(status)
        events: list[dict[str, Any]] = self.dagster.ask(_LOG, id=run)["logsForRun"]["events"]
        return ended, "\n".join(event["error"]["message"] for event in events if event.get("error"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One `dagster dev` for all tests here, with a schedule of every minute."""
    sources = tmp_path_factory.mktemp("sources")
    write_source_files(sources)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        {"ROWTIME": int((today - timedelta(hours=12 * half)).timestamp() * 1000), "ID": half, "AMOUNT": "1.00"}
        for half in (1, 2, 3, 4)
    ]
    (sources / "1_payments.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    start = (today - timedelta(days=3)).date().isoformat()
    project = Project(tmp_path_factory.mktemp("live"))
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date=start, schedule=TICK)
    project.write_feed("totals", kind="table", source="TOTALS", schedule=TICK)
    workspace = project.folder / "workspace.yaml"
    workspace.write_text(WORKSPACE)
    with DevServer.start(data=sources) as ksqldb, pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment(ksqldb.url).items():
            patch.setenv(name, value)
        with dagster_dev(project, workspace=workspace) as dagster:
            yield Scene(project, dagster)


def test_what_is_below_follows_by_its_conditions(scene: Scene) -> None:
    """With schedules and conditions switched on, a day, everything and a table follow, by eager and cron."""
    dagster = scene.dagster
    dagster.ask(_START_SENSOR, which={**HERE, "sensorName": "default_automation_condition_sensor"})
    for name in SENSORS:
        dagster.ask(_START_SENSOR, which={**HERE, "sensorName": name})
    start, yesterday = ((datetime.now(UTC) - timedelta(days=days)).date().isoformat() for days in (3, 1))

    for condition in ("eager", "cron"):
        assert yesterday in dagster.until(lambda name=f"{condition}_day": scene.made(name))  # type: ignore[misc]
        assert set(dagster.until(lambda name=f"{condition}_all": scene.made(name))) == {None}  # type: ignore[misc]
        assert set(dagster.until(lambda name=f"{condition}_table": scene.made(name))) == {None}  # type: ignore[misc]

    for name in SENSORS:
        state = dagster.ask(_SENSOR, which={**HERE, "name": name})["instigationStateOrError"]
        stopped = dagster.ask(_STOP_SENSOR, id=state["id"])["stopSensor"]["__typename"]
        assert stopped == "StopSensorMutationResult"
    spans = [
        run["tags"] for run in dagster.runs() if run["tags"].get("dagster/asset_partition_range_start") == start
    ]
    assert spans
    assert {tags["dagster/asset_partition_range_end"] for tags in spans} == {yesterday}
    apart = [run for run in dagster.runs() if run["tags"].get("ksql_lake/days") == "open"]
    assert apart


def test_a_feed_may_break_and_go_while_everything_runs(scene: Scene) -> None:
    """Broken, repaired, archived, restored: what is below is there all along, and has rows or says why not."""
    active: Path = scene.project.folder / "feeds" / "active"
    store, whole = FeedStore(active.parent), (active / "payments.json").read_text()
    theirs = {"day_pandas", "all_pandas", "eager_all", "day_and_totals"}
    assert scene.run("all_pandas")[0] == "SUCCESS"

    (active / "payments.json").write_text(whole[: len(whole) // 2])
    assert theirs <= set(scene.shows("payments", "This feed file cannot be used"))
    ended, said = scene.run("all_pandas")
    assert (ended, "payments.json: this is not a feed file" in said) == ("FAILURE", True)

    (active / "payments.json").write_text(whole)
    assert theirs <= set(scene.shows("payments", "Materializing a day again"))
    assert scene.run("all_pandas")[0] == "SUCCESS"

    store.archive("payments")
    assert theirs <= set(scene.shows("payments", "This feed is archived"))
    assert scene.run("all_pandas")[0] == "SUCCESS"

    store.restore("payments")
    assert theirs <= set(scene.shows("payments", "Materializing a day again"))
    store.disable("payments")
    assert theirs <= set(scene.shows("payments", "This feed is disabled"))
    assert scene.run("table_pandas")[0] == "SUCCESS"
    assert json.loads((active / "payments.json").read_text())["enabled"] is False

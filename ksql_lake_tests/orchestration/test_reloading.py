"""Noticing that feed files changed, and what is said when the web server cannot be asked."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin

from ksql_lake.lake import Lake
from ksql_lake.orchestration.inputs import fingerprint
from ksql_lake_tests.orchestration.project import Project

HERE = RegisteredCodeLocationOrigin("ksql_lake")


def _tick(sensor: dg.SensorDefinition) -> str:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            instance=instance,
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=None,
            repository_name=None,
            code_location_origin=HERE,
        )
        return str(sensor.evaluate_tick(context).skip_message)


def _now(project: Project) -> str:
    return fingerprint(project.folder / "feeds", Lake(project.folder / "data_lake"))


def test_any_change_of_a_feed_file_is_noticed(project: Project) -> None:
    """Adding, editing, archiving and removing change the fingerprint; what is no feed file does not."""
    feeds = project.folder / "feeds"
    seen = [_now(project)]
    (feeds / "notes.txt").write_text("hello")
    (feeds / "active" / ".payments.json.swp").write_text("an editor's")
    assert _now(project) == seen[0]

    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01")
    seen.append(_now(project))
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-02")
    seen.append(_now(project))
    (feeds / "archived").mkdir()
    (feeds / "active" / "visits.json").rename(feeds / "archived" / "visits.json")
    seen.append(_now(project))
    assert len(set(seen)) == 4
    (feeds / "archived" / "visits.json").unlink()
    assert _now(project) == seen[0]


def test_a_web_server_that_is_away_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing changed no request is sent; a change fails the tick with the variable to set."""
    monkeypatch.setenv("KSQL_LAKE_DAGSTER_URL", "http://127.0.0.1:9")
    sensor = project.definitions().get_repository_def().get_sensor_def("feed_files")
    assert _tick(sensor) == "The loaded definitions are up to date."
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01")

    with pytest.raises(Exception, match="KSQL_LAKE_DAGSTER_URL") as told:
        _tick(sensor)

    assert "http://127.0.0.1:9 did not reload them" in str(told.value) + str(told.value.__cause__)

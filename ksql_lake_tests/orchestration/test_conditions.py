"""Automation conditions instead of schedules: what is asked for, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus

from ksql_lake.export import export_feed
from ksql_lake.feeds import TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import FeedState, Lake
from ksql_lake.orchestration.conditions import version_is_due
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import Project
from ksql_lake_tests.report.lakes import backdate


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


NAMES = ("berlin", "totals")


class Clock:
    """Evaluates the conditions of a project at given moments, as the daemon does."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        self.defs = project.definitions()
        self.instance = instance
        self.cursor: object = None

    def at(self, text: str) -> dict[str, list[str]]:
        """Return what is requested at a moment (UTC), by asset."""
        told = dg.evaluate_automation_conditions(
            self.defs,
            self.instance,
            asset_selection=dg.AssetSelection.assets(*NAMES),
            cursor=self.cursor,  # type: ignore[arg-type]
            evaluation_time=datetime.fromisoformat(text).replace(tzinfo=UTC),
        )
        self.cursor = told.cursor
        found = {name: told.get_requested_partitions(dg.AssetKey(name)) for name in NAMES}
        return {name: sorted(map(str, keys)) for name, keys in found.items() if keys}

    def done(self, name: str, *keys: str) -> None:
        """Record partitions as materialised."""
        for key in keys:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=key))


def _write(project: Project) -> None:
    project.write_feed(
        "berlin",
        kind="stream",
        source="VISITS",
        start_date="2025-03-27",
        timezone="Europe/Berlin",
        schedule="5 0 * * *",
        automation="condition",
    )
    project.write_feed("totals", kind="table", source="TOTALS", automation="condition")


def test_missing_days_are_asked_for_once_a_tick(project: Project, instance: dg.DagsterInstance) -> None:
    """All that is missing, whatever is above it; nothing until the next tick; then what is new and late."""
    _write(project)
    clock = Clock(project, instance)

    assert clock.at("2025-03-29T22:00") == {}
    # The night in which the clock jumps: five past midnight in Berlin is 23:05 UTC before and 22:05 after it.
    assert clock.at("2025-03-29T23:06") == {"berlin": ["2025-03-27", "2025-03-28", "2025-03-29"]}
    assert clock.at("2025-03-29T23:10") == {}
    clock.done("berlin", "2025-03-27", "2025-03-28", "2025-03-29")
    assert clock.at("2025-03-30T22:04") == {}
    assert clock.at("2025-03-30T22:06") == {"berlin": ["2025-03-29", "2025-03-30"]}


def test_after_an_outage_nothing_is_left_out(project: Project, instance: dg.DagsterInstance) -> None:
    """The first tick afterwards asks for every day that was missed."""
    _write(project)
    clock = Clock(project, instance)
    clock.at("2025-03-28T12:00")
    clock.done("berlin", "2025-03-27")

    missed = ["2025-03-28", "2025-03-29", "2025-03-30", "2025-03-31", "2025-04-01"]
    assert clock.at("2025-04-02T12:00") == {"berlin": missed}


def test_of_a_table_only_the_open_version_is_asked_for(project: Project, instance: dg.DagsterInstance) -> None:
    """Also where Dagster forgot everything: the sensor records what is there before it offers it."""
    _write(project)
    feed = project.lake("totals").feed
    with KsqlClient(load_settings()) as client:
        for _ in range(3):
            export_feed(feed, client, Lake(project.folder / "data_lake"))
    clock = Clock(project, instance)
    sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")
    told = sensor(dg.build_sensor_context(instance=instance))

    clock.at("2025-03-29T01:00")

    assert "totals: 3 partitions in the lake, 3 recorded" in str(told)
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2", "v3"]
    assert clock.at("2025-03-29T01:31") == {}
    instance.add_dynamic_partitions("totals_versions", ["v4"])
    assert clock.at("2025-03-29T01:32") == {"totals": ["v4"]}
    assert clock.at("2025-03-29T02:00") == {}
    assert clock.at("2025-03-30T01:31")["totals"] == ["v4"]
    clock.done("totals", "v4")
    assert "totals" not in clock.at("2025-03-31T01:31")


def test_a_version_is_due_when_the_cron_has_ticked_since_the_last_one(project: Project) -> None:
    """Then the sensor offers it, also after an outage; the first version needs no asking."""
    _write(project)
    feed = project.lake("totals").feed
    assert isinstance(feed, TableFeed)

    def due(exported: str, now: str) -> bool:
        state = FeedState(kind="table", last_export=exported)
        return version_is_due(feed, state, datetime.fromisoformat(now).replace(tzinfo=UTC))

    assert not due("2025-03-29T01:30:05.000+00:00", "2025-03-30T01:29")
    assert due("2025-03-29T01:30:05.000+00:00", "2025-03-30T01:30:01")
    assert due("2025-03-29T01:30:05.000+00:00", "2025-04-12T11:00")
    assert not due("", "2025-04-12T11:00")


def test_a_version_is_only_offered_where_conditions_are_evaluated(project: Project) -> None:
    """While the sensor of the conditions is off, nothing below waits for a version that no run makes."""
    project.write_feed("totals", kind="table", source="TOTALS", automation="condition", schedule="* * * * *")
    feed, lake = project.lake("totals").feed, Lake(project.folder / "data_lake")
    with KsqlClient(load_settings()) as client:
        export_feed(feed, client, lake)
    backdate(lake, feed, datetime.now(UTC) - timedelta(minutes=1))  # the cron has ticked since
    repository = project.definitions().get_repository_def()
    sensor = repository.get_sensor_def("lake_in_step")

    with dg.instance_for_test() as instance:
        sensor(dg.build_sensor_context(instance=instance))
        assert instance.get_dynamic_partitions("totals_versions") == ["v1"]
        _switch_on(repository, instance, "automation")
        told = sensor(dg.build_sensor_context(instance=instance))
        assert "totals: v2 is due" in str(told)
        assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]


def _switch_on(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, name: str) -> None:
    """Switch a sensor on, as the UI does."""
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), repository.name)
    instance.add_instigator_state(
        InstigatorState(
            RemoteInstigatorOrigin(origin, name), InstigatorType.SENSOR, InstigatorStatus.RUNNING, None
        )
    )


def test_who_is_automated_is_in_no_schedule(project: Project) -> None:
    """A feed is exported by its schedule or by its condition, and the sensor waits for a person."""
    _write(project)

    repository = project.definitions().get_repository_def()

    cursor = json.dumps({"since": "2026-01-01T00:00:00+00:00", "waiting": {}})
    asked = set()
    with dg.DagsterInstance.ephemeral() as instance:
        for name in ("streams_due", "tables_due"):
            context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
            for request in repository.get_sensor_def(name).evaluate_tick(context).run_requests or []:
                asked |= {key.to_user_string() for key in request.asset_selection or []}
    keys = {key.to_user_string() for key in repository.asset_graph.materializable_asset_keys}
    assert asked == keys - {"berlin", "totals", "monitoring_report"}
    sensor = repository.get_sensor_def("automation")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert "streams_Europe_Berlin" in repository.job_names
    condition = repository.asset_graph.get(dg.AssetKey("berlin")).automation_condition
    assert condition is not None
    assert condition.get_label() == "due at 5 0 * * * Europe/Berlin"

"""The age of a feed, judged from the lake: what a sensor says of it, and where it sends alerts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ksql_lake.orchestration import freshness_sensor
from ksql_lake_tests.orchestration.project import DAYS, Project, checked, failure_text


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class _Clock:
    """What the sensor takes for the present."""

    ahead = timedelta(0)
    fromisoformat = datetime.fromisoformat

    @classmethod
    def now(cls, zone: object) -> datetime:
        """The real time, and what it is ahead."""
        assert zone is UTC
        return datetime.now(UTC) + cls.ahead


def _tick(project: Project, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    (sensor,) = [each for each in project.definitions().sensors or () if each.name == "freshness"]
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        told = sensor(context)
    assert isinstance(told, dg.SensorResult)
    return told


def test_a_feed_grows_old_by_the_lake(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails once when the last export is too old, and passes with the next one, by no event."""
    project.write_feed(
        "payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", checks={"max_age_hours": 36}
    )
    never = _tick(project, instance, None)
    result = project.materialize(instance, "payments", partition=DAYS[0])
    young = _tick(project, instance, never.cursor)
    monkeypatch.setattr(freshness_sensor, "datetime", _Clock)
    monkeypatch.setattr(_Clock, "ahead", timedelta(hours=37))
    old = _tick(project, instance, young.cursor)
    still = _tick(project, instance, old.cursor)
    monkeypatch.setattr(_Clock, "ahead", timedelta(0))
    again = _tick(project, instance, still.cursor)

    assert result.success, failure_text(result)
    assert checked(result, "payments")["freshness"].passed
    assert (list(never.asset_events), json.loads(never.cursor or "")) == ([], {})
    assert list(young.asset_events) == []
    (failed,) = old.asset_events
    assert isinstance(failed, dg.AssetCheckEvaluation)
    assert (failed.check_name, failed.passed, failed.severity) == (
        "freshness",
        False,
        dg.AssetCheckSeverity.ERROR,
    )
    assert failed.metadata["age_hours"].value == pytest.approx(37, abs=0.5)
    assert "no export for too long: payments" in str(old.skip_reason)
    assert (list(still.asset_events), still.skip_reason) == (
        [],
        dg.SkipReason("1 feeds watched; too old: payments"),
    )
    (passed,) = again.asset_events
    assert isinstance(passed, dg.AssetCheckEvaluation)
    assert passed.passed


def test_a_clock_that_was_ahead_keeps_no_feed_fresh(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export dated in the future fails the check once, with the reason, and the next export passes it."""
    project.write_feed(
        "payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", checks={"max_age_hours": 36}
    )
    result = project.materialize(instance, "payments", partition=DAYS[0])
    monkeypatch.setattr(freshness_sensor, "datetime", _Clock)
    monkeypatch.setattr(_Clock, "ahead", timedelta(days=-3))
    ahead = _tick(project, instance, None)
    still = _tick(project, instance, ahead.cursor)
    monkeypatch.setattr(_Clock, "ahead", timedelta(0))
    again = _tick(project, instance, still.cursor)

    assert result.success, failure_text(result)
    (failed,) = ahead.asset_events
    assert isinstance(failed, dg.AssetCheckEvaluation)
    assert not failed.passed
    assert "by a clock that was ahead, so its age is unknown" in str(failed.description)
    assert "the last export is dated in the future: payments" in str(ahead.skip_reason)
    assert (list(still.asset_events), still.skip_reason) == (
        [],
        dg.SkipReason("1 feeds watched; dated in the future: payments"),
    )
    (passed,) = again.asset_events
    assert isinstance(passed, dg.AssetCheckEvaluation)
    assert passed.passed


def test_a_run_that_reads_nothing_makes_no_feed_younger(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days before a stream's start are materialised without an export; the check says the last one's age."""
    project.write_feed("other", kind="stream", source="OTHER_PAYMENTS", start_date="2025-01-01")
    project.write_feed(
        "payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", checks={"max_age_hours": 36}
    )
    early = ("2025-01-02", "2025-01-03")
    never = checked(project.materialize(instance, "payments", days=early), "payments")["freshness"]
    project.materialize(instance, "payments", partition=DAYS[0])
    monkeypatch.setattr(freshness_sensor, "datetime", _Clock)
    young = checked(project.materialize(instance, "payments", days=early), "payments")["freshness"]
    monkeypatch.setattr(_Clock, "ahead", timedelta(hours=37))
    old = checked(project.materialize(instance, "payments", days=early), "payments")["freshness"]

    assert project.lake("payments").state().sequence == 1
    assert (never.passed, never.description) == (True, "It was never exported, so it has no age.")
    assert young.passed
    assert "within max_age_hours (36)" in str(young.description)
    assert not old.passed
    assert "longer ago than max_age_hours (36)" in str(old.description)


def test_only_feeds_that_ask_for_it_are_watched(project: Project) -> None:
    """Without `max_age_hours` there is neither check nor sensor, and no policy that looks at events."""
    project.write_feed("totals", kind="table", source="TOTALS", checks={"max_age_hours": 1})
    definitions = project.definitions()

    graph = definitions.resolve_asset_graph()
    assert [key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == "freshness"] == [
        "totals"
    ]
    assert all(spec.freshness_policy is None for spec in definitions.resolve_all_asset_specs())
    project.write_feed("totals", kind="table", source="TOTALS")
    assert "freshness" not in {sensor.name for sensor in project.definitions().sensors or ()}

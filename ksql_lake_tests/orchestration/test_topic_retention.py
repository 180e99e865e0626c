"""The alarm before Kafka deletes what was not exported, as Dagster shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ksql_lake.export.topology import KnownSource, Topology, save_topology
from ksql_lake.lake import Lake
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.orchestration.project import Project, checked

TODAY = datetime.now(UTC).date()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _write(project: Project, **keys: object) -> None:
    start = TODAY - timedelta(days=5)
    keys = {"topic_retention_hours": 96, "start_date": str(start), **keys}
    project.write_feed("payments", kind="stream", source="PAYMENTS", **keys)


def _sensor(project: Project) -> dg.SensorDefinition | None:
    repository = project.definitions().get_repository_def()
    return (
        repository.get_sensor_def("topic_retention") if repository.has_sensor_def("topic_retention") else None
    )


def _tick(project: Project, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    sensor = _sensor(project)
    assert sensor is not None
    told = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(told, dg.SensorResult)
    return told


def test_days_at_risk_are_told_once(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert names days and command, the check on the asset fails; the next tick is silent."""
    _write(project)
    with ScriptedServer() as web:
        web.script("/hook", answer(b"ok"))
        monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", f"{web.url}/hook")
        first = _tick(project, instance)
        second = _tick(project, instance, first.cursor)

        (request,) = web.requests
    assert request.json["kind"] == "topic_retention"
    assert request.json["title"] == "ksql-lake: Kafka deletes days that were not exported: payments"
    assert "What to do: ksql-lake export --stream payments --from" in request.json["text"]
    (evaluation,) = first.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert (evaluation.check_name, evaluation.passed) == ("topic_retention", False)
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert second.asset_events == []
    assert "still at risk: payments" in str(second.skip_reason)


def test_the_export_that_was_missing_turns_it_green(project: Project, instance: dg.DagsterInstance) -> None:
    """The check rides on the export, and the sensor has nothing more to say."""
    _write(project)
    before = _tick(project, instance)

    found = checked(project.materialize(instance, "payments"), "payments")["topic_retention"]
    after = _tick(project, instance, before.cursor)

    assert found.passed
    assert found.description == "Kafka is about to delete no unread day; it keeps the records for 4 d."
    (evaluation,) = after.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert evaluation.passed
    assert "Kafka is about to delete no unread day" in str(after.skip_reason)
    assert json.loads(str(after.cursor)) == {"payments": {}}


def test_an_export_that_came_too_late_says_so_once(project: Project, instance: dg.DagsterInstance) -> None:
    """Days that are read when Kafka may have deleted them fail the check of that export and of no other."""
    start = TODAY - timedelta(days=8)
    _write(project, start_date=str(start))
    first = checked(project.materialize(instance, "payments", partition=str(start)), "payments")

    late = checked(project.materialize(instance, "payments"), "payments")["topic_retention"]
    next_one = checked(project.materialize(instance, "payments"), "payments")["topic_retention"]

    assert not first["topic_retention"].passed  # the other days are unread
    assert not late.passed
    gone = [str(TODAY - timedelta(days=before)) for before in (7, 5, 4)]
    assert str(late.description).splitlines() == [
        f"{gone[0]} to {gone[1]}: read after Kafka could delete all of it",
        f"{gone[2]}: read after Kafka could delete some of it",
        "Kafka keeps PAYMENTS for 4 d, by the feed. Rows that it had deleted are not in the lake.",
    ]
    assert next_one.passed


def test_an_alarm_that_is_not_delivered_shows_in_the_tick(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick says the reason, and channels that have the alert do not get it again."""
    monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", "http://127.0.0.1:9/s3cret")
    _write(project)

    told = _tick(project, instance)

    assert "Not delivered by webhook: the webhook at 127.0.0.1 cannot be reached" in str(told.skip_reason)
    assert "s3cret" not in str(told.skip_reason)
    assert json.loads(str(told.cursor))["payments"]


def test_the_servers_word_is_enough(project: Project, instance: dg.DagsterInstance) -> None:
    """RETENTION_MS of the source, as `ksqldb_sources` kept it, has a stream watched without any setting."""
    _write(project, topic_retention_hours=None)
    assert _sensor(project) is None
    source = KnownSource(
        name="PAYMENTS",
        kind="stream",
        statement="CREATE STREAM PAYMENTS (ID BIGINT) WITH (KAFKA_TOPIC='p', RETENTION_MS=345600000);",
        topic="p",
        partitions=1,
        key_format=None,
        value_format="JSON",
        window_type=None,
        columns=(),
        upstream=(),
        queries=(),
    )
    save_topology(Topology("", {"PAYMENTS": source}), Lake(project.folder / "data_lake"))

    assert "by the source's statement" in str(_tick(project, instance).skip_reason)


def test_who_does_not_want_it_switches_it_off(project: Project, instance: dg.DagsterInstance) -> None:
    """With severity `off` neither sensor nor check are there."""
    _write(project, checks={"severity": {"topic_retention": "off"}})

    assert _sensor(project) is None
    assert "topic_retention" not in checked(project.materialize(instance, "payments"), "payments")


def test_one_broken_lake_does_not_silence_the_others(project: Project, instance: dg.DagsterInstance) -> None:
    """A feed whose manifests cannot be read is named, and the other one is judged."""
    _write(project)
    project.write_feed(
        "refunds", kind="stream", source="REFUNDS", start_date=str(TODAY), topic_retention_hours=96
    )
    project.materialize(instance, "payments")
    commits = project.folder / "data_lake" / "metadata" / "streams" / "payments" / "commits"
    (commits / f"{1:020d}.json").write_text("torn")

    told = _tick(project, instance)

    assert "payments cannot be checked" in str(told.skip_reason)
    assert [event.asset_key.to_user_string() for event in told.asset_events] == ["refunds"]

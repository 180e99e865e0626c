"""Alerts from Dagster's sensors, over real loopback channels."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.definitions.run_request import DagsterRunReaction

from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.orchestration.project import DAYS, Project


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A webhook that takes everything."""
    with ScriptedServer() as server:
        server.script("/hook", answer(b"ok"))
        monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", f"{server.url}/hook")
        yield server


def _react(
    project: Project,
    instance: dg.DagsterInstance,
    run: dg.ExecuteInProcessResult,
    *,
    tags: dict[str, str] | None = None,
) -> object:
    """Let the sensor that is about a run like this one see it."""
    repository = project.definitions().get_repository_def()
    context = dg.build_run_status_sensor_context(
        "of_a_test",
        run.get_run_success_event() if run.success else run.get_run_failure_event(),
        instance,
        run.dagster_run.with_tags({**run.dagster_run.tags, **(tags or {})}),
    )
    if run.success:
        return repository.get_sensor_def("failed_checks")(context)
    return repository.get_sensor_def("run_failures")(context.for_run_failure())


def test_a_failed_run_is_told(project: Project, instance: dg.DagsterInstance, webhook: ScriptedServer) -> None:
    """Which run, what happened, what to do, and where to look; feeds that landed are not in it."""
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-01-06")
    run = project.materialize(instance, "missing", "payments", days=(DAYS[0], DAYS[1]))

    _react(project, instance, run)

    (request,) = webhook.requests
    lines = request.json["text"].splitlines()
    assert lines[0] == "ksql-lake: run of missing, payments, 2025-01-06 to 2025-01-07 failed"
    assert lines[1].startswith("feed missing")
    assert "MISSING" in lines[1]
    assert lines[-1] == f"http://127.0.0.1:3000/runs/{run.run_id}"
    assert request.json["kind"] == "run_failure"
    assert request.json["facts"]["run_id"] == run.run_id


def test_a_run_that_is_tried_again_is_not_told(
    project: Project, instance: dg.DagsterInstance, webhook: ScriptedServer
) -> None:
    """Where Dagster retries the run by itself, only its last attempt is news."""
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-01-06")
    run = project.materialize(instance, "missing", partition=DAYS[0])

    _react(project, instance, run, tags={"dagster/will_retry": "true"})

    assert webhook.requests == []


def test_a_check_that_found_an_error_is_told(
    project: Project, instance: dg.DagsterInstance, webhook: ScriptedServer
) -> None:
    """What is wrong is news although the run succeeded; what is only unusual is not."""
    checks = {"min_records": 9, "not_null": ["NOTE"]}
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", checks=checks)
    run = project.materialize(instance, "payments", partition=DAYS[0])
    calm = project.materialize(instance, "refunds", partition=DAYS[3])

    _react(project, instance, run)
    _react(project, instance, calm)

    (request,) = webhook.requests
    assert request.json["title"] == "ksql-lake: checks failed in run of payments, 2025-01-06"
    assert "payments, not_null: 2025-01-06: 2 of 3 rows have no NOTE" in request.json["text"]
    assert "min_records" not in request.json["text"]


@pytest.mark.parametrize("retried", [False, True])
def test_a_check_is_told_although_another_feed_failed(
    project: Project, instance: dg.DagsterInstance, webhook: ScriptedServer, retried: bool
) -> None:
    """One feed that always fails hides no check of the others, also not in a run that is tried again."""
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-01-06")
    checks = {"not_null": ["NOTE"]}
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", checks=checks)
    run = project.materialize(instance, "missing", "payments", days=(DAYS[0], DAYS[1]))

    _react(project, instance, run, tags={"dagster/will_retry": "true"} if retried else None)

    (request,) = webhook.requests
    title, *lines = request.json["text"].splitlines()
    run_name = "run of missing, payments, 2025-01-06 to 2025-01-07"
    assert title == f"ksql-lake: {f'checks failed in {run_name}' if retried else f'{run_name} failed'}"
    assert any(line.startswith("feed missing") for line in lines) is not retried
    assert any(line.startswith("payments, not_null: ") and "rows have no NOTE" in line for line in lines)


def test_an_alert_that_does_not_arrive_is_seen(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick fails with the reason, the run's own log holds it, and no secret is in either."""
    monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", "http://127.0.0.1:9/s3cret")
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-01-06")
    run = project.materialize(instance, "missing", partition=DAYS[0])

    reaction = _react(project, instance, run)

    assert isinstance(reaction, DagsterRunReaction)
    assert reaction.error is not None
    said = "the webhook at 127.0.0.1 cannot be reached: Connection refused"
    logged = "\n".join(entry.message for entry in instance.all_logs(run.run_id))
    assert said in reaction.error.message
    assert said in logged
    assert "s3cret" not in str(reaction) + logged


def test_secrets_in_an_error_are_hidden(
    project: Project, instance: dg.DagsterInstance, webhook: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever text an error carries, no password of ours leaves in an alert."""

    @dg.op
    def careless() -> None:
        raise RuntimeError("logged in as lake:pa55w0rd")

    @dg.job
    def other() -> None:
        careless()

    monkeypatch.setenv("KSQLDB_USER", "lake")
    monkeypatch.setenv("KSQLDB_PASSWORD", "pa55w0rd")
    run = other.execute_in_process(instance=instance, raise_on_error=False)

    _react(project, instance, run)

    text = webhook.requests[0].json["text"]
    assert "careless: RuntimeError: logged in as lake:***" in text
    assert text.startswith("ksql-lake: run of other failed\n")

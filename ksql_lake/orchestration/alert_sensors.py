"""Sensors that alert people to failed runs and to checks with errors.

Runs that Dagster retries raise no alert.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import dagster as dg

from ksql_lake.alerts import Alert, Delivery, send_alert
from ksql_lake.orchestration.asset_checks import found_here
from ksql_lake.orchestration.internals import WILL_RETRY_TAG, failed_tick
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings

SENSOR_SECONDS = 30

_SHOWN = 20
"""How many failed steps or checks one alert tells of."""

_NAMED = 5
"""How many assets of a run the title of an alert names."""


def alert_sensors(
    scope: Scope, keys: Collection[dg.AssetKey], jobs: Collection[str]
) -> list[dg.SensorDefinition]:
    """Return the sensors; both run from the start, because without settings they only write into the log.

    Args:
        scope: Who is told.
        keys: Its assets.
        jobs: Its jobs. Of runs of other assets and jobs people are told where the scope is the whole location.
    """
    known = frozenset(keys)

    def concerned(run: dg.DagsterRun) -> bool:
        own = run.job_name in jobs or not known.isdisjoint(run.asset_selection or ())
        return scope.whole_location or own

    return [_run_failures(scope, concerned), _failed_checks(scope, concerned, known)]


def _run_failures(scope: Scope, concerned: Callable[[dg.DagsterRun], bool]) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name=scope.named("run_failures"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts about each failed run: to the log, and to the webhook and the e-mail addresses of "
        "KSQL_LAKE_ALERT_WEBHOOK and KSQL_LAKE_ALERT_EMAIL. A cancelled run is no failure.",
    )
    def run_failures(context: dg.RunFailureSensorContext) -> Any:
        if not concerned(context.dagster_run):
            return dg.SkipReason("This run is about none of these feeds.")
        if context.dagster_run.tags.get(WILL_RETRY_TAG) == "true":
            return dg.SkipReason("Dagster tries this run again by itself.")
        steps = list(_failed_steps(context)) or [str(context.failure_event.message)]
        return _tell(context, scope.settings, "run_failure", f"{_name(context.dagster_run)} failed", steps)

    return run_failures


def _failed_checks(
    scope: Scope, concerned: Callable[[dg.DagsterRun], bool], keys: Collection[dg.AssetKey]
) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name=scope.named("failed_checks"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts about checks that failed with severity ERROR in runs that succeeded.",
    )
    def failed_checks(context: dg.RunStatusSensorContext) -> Any:
        if not concerned(context.dagster_run):
            return None
        found = [
            f"{each.asset_key.to_user_string()}, {each.check_name}: {each.description or 'failed'}"
            for each in _evaluations(context)
            if not each.passed
            and each.severity is dg.AssetCheckSeverity.ERROR
            and (each.asset_key not in keys or found_here(each))
        ]
        if not found:
            return None
        return _tell(
            context, scope.settings, "failed_checks", f"checks failed in {_name(context.dagster_run)}", found
        )

    return failed_checks


def _tell(
    context: dg.RunStatusSensorContext, settings: Settings, kind: str, what: str, findings: list[str]
) -> Any:
    """Send an alert about a run; gives what fails the tick when a channel did not take it."""
    run = context.dagster_run
    facts = {"job": run.job_name, "run_id": run.run_id, "url": f"{settings.dagster_url}/runs/{run.run_id}"}
    more = [f"... and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    text = "\n".join([*findings[:_SHOWN], *more, facts["url"]])
    alert = Alert(kind, f"ksql-lake: {what}", text, facts)
    failed = [delivery for delivery in send_alert(alert, settings) if delivery.problem]
    if not failed:
        return None
    said = _undelivered(alert, failed)
    context.instance.report_engine_event(said, run)
    # Not raised: Dagster would go on to the next failed run, wait for the dead channel again, and when a minute
    # is over forget the whole tick and tell the other channels everything once more.
    return failed_tick(run, said, kind="AlertNotDelivered")


def _failed_steps(context: dg.RunFailureSensorContext) -> Iterator[str]:
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        if said is None and data.error is not None:
            # The innermost error says what happened; those around it only where.
            said = (data.error.cause or data.error).message
        said = said or str(event.message)
        step = str(event.step_key)
        yield said.strip() if step in said else f"{step}: {said.strip()}"


def _evaluations(context: dg.RunStatusSensorContext) -> Iterator[dg.AssetCheckEvaluation]:
    records = context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            yield event.asset_check_evaluation_data


def _name(run: dg.DagsterRun) -> str:
    """A run as a person calls it: its job, or what it materialises."""
    name = f"run of {run.job_name}"
    if run.asset_selection:
        assets = sorted(key.to_user_string() for key in run.asset_selection)
        more = f" and {len(assets) - _NAMED} more" if len(assets) > _NAMED else ""
        name = f"run of {', '.join(assets[:_NAMED])}{more}"
    start, end = (run.tags.get(f"dagster/asset_partition_range_{side}") for side in ("start", "end"))
    partition = run.tags.get("dagster/partition") or (f"{start} to {end}" if start else None)
    return f"{name}, {partition}" if partition else name


def _undelivered(alert: Alert, failed: list[Delivery]) -> str:
    reasons = "; ".join(f"{delivery.channel}: {delivery.problem}" for delivery in failed)
    return (
        f"The alert '{alert.title}' was not delivered. {reasons}\nSee KSQL_LAKE_ALERT_... in the environment."
    )

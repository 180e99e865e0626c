"""Sensors that alert people to failed runs and to checks with errors.

Of runs that Dagster retries only the checks raise one.
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
"""Most failed steps or checks that one alert lists."""

_NAMED = 5
"""Most assets of a run that the title of an alert names."""


def alert_sensors(
    scope: Scope, keys: Collection[dg.AssetKey], jobs: Collection[str]
) -> list[dg.SensorDefinition]:
    """Return the sensors; both are switched on from the start, because without settings they only write logs.

    Args:
        scope: The scope, with the settings of the alerts.
        keys: Its assets.
        jobs: Its jobs. Runs of other assets and jobs raise alerts if the scope is the whole location.
    """
    known = frozenset(keys)

    def concerned(run: dg.DagsterRun) -> bool:
        own = run.job_name in jobs or not known.isdisjoint(run.asset_selection or ())
        return scope.whole_location or own

    return [_run_failures(scope, concerned, known), _failed_checks(scope, concerned, known)]


def _run_failures(
    scope: Scope, concerned: Callable[[dg.DagsterRun], bool], keys: Collection[dg.AssetKey]
) -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name=scope.named("run_failures"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts about each failed run, and what its checks found: to the log, and to the webhook "
        "and the e-mail addresses of KSQL_LAKE_ALERT_WEBHOOK and KSQL_LAKE_ALERT_EMAIL. A cancelled run is no "
        "failure.",
    )
    def run_failures(context: dg.RunFailureSensorContext) -> Any:
        if not concerned(context.dagster_run):
            return dg.SkipReason("This run belongs to none of these feeds.")
        # The other feeds of the run landed: no later run evaluates their checks again without new rows.
        found = _found(context, keys)
        if context.dagster_run.tags.get(WILL_RETRY_TAG) == "true":
            return _tell(context, scope.settings, found) or dg.SkipReason(
                "Dagster retries this run automatically."
            )
        steps = list(_failed_steps(context)) or [str(context.failure_event.message)]
        what = f"{_name(context.dagster_run)} failed"
        return _send(context, scope.settings, "run_failure", what, [*steps, *found])

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
        return _tell(context, scope.settings, _found(context, keys))

    return failed_checks


def _found(context: dg.RunStatusSensorContext, keys: Collection[dg.AssetKey]) -> list[str]:
    """Return the errors that the checks of a run found; those of our assets only in their own days."""
    return [
        f"{each.asset_key.to_user_string()}, {each.check_name}: {each.description or 'failed'}"
        for each in _evaluations(context)
        if not each.passed
        and each.severity is dg.AssetCheckSeverity.ERROR
        and (each.asset_key not in keys or found_here(each))
    ]


def _tell(context: dg.RunStatusSensorContext, settings: Settings, found: list[str]) -> Any:
    """Send an alert about what the checks of a run found, if they found something."""
    if not found:
        return None
    what = f"checks failed in {_name(context.dagster_run)}"
    return _send(context, settings, "failed_checks", what, found)


def _send(
    context: dg.RunStatusSensorContext, settings: Settings, kind: str, what: str, findings: list[str]
) -> Any:
    """Send an alert about a run; return what fails the tick if a channel did not accept it."""
    run = context.dagster_run
    facts = {"job": run.job_name, "run_id": run.run_id, "url": f"{settings.dagster_url}/runs/{run.run_id}"}
    more = [f"... and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    text = "\n".join([*findings[:_SHOWN], *more, facts["url"]])
    alert = Alert(kind, f"ksql-lake: {what}", text, facts)
    failed = [delivery for delivery in send_alert(alert, settings) if delivery.problem]
    if not failed:
        return None
    problem = _undelivered(alert, failed)
    context.instance.report_engine_event(problem, run)
    # Not raised: Dagster would continue with the next failed run, wait for the dead channel again, and after a
    # minute drop the whole tick and send everything to the other channels again.
    return failed_tick(run, problem, kind="AlertNotDelivered")


def _failed_steps(context: dg.RunFailureSensorContext) -> Iterator[str]:
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        text = data.user_failure_data.description if data.user_failure_data else None
        if text is None and data.error is not None:
            # The innermost error says what happened; the outer ones say only where.
            text = (data.error.cause or data.error).message
        text = text or str(event.message)
        step = str(event.step_key)
        yield text.strip() if step in text else f"{step}: {text.strip()}"


def _evaluations(context: dg.RunStatusSensorContext) -> Iterator[dg.AssetCheckEvaluation]:
    records = context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            yield event.asset_check_evaluation_data


def _name(run: dg.DagsterRun) -> str:
    """Return a run's name for people: its job, or the assets it materialises."""
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
        f"The alert '{alert.title}' was not delivered. {reasons}\nCheck KSQL_LAKE_ALERT_... in the environment."
    )

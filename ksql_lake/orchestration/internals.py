"""All unpublished names of Dagster that are used, each with a fallback for releases that lack it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
    from dagster._core.execution.context.system import StepExecutionContext
    from dagster._core.instance import DynamicPartitionsStore

    PartitionsStore = DynamicPartitionsStore
    Step = StepExecutionContext
    AssetJob = UnresolvedAssetJobDefinition
else:
    PartitionsStore = Step = AssetJob = Any

WILL_RETRY_TAG = "dagster/will_retry"
"""The tag of a failed run that Dagster retries automatically."""


def _inner(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None


RUN_REACTION = _inner("dagster._core.definitions.run_request", "DagsterRunReaction")
ERROR_INFO = _inner("dagster_shared.error", "SerializableErrorInfo")
TICKS = _inner("dagster._utils.schedules", "reverse_cron_string_iterator")
NEXT_TICKS = _inner("dagster._utils.schedules", "cron_string_iterator")

TARGET = _inner(
    "dagster._core.definitions.asset_checks.asset_check_evaluation",
    "AssetCheckEvaluationTargetMaterializationData",
)

_EVENT_SCHEMA = "dagster._core.storage.event_log.schema"
EVENT_TABLES = [
    _inner(_EVENT_SCHEMA, name)
    for name in ("SqlEventLogStorageTable", "AssetKeyTable", "AssetEventTagsTable", "AssetCheckExecutionsTable")
]
"""Tables of the event log: events, assets, the tags of asset events, results of checks."""

RUN_TAGS = [_inner("dagster._core.storage.runs.schema", name) for name in ("RunTagsTable", "RunsTable")]
"""Tables of the runs: their tags, and the runs themselves."""


def failed_tick(run: dg.DagsterRun, said: str, *, kind: str, reaction: Any = RUN_REACTION) -> Any:
    """Return the result that lets a run status sensor's tick fail for one run and continue with the next.

    Raises:
        dagster.Failure: This Dagster lacks such a result; the tick ends.
    """
    if reaction is None or ERROR_INFO is None:
        raise dg.Failure(said)
    return reaction(run, error=ERROR_INFO(said, stack=[], cls_name=kind), run_status=run.status)


def of_newest(
    evaluation: dg.AssetCheckEvaluation, instance: dg.DagsterInstance, *, target: Any = TARGET
) -> dg.AssetCheckEvaluation:
    """Return a check result that is recorded without a run as one of the asset's newest materialization.

    Otherwise Dagster compares when both were recorded, the result in whole seconds, and shows the check as not
    evaluated if both were recorded in the same second.
    """
    asked: dg.AssetKey | dg.AssetRecordsFilter = evaluation.asset_key
    if evaluation.partition is not None:
        asked = dg.AssetRecordsFilter(evaluation.asset_key, asset_partitions=[evaluation.partition])
    records = instance.fetch_materializations(asked, limit=1).records
    if target is None or not records:
        return evaluation
    newest = records[0]
    return dg.AssetCheckEvaluation(
        asset_key=evaluation.asset_key,
        check_name=evaluation.check_name,
        passed=evaluation.passed,
        metadata=evaluation.metadata,
        target_materialization_data=target(
            storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
        ),
        severity=evaluation.severity,
        description=evaluation.description,
        blocking=evaluation.blocking,
        partition=evaluation.partition,
    )


def has_ticked(cron: str, since: datetime, now: datetime, *, ticks: Any = TICKS) -> bool:
    """Return whether a cron expression, in UTC, had a tick after `since` and not after `now`."""
    if ticks is None:
        after = since.astimezone(UTC) + timedelta(microseconds=1)
        windows = dg.TimeWindowPartitionsDefinition(
            start=after, cron_schedule=cron, timezone="UTC", fmt="%Y-%m-%d-%H:%M", end_offset=1
        )
        first = next(iter(windows.get_partition_keys(current_time=now)), None)
        return first is not None and windows.time_window_for_partition_key(first).start <= now
    tick: datetime = next(ticks(now.timestamp(), cron, "UTC"))
    return tick.astimezone(UTC) > since


def next_tick(cron: str, zone: str, after: datetime, *, ticks: Any = NEXT_TICKS) -> datetime:
    """Return the first tick of a cron expression after a moment, as Dagster's schedules tick in that zone.

    If the clock jumps forward over a tick, the tick is at the end of the gap. If the clock goes back, a tick
    occurs once, but an hourly one in both hours.
    """
    # Ticks are whole minutes, and both iterators include their start.
    second = math.floor(after.timestamp()) + 1
    if ticks is not None:
        tick: datetime = next(ticks(second, cron, zone))
        return tick.astimezone(UTC)
    start = datetime.fromtimestamp(second, UTC)
    windows = dg.TimeWindowPartitionsDefinition(
        start=start, cron_schedule=cron, timezone=zone, fmt="%Y-%m-%d-%H:%M"
    )
    window = windows.get_next_partition_window(start, respect_bounds=False)
    if window is None:
        raise dg.DagsterInvariantViolationError(f"{cron!r} does not tick")
    return window.start.astimezone(UTC)


def step_of(context: dg.InputContext | dg.OutputContext) -> Step | None:
    """Return the step of an input or output; None outside a run, or if this Dagster does not expose it."""
    try:
        return context.step_context
    except (AttributeError, dg.DagsterInvariantViolationError):
        return None


def previous_attempts(context: dg.OutputContext) -> int:
    """Return how often the step was tried before; 0 if this Dagster does not expose it and counts alone."""
    step = step_of(context)
    return step.previous_attempt_count if step is not None else 0


def instance_of(context: dg.OutputContext) -> dg.DagsterInstance:
    """Return the Dagster instance of a run; that of the environment if the step does not expose it."""
    step = step_of(context)
    return step.instance if step is not None else dg.DagsterInstance.get()


def describe_output(context: dg.OutputContext, facts: Mapping[str | None, Mapping[str, Any]]) -> None:
    """Add metadata to the event that Dagster records for an output.

    Without the step, all partitions get the metadata of the last one.

    Args:
        context: The output.
        facts: Partition -> its metadata; the key None is for the run's.
    """
    step = step_of(context)
    for number, (key, metadata) in enumerate(facts.items(), 1):
        if step is not None:
            step.add_asset_metadata(metadata, partition_key=key)
        elif number == len(facts):
            context.add_output_metadata(metadata)

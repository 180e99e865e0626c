"""Keeping DAGSTER_HOME small: the job `prune` deletes what is old of our own runs and ticks.

What is materialised stays: a run that holds the newest event of a partition is kept and loses its log only. It
refuses to touch a run that has not ended, and everything that is not ours: other people's runs may stand for
what their sensors have seen.
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from ksql_lake.orchestration.jobs import WORK, one_op_job
from ksql_lake.orchestration.schedules import clock_schedule
from ksql_lake.orchestration.scope import Scope
from ksql_lake.orchestration.stored_history import StoredHistory

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_ALIVE = [status for status in dg.DagsterRunStatus if status not in _ENDED]
_PAGE = 500
_BACKFILL = "dagster/backfill"
_UNDER_WAY = {"REQUESTED", "CANCELING", "FAILING"}
"""The states of a backfill that has not ended."""

SCHEDULE = "15 4 * * *"
"""When old history is deleted, UTC, once the schedule is switched on."""


class PruneConfig(dg.Config):
    """How much one run of `prune` deletes; 0 days means what the environment says."""

    runs_days: int = Field(0, ge=0, description="Days that runs are kept; 0: KSQL_LAKE_KEEP_RUNS_DAYS.")
    ticks_days: int = Field(0, ge=0, description="Days that ticks are kept; 0: KSQL_LAKE_KEEP_TICKS_DAYS.")
    limit: int = Field(5000, ge=1, description="Most runs to delete, oldest first; with SQLite 50 ms each.")


@dataclass(frozen=True)
class Ours:
    """What of an instance is ours.

    Attributes:
        assets: Keys of the assets.
        jobs: Names of the jobs.
        tickers: Names of the schedules and sensors.
    """

    assets: frozenset[dg.AssetKey]
    jobs: frozenset[str]
    tickers: frozenset[str]

    def has(self, run: dg.DagsterRun) -> bool:
        """Whether a run is ours: it materialises our assets and nothing else, or is one of our jobs."""
        if run.asset_selection:
            return run.asset_selection <= self.assets
        return run.job_name in self.jobs and WORK in run.tags


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted: runs, logs of runs that stay, superseded events and results of checks.

    Attributes:
        deleted: Runs.
        thinned: Runs that stay because they hold a newest event, and lost their log.
        left: Runs that the limit left for the next time.
        events: Events of assets.
        checks: Results of checks.
        notes: What became of SQLite's files.
    """

    deleted: int
    thinned: int
    left: int
    events: int
    checks: int
    notes: tuple[str, ...]

    @property
    def says(self) -> str:
        """All of it in a few lines."""
        lines = [
            f"{self.deleted:,} runs deleted; {self.thinned:,} say what is materialised and lost only their log",
            f"{self.events:,} events and {self.checks:,} check results deleted that newer ones replace",
            *self.notes,
        ]
        if self.left:
            lines.append(f"{self.left:,} old runs are left: run prune again, or with a higher limit")
        return "\n".join(lines)


def prune(
    instance: dg.DagsterInstance,
    ours: Ours,
    *,
    runs_before: datetime,
    ticks_before: datetime,
    limit: int,
    log: logging.Logger | None = None,
) -> Pruned:
    """Delete old history of an instance.

    Args:
        instance: The instance.
        ours: What of it is ours.
        runs_before: Runs that have ended before are old, and so are events and check results.
        ticks_before: Ticks before are old.
        limit: Most runs to delete.
        log: Is told how far it is.

    Raises:
        dagster.Failure: The instance keeps its history in a way that is not known.
    """
    history = StoredHistory(instance)
    deleted = thinned = left = 0
    old = list(_old_runs(instance, ours, runs_before, filling=_backfills_alive(instance)))
    # After the list: a run that began since can only let more of the old ones go, at the next time.
    held = history.holders() | _newest_of_jobs(instance, {job for _, job in old})
    for run_id, _ in old:
        if run_id in held:
            if history.thin(run_id):
                instance.compute_log_manager.delete_logs(prefix=[run_id, "compute_logs"])
                thinned += 1
        elif deleted >= limit:
            left += 1
        else:
            instance.compute_log_manager.delete_logs(prefix=[run_id])
            instance.delete_run(run_id)
            history.drop_file(run_id)
            deleted += 1
            if log is not None and deleted % _PAGE == 0:
                log.info("%d of %d old runs deleted", deleted, len(old))
    for run_id in list(history.orphans(runs_before)):
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        history.drop_file(run_id)
    history.tags_of_lost_runs()
    _purge_ticks(instance, ours, ticks_before)
    alive = {run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=_ALIVE))}
    events = history.superseded_events(ours.assets, runs_before, alive=alive)
    checks = history.superseded_checks(ours.assets, runs_before, alive=alive)
    return Pruned(deleted, thinned, left, events, checks, tuple(history.shrink()))


def prune_definitions(scope: Scope, keys: Collection[dg.AssetKey], others: dg.Definitions) -> dg.Definitions:
    """Return the job `prune` and its schedule.

    Args:
        scope: Whose history is pruned.
        keys: Its assets.
        others: Its other definitions, which have run and ticked.
    """
    name = scope.named("prune")
    schedule = clock_schedule(name, SCHEDULE, running=scope.clocks_run)
    jobs = frozenset(job.name for job in others.jobs or ()) | {name}
    tickers = frozenset(each.name for each in (*(others.schedules or ()), *(others.sensors or ()), schedule))
    ours = Ours(frozenset(keys), jobs, tickers)

    @dg.op(name=scope.named("_prune_history"), description="Deletes old runs, events, check results and ticks.")
    def prune_history(context: dg.OpExecutionContext, config: PruneConfig) -> None:
        now, settings = datetime.now(UTC), scope.settings
        done = prune(
            context.instance,
            ours,
            runs_before=now - timedelta(days=config.runs_days or settings.keep_runs_days),
            ticks_before=now - timedelta(days=config.ticks_days or settings.keep_ticks_days),
            limit=config.limit,
            log=context.log,
        )
        context.log.info(done.says)

    says = "Keeps DAGSTER_HOME small: deletes old runs and ticks, and nothing that says what is materialised."
    return dg.Definitions(jobs=[one_op_job(name, says, prune_history)], schedules=[schedule])


def _backfills_alive(instance: dg.DagsterInstance) -> set[str]:
    """The backfills that have not ended: how far they are Dagster counts by their runs."""
    return {each.backfill_id for each in instance.get_backfills() if each.status.name in _UNDER_WAY}


def _old_runs(
    instance: dg.DagsterInstance, ours: Ours, before: datetime, *, filling: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield id and job of our runs that have ended before, oldest first; not those of backfills under way."""
    wanted, cursor = dg.RunsFilter(statuses=_ENDED, updated_before=before), None
    while True:
        page = instance.get_run_records(wanted, limit=_PAGE, cursor=cursor, ascending=True)
        runs = [record.dagster_run for record in page]
        yield from (
            (run.run_id, run.job_name)
            for run in runs
            if ours.has(run) and run.tags.get(_BACKFILL) not in filling
        )
        if len(page) < _PAGE:
            return
        cursor = runs[-1].run_id


def _newest_of_jobs(instance: dg.DagsterInstance, jobs: Collection[str]) -> set[str]:
    """The newest run of each job: its page shows how it went."""
    return {run.run_id for name in jobs for run in instance.get_runs(dg.RunsFilter(job_name=name), limit=1)}


def _purge_ticks(instance: dg.DagsterInstance, ours: Ours, before: datetime) -> None:
    """Delete old ticks, never the newest of a schedule or sensor: Dagster goes on from it."""
    for state in instance.all_instigator_state():
        if state.instigator_name not in ours.tickers:
            continue
        newest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if newest:
            cutoff = min(before.timestamp(), newest[0].timestamp)
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, cutoff)

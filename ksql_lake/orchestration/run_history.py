"""Keep DAGSTER_HOME small: the job `prune` deletes old runs and ticks of ksql-lake."""

# Materialisations stay: a run that holds the newest event of a partition is kept and loses only its log. Runs
# that have not ended stay, and so do runs of other definitions, whose sensors may depend on them.

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
_OF_PAGES = "__ASSET_JOB"
"""Dagster's job for runs that an asset's page, a backfill or a condition starts."""

_BACKFILL = "dagster/backfill"
_UNDER_WAY = {"REQUESTED", "CANCELING", "FAILING"}
"""The states of a backfill that has not ended."""

SCHEDULE = "15 4 * * *"
"""When old history is deleted, in UTC, once the schedule is switched on."""


class PruneConfig(dg.Config):
    """How much one run of `prune` deletes; 0 days means the environment's setting."""

    runs_days: int = Field(0, ge=0, description="Days to keep runs; 0: KSQL_LAKE_KEEP_RUNS_DAYS.")
    ticks_days: int = Field(0, ge=0, description="Days to keep ticks; 0: KSQL_LAKE_KEEP_TICKS_DAYS.")
    limit: int = Field(5000, ge=1, description="Most runs to delete, oldest first; with SQLite 50 ms each.")


@dataclass(frozen=True)
class Ours:
    """The parts of an instance that belong to a scope.

    Attributes:
        assets: Keys of the assets.
        jobs: Names of the jobs.
        tickers: Names of the schedules and sensors.
        checks: Names of the checks; others of the same assets belong to other definitions.
    """

    assets: frozenset[dg.AssetKey]
    jobs: frozenset[str]
    tickers: frozenset[str]
    checks: frozenset[str]

    def has(self, run: dg.DagsterRun) -> bool:
        """Return whether a run belongs to the scope: it is of one of its jobs, or of only its assets.

        Runs of its jobs belong to it even if one of their feeds was removed since.
        """
        if run.job_name in self.jobs and WORK in run.tags:
            return True
        of_page = run.job_name.startswith(_OF_PAGES) and run.asset_selection
        return bool(of_page) and (run.asset_selection or set()) <= self.assets


@dataclass(frozen=True, slots=True)
class Pruned:
    """Counts of what was deleted: runs, logs of kept runs, superseded events and check results.

    Attributes:
        deleted: Deleted runs.
        thinned: Runs that stay because they hold a newest event; only their log was deleted.
        left: Old runs beyond the limit, left for the next time.
        events: Deleted events of assets.
        checks: Deleted check results.
        notes: What happened to SQLite's files.
    """

    deleted: int
    thinned: int
    left: int
    events: int
    checks: int
    notes: tuple[str, ...]

    @property
    def says(self) -> str:
        """The counts in a few lines."""
        lines = [
            f"{self.deleted:,} runs deleted; {self.thinned:,} hold a newest event and lost only their log",
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
        ours: The parts that belong to the scope.
        runs_before: Runs that ended before this are old, and so are events and check results.
        ticks_before: Ticks before this are old.
        limit: Most runs to delete.
        log: Receives the progress.

    Raises:
        dagster.Failure: The storage of the instance is of an unknown kind.
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
    events = history.superseded_events(ours.assets, ours.checks, runs_before, alive=alive)
    checks = history.superseded_checks(ours.assets, ours.checks, runs_before, alive=alive)
    return Pruned(deleted, thinned, left, events, checks, tuple(history.shrink()))


def prune_definitions(scope: Scope, keys: Collection[dg.AssetKey], others: dg.Definitions) -> dg.Definitions:
    """Return the job `prune` and its schedule.

    Args:
        scope: The scope whose history is pruned.
        keys: Its assets.
        others: Its other definitions, whose runs and ticks are pruned.
    """
    name = scope.named("prune")
    schedule = clock_schedule(name, SCHEDULE, running=scope.clocks_run)
    jobs = frozenset(job.name for job in others.jobs or ()) | {name}
    tickers = frozenset(each.name for each in (*(others.schedules or ()), *(others.sensors or ()), schedule))
    made = [each for each in others.assets or () if isinstance(each, dg.AssetsDefinition)]
    checks = frozenset(spec.name for each in made for spec in each.check_specs)
    ours = Ours(frozenset(keys), jobs, tickers, checks)

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

    text = (
        "Keeps DAGSTER_HOME small: deletes old runs and ticks, but no materialisation that is the newest one."
    )
    return dg.Definitions(jobs=[one_op_job(name, text, prune_history)], schedules=[schedule])


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
    """Return the newest run of each job: the job's page shows how it went."""
    return {run.run_id for name in jobs for run in instance.get_runs(dg.RunsFilter(job_name=name), limit=1)}


def _purge_ticks(instance: dg.DagsterInstance, ours: Ours, before: datetime) -> None:
    """Delete old ticks, but not the newest of a schedule or sensor: Dagster continues from it."""
    for state in instance.all_instigator_state():
        if state.instigator_name not in ours.tickers:
            continue
        newest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if newest:
            cutoff = min(before.timestamp(), newest[0].timestamp)
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, cutoff)

"""The jobs `retention` and `compaction`, and the priorities of runs."""

# Ops and graphs share one namespace with assets, so their names begin with an underscore, which no feed's name
# has.

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import dagster as dg

from ksql_lake.export.version_keys import keep_versions
from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.followers import update_followers
from ksql_lake.orchestration.run_failures import each_feed
from ksql_lake.orchestration.scope import Scope

PRIORITY = "dagster/priority"
WORK = "ksql_lake/work"

Work = Literal["streams", "tables", "automation", "certify", "upkeep"]

_PRIORITIES: dict[Work, int] = {"streams": 20, "tables": 10, "automation": 10, "certify": -10, "upkeep": -20}


def run_tags(work: Work) -> dict[str, str]:
    """Return the tags of a job of a kind of work."""
    return {PRIORITY: str(_PRIORITIES[work]), WORK: work}


def one_op_job(
    name: str,
    description: str,
    op: dg.OpDefinition,
    *,
    tags: Mapping[str, str] | None = None,
    partitions: dg.PartitionsDefinition[str] | None = None,
) -> dg.JobDefinition:
    """Return a job that runs one op in the run's own process; the op's name must begin with an underscore.

    Args:
        name: The job's name.
        description: What it does.
        op: The op.
        tags: Tags of its runs; None means those of upkeep.
        partitions: Partitions that a run may have.
    """
    graph = dg.GraphDefinition(f"_{name}", node_defs=[op])
    return graph.to_job(
        name=name,
        description=description,
        executor_def=dg.in_process_executor,
        tags=tags or run_tags("upkeep"),
        partitions_def=partitions,
    )


def retention_job(tables: Sequence[TableFeed], scope: Scope) -> dg.JobDefinition:
    """Return the job that removes the versions beyond each table's `retention`."""

    def retain(feed: TableFeed, instance: dg.DagsterInstance) -> str:
        feed_lake = scope.lake.feed(feed)
        if not feed_lake.plan_retention().remove:
            return f"{feed.name}: nothing to remove"
        with feed_lake.exclusive():
            removed = feed_lake.apply_retention()
        update_followers(scope.lake, feed)
        keep_versions(scope.versions(feed.name), feed_lake, instance)
        return f"{feed.name}: removed {', '.join(removed.remove) or 'nothing'}, {removed.bytes:,} bytes"

    return _job(
        scope, "retention", "Removes the versions of tables beyond their feed's `retention`.", tables, retain
    )


def compaction_job(
    streams: Sequence[StreamFeed], scope: Scope, *, open_files: int | None = None
) -> dg.JobDefinition:
    """Return the job that merges the small files of closed days, and with `open_files` those of open ones.

    Args:
        streams: The feeds.
        scope: Their lake.
        open_files: Fewest small files of an open day to merge; None skips open days.
    """

    def compact(feed: StreamFeed, _instance: dg.DagsterInstance) -> str:
        feed_lake = scope.lake.feed(feed)
        plan = feed_lake.plan_compaction(open_files=open_files)
        if not plan.days and not plan.open_days:
            return f"{feed.name}: nothing to merge"
        try:
            with feed_lake.exclusive():
                done = list(feed_lake.compact(open_files=open_files))
        finally:
            # Also if a later day failed: catalogs and indexes name files that the merged days replaced.
            update_followers(scope.lake, feed)
        before, after = sum(day.files_before for day in done), sum(day.files_after for day in done)
        return f"{feed.name}: {len(done)} days merged, {before} files became {after}"

    if open_files is not None:
        return _job(scope, "compaction_open", "Merges many small files, also of open days.", streams, compact)
    return _job(scope, "compaction", "Merges the small files of closed days.", streams, compact)


def _job(
    scope: Scope,
    name: str,
    description: str,
    feeds: Sequence[Feed],
    work: Callable[..., str],
) -> dg.JobDefinition:
    @dg.op(name=scope.named(f"_{name}_of_every_feed"), description=description)
    def every_feed(context: dg.OpExecutionContext) -> None:
        each_feed(feeds, lambda feed: work(feed, context.instance), context.log)

    return one_op_job(scope.named(name), description, every_feed)

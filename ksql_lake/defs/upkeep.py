"""Jobs that keep house: `retention` removes old table versions, `compaction` merges small files of closed days.

They ask no server, and do the same as `ksql-lake retention` and `ksql-lake compact`; `compaction_open` is
`ksql-lake compact --open`.
"""

from collections.abc import Callable, Sequence

import dagster as dg

from ksql_lake.defs.failures import each_feed
from ksql_lake.defs.one_op import one_op_job
from ksql_lake.export.versions import keep_versions
from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.lake import Lake


def retention_job(tables: Sequence[TableFeed], lake: Lake) -> dg.JobDefinition:
    """Give the job that removes the versions beyond each table's `retention`."""

    def retain(feed: TableFeed, instance: dg.DagsterInstance) -> str:
        feed_lake = lake.feed(feed)
        if not feed_lake.plan_retention().remove:
            return f"{feed.name}: nothing to remove"
        with feed_lake.exclusive():
            removed = feed_lake.apply_retention()
        keep_versions(feed.versions_name, feed_lake, instance)
        return f"{feed.name}: removed {', '.join(removed.remove) or 'nothing'}, {removed.bytes:,} bytes"

    return _job("retention", "Removes the versions of tables beyond their `retention`.", tables, retain)


def compaction_job(
    streams: Sequence[StreamFeed], lake: Lake, *, open_files: int | None = None
) -> dg.JobDefinition:
    """Give the job that merges the small files of closed days, and with `open_files` those of open ones.

    Args:
        streams: The feeds.
        lake: The lake.
        open_files: How many small files of an open day are merged at least; None leaves open days alone.
    """

    def compact(feed: StreamFeed, _instance: dg.DagsterInstance) -> str:
        feed_lake = lake.feed(feed)
        plan = feed_lake.plan_compaction(open_files=open_files)
        if not plan.days and not plan.open_days:
            return f"{feed.name}: nothing to merge"
        with feed_lake.exclusive():
            done = list(feed_lake.compact(open_files=open_files))
        before, after = sum(day.files_before for day in done), sum(day.files_after for day in done)
        return f"{feed.name}: {len(done)} days merged, {before} files became {after}"

    if open_files is not None:
        return _job("compaction_open", "Merges many small files, also of open days.", streams, compact)
    return _job("compaction", "Merges the small files of closed days.", streams, compact)


def _job(
    name: str,
    description: str,
    feeds: Sequence[Feed],
    work: Callable[..., str],
) -> dg.JobDefinition:
    @dg.op(name=f"_{name}_of_every_feed", description=description)
    def every_feed(context: dg.OpExecutionContext) -> None:
        each_feed(feeds, lambda feed: work(feed, context.instance), context.log)

    return one_op_job(name, description, every_feed)

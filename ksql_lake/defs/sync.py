"""The job that makes Dagster's picture of the lake true again, after DAGSTER_HOME was lost or bypassed.

The lake decides: what it holds and the instance does not know, or knows with another row count, is recorded as
a materialisation without a run. It reads no rows, asks no server and changes nothing in the lake. It refuses to
delete history: partitions that only the instance knows are named in the log.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from ksql_lake.defs.events import column_schema, page_metadata
from ksql_lake.defs.failures import each_feed
from ksql_lake.defs.one_op import one_op_job
from ksql_lake.export.facts import ROWS, lake_columns, lake_records
from ksql_lake.export.versions import keep_versions
from ksql_lake.feeds import Feed, TableFeed
from ksql_lake.lake import FeedLake, Lake

_PAGE = 500


class SyncConfig(dg.Config):
    """How much one run may do."""

    limit: int = Field(5000, ge=1)
    """Most materialisations one run records per feed, newest first; with SQLite each costs about 10 ms."""


def sync_job(feeds: Sequence[Feed], lake: Lake) -> dg.JobDefinition:
    """Give the job `sync` over all enabled feeds."""

    @dg.op(name="_tell_dagster", description="Tells the instance what the lake holds and it does not know.")
    def tell_dagster(context: dg.OpExecutionContext, config: SyncConfig) -> None:
        each_feed(
            feeds,
            lambda feed: sync_feed(lake.feed(feed), context.instance, limit=config.limit),
            context.log,
        )

    return one_op_job(
        "sync",
        "Makes Dagster's partitions and materialisations agree with the lake. Run it after DAGSTER_HOME was "
        "deleted, or after exports that Dagster was not told about.",
        tell_dagster,
    )


def sync_feed(lake: FeedLake, instance: dg.DagsterInstance, *, limit: int) -> str:
    """Bring one feed in step, and tell in one line what was done.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    feed = lake.feed
    held = {record.partition: record for record in lake_records(lake)}
    known = dict(_known(instance, dg.AssetKey([feed.name])))
    news = [record for key, record in held.items() if known.get(key) != record.facts[ROWS]]
    schema = column_schema(lake_columns(lake))
    # Oldest first, so that the newest partition is the asset's latest materialisation.
    for record in news[-limit:]:
        # Dagster shows the last one on the asset's page.
        metadata: dict[str, Any] = dict(record.facts)
        if record is news[-1]:
            metadata |= {**page_metadata(lake, record.partition), **schema}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(feed.name, partition=record.partition, metadata=metadata)
        )
    if isinstance(feed, TableFeed):
        # Last, so that no version is offered before it is known to be there.
        keep_versions(feed.versions_name, lake, instance)
    said = f"{feed.name}: {len(held)} partitions in the lake, {min(len(news), limit)} recorded"
    if len(news) > limit:
        said += f", {len(news) - limit} older ones left: run sync again"
    # A day before the feed's start is materialised with 0 rows; that claims nothing.
    gone = sorted(key for key, count in known.items() if count != 0 and key not in held)
    if gone:
        said += f"; Dagster also remembers {len(gone)} that the lake does not hold: {', '.join(gone[:5])}"
    return said


def _known(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[tuple[str, int | None]]:
    """Give each materialised partition with the row count of its newest materialisation."""
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    ids = list(newest.values())
    for start in range(0, len(ids), _PAGE):
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + _PAGE])
        for record in instance.fetch_materializations(wanted, limit=_PAGE).records:
            event = record.asset_materialization
            if event is not None and record.partition_key is not None:
                count = event.metadata.get(ROWS)
                yield record.partition_key, count.value if isinstance(count, dg.IntMetadataValue) else None

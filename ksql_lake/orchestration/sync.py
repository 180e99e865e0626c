"""Bring the Dagster instance in step with the lake after it was lost or bypassed: a job and a sensor."""

# The lake decides. Partitions that only the instance knows are named and stay.

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export.facts import ROWS, early_records, lake_columns, lake_records
from ksql_lake.export.version_keys import in_step, keep_versions, open_version
from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.orchestration.conditions import automation_runs, clock_hint, version_is_due
from ksql_lake.orchestration.events import column_metadata, page_metadata
from ksql_lake.orchestration.jobs import one_op_job
from ksql_lake.orchestration.run_failures import each_feed
from ksql_lake.orchestration.scope import Scope

SENSOR_SECONDS = 30

_PAGE = 500

_AT_ONCE = 1000
"""Most materialisations a tick of the sensor records; with SQLite they take about 10 s, and a tick has 60."""


class SyncConfig(dg.Config):
    """How much one run may do."""

    limit: int = Field(5000, ge=1)
    """Most materialisations one run records per feed, newest first; with SQLite each costs about 10 ms."""


def sync_job(feeds: Sequence[Feed], scope: Scope, first_days: Mapping[str, date]) -> dg.JobDefinition:
    """Return the job `sync` over all enabled feeds.

    Args:
        feeds: The feeds.
        scope: Their lake, and their names in Dagster.
        first_days: Time zone -> first day that is a partition of its streams.
    """

    @dg.op(
        name=scope.named("_tell_dagster"),
        description="Tells the instance what the lake holds and it does not know.",
    )
    def tell_dagster(context: dg.OpExecutionContext, config: SyncConfig) -> None:
        each_feed(
            feeds,
            lambda feed: (
                sync_feed(
                    scope, feed, context.instance, limit=config.limit, since=_since(feed, first_days)
                ).said
            ),
            context.log,
        )

    return one_op_job(
        scope.named("sync"),
        "Makes Dagster's partitions and materialisations agree with the lake. Run it after DAGSTER_HOME was "
        "deleted, or after exports that Dagster was not told about.",
        tell_dagster,
    )


@dataclass(frozen=True, slots=True)
class Synced:
    """What was recorded of a feed: in a line, how many partitions, and how many are left to record."""

    said: str
    recorded: int
    left: int


def lake_sensor(feeds: Sequence[Feed], scope: Scope, first_days: Mapping[str, date]) -> dg.SensorDefinition:
    """Return the sensor `lake_in_step`; its arguments are those of `sync_job`."""

    @dg.sensor(
        name=scope.named("lake_in_step"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records what the lake holds and Dagster was not told of, so that conditions below see it, "
        "and offers exactly the versions that each table has. Starts no runs and asks no server.",
    )
    def lake_in_step(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen: dict[str, list[Any]] = json.loads(context.cursor or "{}")
        now, told, left = datetime.now(UTC), [], _AT_ONCE
        for feed in feeds:
            try:
                since = _since(feed, first_days)
                synced = _keep_in_step(scope, feed, context.instance, seen, limit=left, since=since)
                if synced is not None:
                    left -= synced.recorded
                    told.append(synced.said)
                if isinstance(feed, TableFeed):
                    told.append(_open_if_due(scope, feed, context.instance, now))
            except KsqlLakeError as error:
                told.append(str(error.at(feed=feed.name)))
        context.update_cursor(json.dumps(seen))
        told.append(clock_hint(context.instance, scope))
        return dg.SkipReason(
            "\n".join([f"{len(feeds)} feeds were compared with the lake.", *filter(None, told)])
        )

    return lake_in_step


def _keep_in_step(
    scope: Scope,
    feed: Feed,
    instance: dg.DagsterInstance,
    seen: dict[str, list[Any]],
    *,
    limit: int,
    since: date | None,
) -> Synced | None:
    """Compare a feed where something happened since it was last compared; gives what was done, if anything.

    Args:
        scope: Its lake, and its names in Dagster.
        feed: The feed.
        instance: Dagster's.
        seen: Feed -> what its lake was like, and whether the instance has all of it; brought up to date.
        limit: Most materialisations to record.
        since: First day that is a partition of a stream.
    """
    state = scope.lake.feed(feed).state()
    mark, before = f"{state.sequence} {since or ''}", seen.get(feed.name)
    behind = isinstance(feed, TableFeed) and not in_step(
        state, instance.get_dynamic_partitions(scope.versions(feed.name))
    )
    if not behind and before == [mark, True]:
        return None
    if not behind and before is not None and before[0] != mark:
        # A run has just committed, and is about to record it itself: the next tick looks whether it did.
        seen[feed.name] = [mark, False]
        return None
    synced = sync_feed(scope, feed, instance, limit=limit, since=since)
    seen[feed.name] = [mark, not synced.left]
    return synced if behind or synced.recorded else None


def _open_if_due(scope: Scope, feed: TableFeed, instance: dg.DagsterInstance, now: datetime) -> str:
    """Offer a table's open version where its automation condition is to ask for it."""
    state, versions = scope.lake.feed(feed).state(), scope.versions(feed.name)
    key = open_version(state)
    if not version_is_due(feed, state, now) or key in instance.get_dynamic_partitions(versions):
        return ""
    if not automation_runs(instance, scope):
        # Nobody would make it, and everything below would wait for it.
        return ""
    instance.add_dynamic_partitions(versions, [key])
    return f"{feed.name}: {key} is due"


def sync_feed(
    scope: Scope, feed: Feed, instance: dg.DagsterInstance, *, limit: int, since: date | None = None
) -> Synced:
    """Bring one feed in step.

    Args:
        scope: Its lake, and its names in Dagster.
        feed: The feed.
        instance: Dagster's.
        limit: Most materialisations to record, newest first.
        since: First day that is a partition of a stream; those before its own start hold no rows.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    lake, key = scope.lake.feed(feed), scope.key(feed)
    held = {record.partition: record for record in lake_records(lake)}
    early = early_records(feed, since) if isinstance(feed, StreamFeed) and since is not None else ()
    known = dict(_known(instance, key))
    news = [record for record in early if record.partition not in {*known, *held}]
    news += [record for partition, record in held.items() if known.get(partition) != record.facts[ROWS]]
    schema = column_metadata(lake_columns(lake), feed, scope)
    # Oldest first, so that the newest partition is the asset's latest materialisation.
    for record in news[-limit:] if limit else []:
        # Dagster shows the last one on the asset's page.
        metadata: dict[str, Any] = dict(record.facts)
        if record is news[-1] and record.partition in held:
            metadata |= {**page_metadata(lake, record.partition), **schema}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=record.partition, metadata=metadata)
        )
    if isinstance(feed, TableFeed):
        # Last, so that no version is offered before it is known to be there.
        keep_versions(scope.versions(feed.name), lake, instance)
    said = f"{feed.name}: {len(held)} partitions in the lake, {min(len(news), limit)} recorded"
    left = max(0, len(news) - limit)
    if left:
        said += f", {left} older ones left: run sync again"
    # A day before the feed's start is materialised with 0 rows; that claims nothing.
    gone = sorted(each for each, count in known.items() if count != 0 and each not in held)
    if gone:
        said += f"; Dagster also remembers {len(gone)} that the lake does not hold: {', '.join(gone[:5])}"
    return Synced(said, min(len(news), limit), left)


def _since(feed: Feed, first_days: Mapping[str, date]) -> date | None:
    return first_days.get(feed.timezone) if isinstance(feed, StreamFeed) else None


def _known(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[tuple[str, int | None]]:
    """Yield each materialised partition with the row count of its newest materialisation."""
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

"""A job and a sensor that update the Dagster instance from the lake after it was lost or bypassed."""

# The lake is authoritative. Partitions that only the instance knows are reported and stay.

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export.facts import ROWS, early_records, lake_columns, lake_records, whole_facts
from ksql_lake.export.version_keys import in_step, keep_versions, open_version
from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.lake import FeedState
from ksql_lake.lake.layout import version_number
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
    """How much one run may record."""

    limit: int = Field(5000, ge=1)
    """Most materialisations one run records per feed, newest first; with SQLite each costs about 10 ms."""


def sync_job(
    feeds: Sequence[Feed], idle: Sequence[Feed], scope: Scope, first_days: Mapping[str, date]
) -> dg.JobDefinition:
    """Return the job `sync` over all feeds, also those that export nothing: their rows stay readable.

    Args:
        feeds: The feeds that export.
        idle: Those that do not, archived or disabled.
        scope: Their lake, and their names in Dagster.
        first_days: Time zone -> first day that is a partition of its streams.
    """
    exporting = {feed.name for feed in feeds}

    @dg.op(
        name=scope.named("_tell_dagster"),
        description="Records in the instance what the lake holds and the instance lacks.",
    )
    def tell_dagster(context: dg.OpExecutionContext, config: SyncConfig) -> None:
        def synced(feed: Feed) -> str:
            if feed.name not in exporting and not scope.lake.feed(feed).state().sequence:
                return f"{feed.name}: it exports nothing, and never did"
            since = _since(feed, first_days)
            return sync_feed(scope, feed, context.instance, limit=config.limit, since=since).said

        each_feed([*feeds, *idle], synced, context.log)

    return one_op_job(
        scope.named("sync"),
        "Makes Dagster's partitions and materialisations agree with the lake. Run it after DAGSTER_HOME was "
        "deleted, or after exports that were not recorded in Dagster.",
        tell_dagster,
    )


@dataclass(frozen=True, slots=True)
class Synced:
    """The result for a feed: a line of text, and numbers of partitions.

    Attributes:
        said: The text.
        recorded: Partitions that were recorded.
        left: Partitions left for the next time.
        gone: Partitions that only Dagster has, whole.
    """

    said: str
    recorded: int
    left: int
    gone: int


def lake_sensor(
    feeds: Sequence[Feed], idle: Sequence[Feed], scope: Scope, first_days: Mapping[str, date]
) -> dg.SensorDefinition:
    """Return the sensor `lake_in_step`; its arguments are those of `sync_job`."""
    exporting = {feed.name for feed in feeds}

    @dg.sensor(
        name=scope.named("lake_in_step"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Records what the lake holds and Dagster lacks, so that downstream conditions see it, and "
        "offers exactly the versions that each table has. Starts no runs and asks no server.",
    )
    def lake_in_step(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        seen: dict[str, list[Any]] = json.loads(context.cursor or "{}")
        now, lines, left = datetime.now(UTC), [], _AT_ONCE
        for feed in (*feeds, *idle):
            try:
                state = scope.lake.feed(feed).state()
                if feed.name not in exporting and not state.sequence:
                    continue
                since = _since(feed, first_days)
                synced = _keep_in_step(scope, feed, state, context.instance, seen, limit=left, since=since)
                if synced is not None:
                    left -= synced.recorded
                    lines.append(synced.said)
                if isinstance(feed, TableFeed) and feed.name in exporting:
                    lines.append(_open_if_due(scope, feed, context.instance, now))
            except KsqlLakeError as error:
                lines.append(str(error.at(feed=feed.name)))
        context.update_cursor(json.dumps(seen))
        if feeds:
            lines.append(clock_hint(context.instance, scope))
        return dg.SkipReason(
            "\n".join([f"{len(feeds) + len(idle)} feeds were compared with the lake.", *filter(None, lines)])
        )

    return lake_in_step


def _keep_in_step(  # noqa: PLR0913 - each is a fact of its own
    scope: Scope,
    feed: Feed,
    state: FeedState,
    instance: dg.DagsterInstance,
    seen: dict[str, list[Any]],
    *,
    limit: int,
    since: date | None,
) -> Synced | None:
    """Compare a feed that changed since the last comparison; return what was recorded, or None.

    Args:
        scope: Its lake, and its names in Dagster.
        feed: The feed.
        state: What its lake holds.
        instance: Dagster's.
        seen: Feed -> the state of its lake, and whether the instance has all of it; updated here.
        limit: Most materialisations to record.
        since: First day that is a partition of a stream.
    """
    # A restored lake may have as many commits as the one before.
    start = feed.start_date if isinstance(feed, StreamFeed) else ""
    mark, before = f"{state.sequence} {state.last_export} {since or ''} {start}", seen.get(feed.name)
    behind = isinstance(feed, TableFeed) and not in_step(
        state, instance.get_dynamic_partitions(scope.versions(feed.name))
    )
    if not behind and before == [mark, True]:
        return None
    if not behind and before is not None and before[0] != mark:
        # A run has just committed and will record it: the next tick checks that it did.
        seen[feed.name] = [mark, False]
        return None
    synced = sync_feed(scope, feed, instance, limit=limit, since=since)
    seen[feed.name] = [mark, not synced.left]
    return synced if behind or synced.recorded or synced.gone else None


def _open_if_due(scope: Scope, feed: TableFeed, instance: dg.DagsterInstance, now: datetime) -> str:
    """Offer a table's open version if its automation condition shall request it."""
    state, versions = scope.lake.feed(feed).state(), scope.versions(feed.name)
    key = open_version(state)
    if not version_is_due(feed, state, now) or key in instance.get_dynamic_partitions(versions):
        return ""
    if not automation_runs(instance, scope):
        # No run would make this version, and downstream assets would wait for it.
        return ""
    instance.add_dynamic_partitions(versions, [key])
    return f"{feed.name}: {key} is due"


def sync_feed(
    scope: Scope, feed: Feed, instance: dg.DagsterInstance, *, limit: int, since: date | None = None
) -> Synced:
    """Update the instance for one feed.

    Args:
        scope: Its lake, and its names in Dagster.
        feed: The feed.
        instance: Dagster's.
        limit: Most materialisations to record, newest first.
        since: First day that is a partition of a stream; days before the feed's start hold no rows.

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
    state = lake.state()
    for record in news[-limit:] if limit else []:
        metadata: dict[str, Any] = dict(record.facts)
        if record is news[-1] and record.partition in held:
            # Dagster shows the last one on the asset's page, also if it is an older day.
            metadata |= {**whole_facts(state), **page_metadata(lake, record.partition), **schema}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=record.partition, metadata=metadata)
        )
    if isinstance(feed, TableFeed):
        # Last, so that no version is offered before it is recorded.
        keep_versions(scope.versions(feed.name), lake, instance)
    said = f"{feed.name}: {len(held)} partitions in the lake, {min(len(news), limit)} recorded"
    left = max(0, len(news) - limit)
    if left:
        said += f", {left} older ones left: run sync again"
    # A day that is not closed is in the lake too, and one before the feed's start has 0 rows, which is true.
    there = {*held, *state.looked, *state.partitions}
    gone = sorted(each for each, count in known.items() if count != 0 and each not in there)
    if isinstance(feed, TableFeed) and held:
        # Retention removes the oldest versions, and Dagster keeps their materialisations.
        oldest = min(map(_number, held))
        gone = [each for each in gone if _number(each) > oldest]
    if gone:
        said += f"; Dagster also has {len(gone)} that the lake does not hold: {', '.join(gone[:5])}"
    unread = _unread(feed, state, known)
    if unread:
        said += f"; Dagster also has {len(unread)} that no export has read: {', '.join(unread[:5])}"
    return Synced(said, min(len(news), limit), left, len(gone) + len(unread))


def _unread(feed: Feed, state: FeedState, known: Mapping[str, int | None]) -> list[str]:
    """Return the days that Dagster has and no export has read.

    Files of them were lost since, so that the lake holds a part only; or they were recorded as empty, because
    they lay before the feed's start then.
    """
    if not isinstance(feed, StreamFeed):
        return []
    start = feed.start_date.isoformat()
    return sorted(
        day
        for day, count in known.items()
        if day not in state.looked and (day in state.partitions or (count == 0 and day >= start))
    )


def _number(key: str) -> int:
    """Return a version's number; a partition that is no version is newer than any."""
    try:
        return version_number(key)
    except ValueError:
        return sys.maxsize


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

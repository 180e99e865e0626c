"""The facts of an export as Dagster's metadata and events."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import dagster as dg

from ksql_lake import markdown
from ksql_lake.export import ExportResult
from ksql_lake.export.facts import (
    ROWS,
    ColumnRecord,
    column_records,
    is_closed,
    partition_facts,
    partition_records,
)
from ksql_lake.feeds import Feed
from ksql_lake.feeds.feed_columns import ADDED_BY_EXPORT, DELETED, POSITION_COLUMNS
from ksql_lake.lake import FeedLake
from ksql_lake.orchestration.scope import SOURCES, Scope
from ksql_lake.query import partition_page


def partition_metadata(
    result: ExportResult, partition: str, lake: FeedLake, scope: Scope, *, newest: bool = True, held: int = 0
) -> dict[str, Any]:
    """Return the metadata of one partition's materialisation.

    Args:
        result: The export.
        partition: `2025-01-15` or `v4`.
        lake: The feed's lake.
        scope: The names in Dagster.
        newest: Whether it is the last partition of its run, which Dagster shows on the asset's page.
        held: Its rows if the export had no reason to read it.
    """
    facts = partition_facts(result, partition, newest=newest, held=held)
    if not newest or result.commit is None:
        return dict(facts)
    columns = column_metadata(column_records(result), result.feed, scope)
    return {**facts, **page_metadata(lake, partition), **columns}


def run_metadata(result: ExportResult, lake: FeedLake, scope: Scope) -> dict[str, Any]:
    """Return the metadata of a run without a partition: of its newest partition, with the numbers of all."""
    if not result.partitions:
        return {"note": result.plan.reason}
    newest = result.partitions[-1].partition
    counts = {
        ROWS: sum(part.records for part in result.partitions),
        "bytes": sum(part.bytes for part in result.partitions),
        "read_rows": result.read,
        "new_rows": result.new,
        "already_there_rows": result.already_there,
        "late_rows": result.late,
        **({"dropped_rows": result.dropped} if result.dropped else {}),
    }
    return {**partition_metadata(result, newest, lake, scope), **counts, "partitions": result.covered}


def news(result: ExportResult, key: dg.AssetKey, instance: dg.DagsterInstance) -> frozenset[str]:
    """Return the partitions whose export shall be recorded in Dagster.

    Those are partitions that were read for the first time or got rows, and days that have ended since. An
    export that found nothing is not recorded, because it would add thousands of events without information per
    year.

    Args:
        result: The export.
        key: The key of the feed's asset.
        instance: The Dagster instance, with the events recorded before.
    """
    changed = {part.partition for part in result.partitions if part.new}
    read = {part.partition: is_closed(result, part.partition) for part in result.partitions}
    if not read:
        return frozenset()
    newest = instance.event_log_storage.get_latest_storage_id_by_partition
    ended = {*newest(key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(read))}
    seen = {*newest(key, dg.DagsterEventType.ASSET_OBSERVATION, set(read)), *ended}
    return frozenset(
        partition
        for partition, closed in read.items()
        if partition in changed or partition not in (ended if closed else seen)
    )


def events(
    result: ExportResult, lake: FeedLake, scope: Scope, partitions: Collection[str]
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Yield the events of partitions that an export read.

    The current day is only observed: its partition exists once the day has ended.

    Args:
        result: The export.
        lake: The feed's lake.
        scope: The names in Dagster.
        partitions: Partitions with news, without those that Dagster records itself.
    """
    records = [record for record in partition_records(result) if record.partition in partitions]
    # Dagster shows the last materialisation on the asset's page, also if it is an older day's.
    shown = [record for record in records if record.closed][-1:]
    for record in records:
        newest = record.newest or record in shown
        kind = dg.AssetMaterialization if record.closed else dg.AssetObservation
        yield kind(
            scope.key(result.feed),
            partition=record.partition,
            metadata=partition_metadata(result, record.partition, lake, scope, newest=newest),
        )


def page_metadata(lake: FeedLake, partition: str) -> dict[str, dg.MetadataValue[str]]:
    """Return the metadata that shows a few rows and the SQL that reads all."""
    page = partition_page(lake, partition)
    shown: dict[str, dg.MetadataValue[str]] = {"duckdb": dg.MetadataValue.text(page.duckdb)}
    if page.sample is not None:
        shown["sample"] = dg.MetadataValue.md(page.sample)
    return shown


def column_metadata(records: Iterable[ColumnRecord], feed: Feed, scope: Scope) -> dict[str, Any]:
    """Return the metadata that shows the columns and their source columns; empty without columns."""
    columns = [
        dg.TableColumn(column.name, column.type, description=_described(column, feed)) for column in records
    ]
    if not columns:
        return {}
    source, origins = scope.own_key(SOURCES, feed.source), {new: old for old, new in feed.rename.items()}
    # The page of a source shows no pseudo columns, and columns that an export adds have no source.
    own = {*ADDED_BY_EXPORT[feed.kind], *POSITION_COLUMNS, *([DELETED] if feed.marks_deleted else [])}
    above = {
        column.name: [dg.TableColumnDep(source, origins.get(column.name, column.name))]
        for column in columns
        if origins.get(column.name, column.name) not in own
    }
    return {
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/column_lineage": dg.TableColumnLineage(above),
    }


def _described(column: ColumnRecord, feed: Feed) -> str:
    """Return a column's description and ksqlDB's declared type; the type is code, because `<` is markup."""
    words = {feed.lake_name(name): text for name, text in feed.descriptions.items()}.get(column.name, "")
    declared = markdown.code(column.declared)
    return f"{words} ({declared})" if words else declared

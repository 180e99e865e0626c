"""The facts of an export as Dagster's metadata and events."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.facts import ColumnRecord, column_records, partition_facts, partition_records
from ksql_lake.lake import FeedLake
from ksql_lake.query import partition_page


def partition_metadata(
    result: ExportResult, partition: str, lake: FeedLake, *, newest: bool = True
) -> dict[str, Any]:
    """Return the metadata of one partition's materialisation.

    Args:
        result: The export.
        partition: `2025-01-15` or `v4`.
        lake: The feed's lake.
        newest: Whether it is the last one of its run, which Dagster shows on the asset's page.
    """
    facts = partition_facts(result, partition, newest=newest)
    if not newest or result.commit is None:
        return dict(facts)
    return {**facts, **page_metadata(lake, partition), **column_schema(column_records(result))}


def run_metadata(result: ExportResult, lake: FeedLake) -> dict[str, Any]:
    """Return the metadata of what a run without a partition exported: that of its newest partition."""
    if not result.partitions:
        return {"note": result.plan.reason}
    newest = result.partitions[-1].partition
    return {**partition_metadata(result, newest, lake), "partitions": result.covered}


def events(
    result: ExportResult, lake: FeedLake, key: dg.AssetKey, *, besides: Collection[str] = ()
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Yield the events of the partitions that an export read, but for those that Dagster records itself.

    The running day is only observed: its partition exists when the day is over.

    Args:
        result: The export.
        lake: The feed's lake.
        key: Of the feed's asset.
        besides: The partitions of the run; none where it names none.
    """
    for record in partition_records(result):
        if record.partition in besides:
            continue
        kind = dg.AssetMaterialization if record.closed else dg.AssetObservation
        yield kind(
            key,
            partition=record.partition,
            metadata=partition_metadata(result, record.partition, lake, newest=record.newest),
        )


def page_metadata(lake: FeedLake, partition: str) -> dict[str, dg.MetadataValue[str]]:
    """Return the metadata that shows a few rows, and how to read them all."""
    page = partition_page(lake, partition)
    shown: dict[str, dg.MetadataValue[str]] = {"duckdb": dg.MetadataValue.text(page.duckdb)}
    if page.sample is not None:
        shown["sample"] = dg.MetadataValue.md(page.sample)
    return shown


def column_schema(records: Iterable[ColumnRecord]) -> dict[str, dg.TableSchema]:
    """Return the metadata that shows columns; nothing where there are none."""
    columns = [dg.TableColumn(column.name, column.type, description=column.declared) for column in records]
    return {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}

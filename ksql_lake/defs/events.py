"""The facts of an export as Dagster's metadata and events."""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.facts import ColumnRecord, column_records, partition_facts, partition_records


def partition_metadata(result: ExportResult, partition: str) -> dict[str, Any]:
    """Give the metadata of one partition's materialisation."""
    return {**partition_facts(result, partition), **column_schema(column_records(result))}


def events(result: ExportResult) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Give the events of an export that ran without partitions.

    The running day is only observed: its partition exists when the day is over.
    """
    for record in partition_records(result):
        kind = dg.AssetMaterialization if record.closed else dg.AssetObservation
        yield kind(
            result.feed.name,
            partition=record.partition,
            metadata={**record.facts, **column_schema(column_records(result))},
        )


def column_schema(records: Iterable[ColumnRecord]) -> dict[str, dg.TableSchema]:
    """Give the metadata that shows columns; nothing where there are none."""
    columns = [dg.TableColumn(column.name, column.type, description=column.declared) for column in records]
    return {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}

"""Telling the Dagster instance about exports made from a shell, so that its UI stays true.

The one module of the command line that speaks to Dagster. It records what happened and starts nothing; an
export that landed stays landed whether or not this works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    DagsterError,
    DagsterInstance,
    FloatMetadataValue,
    MetadataValue,
    TableColumn,
    TableSchema,
)
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from ksql_lake.errors import ConfigError
from ksql_lake.export import ExportResult
from ksql_lake.export.facts import column_records, partition_records
from ksql_lake.export.judging import JudgedCheck
from ksql_lake.export.version_keys import keep_versions
from ksql_lake.feeds import TableFeed
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.query import partition_page
from ksql_lake.settings import Settings


def record(
    results: Sequence[ExportResult],
    *,
    settings: Settings,
    checks: Mapping[str, Sequence[JudgedCheck]] | None = None,
) -> None:
    """Record exports as materialisations without a run, with what their checks found, and keep version keys.

    Does nothing where DAGSTER_HOME is not set. A day that had not ended when it was read is only observed.

    Args:
        results: What was exported.
        settings: Where Dagster and the lake are.
        checks: Feed -> what its checks found.

    Raises:
        ConfigError: The instance in DAGSTER_HOME cannot be used; the exports themselves are not affected.
    """
    if settings.dagster_home is None or not results:
        return
    lake = Lake(settings.lake_root)
    with _told("the exports landed", settings.dagster_home) as instance:
        for result in results:
            for event in _events(result, lake.feed(result.feed)):
                instance.report_runless_asset_event(event)
            if isinstance(result.feed, TableFeed):
                _keep(result.feed, instance, settings)
        for result in results:
            for evaluation in _evaluations(result, (checks or {}).get(result.feed.name, ())):
                instance.report_runless_asset_event(evaluation)


def keep_all_versions(feeds: Iterable[TableFeed], *, settings: Settings) -> None:
    """Make the version keys of tables those that the lake has now; nothing happens without DAGSTER_HOME.

    Raises:
        ConfigError: The instance in DAGSTER_HOME cannot be used; the lake is not affected.
    """
    if settings.dagster_home is None:
        return
    with _told("the lake is as it should be", settings.dagster_home) as instance:
        for feed in feeds:
            _keep(feed, instance, settings)


def _keep(feed: TableFeed, instance: DagsterInstance, settings: Settings) -> None:
    keep_versions(feed.versions_name, Lake(settings.lake_root).feed(feed), instance)


@contextmanager
def _told(done: str, home: Path) -> Iterator[DagsterInstance]:
    """Open the instance, and say what was done all the same when it cannot be used."""
    if not home.is_dir():
        raise _unusable(home, done, "there is no such folder")
    try:
        with _alone(home) as instance:
            yield instance
    except (DagsterError, SQLAlchemyError, CommandError, OSError) as error:
        raise _unusable(home, done, str(error)) from error


def _unusable(home: Path, done: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{done}, but Dagster could not be told: {reason}",
        hint="Correct DAGSTER_HOME, or unset it if Dagster is not in use.",
        dagster_home=home,
    )


def _events(result: ExportResult, lake: FeedLake) -> Iterator[AssetMaterialization | AssetObservation]:
    columns = [
        TableColumn(column.name, column.type, description=column.declared) for column in column_records(result)
    ]
    for each in partition_records(result):
        kind = AssetMaterialization if each.closed else AssetObservation
        metadata: dict[str, Any] = dict(each.facts)
        if each.newest:
            page = partition_page(lake, each.partition)
            metadata["duckdb"] = page.duckdb
            metadata |= {"sample": MetadataValue.md(page.sample)} if page.sample is not None else {}
            metadata |= {"dagster/column_schema": TableSchema(columns)} if columns else {}
        yield kind(result.feed.name, partition=each.partition, metadata=metadata)


def _evaluations(result: ExportResult, checks: Sequence[JudgedCheck]) -> Iterator[AssetCheckEvaluation]:
    for judged in checks:
        yield AssetCheckEvaluation(
            asset_key=AssetKey([result.feed.name]),
            check_name=judged.outcome.name,
            passed=judged.outcome.passed,
            metadata={"partitions": result.covered},
            severity=AssetCheckSeverity.WARN if judged.severity == "warn" else AssetCheckSeverity.ERROR,
            description=judged.outcome.says,
            blocking=judged.severity == "block",
        )


def create_databases(home: Path) -> None:
    """Create the databases of a new Dagster home, in one process before several use it."""
    with _alone(home) as instance:
        instance.get_runs(limit=1)
        instance.all_asset_keys()
        instance.all_instigator_state()


@contextmanager
def _alone(home: Path) -> Iterator[DagsterInstance]:
    """Open the instance while no other process of ours does.

    Two processes that meet in an empty home both stamp Dagster's schema version; after that none can open it.
    """
    with FileLock(home / ".ksql-lake.lock"), DagsterInstance.from_config(str(home.resolve())) as instance:
        yield instance


def export_seconds(names: Sequence[str], *, home: Path) -> dict[str, float]:
    """Return how long the last export of each feed took, as the Dagster instance remembers it."""
    seconds = {}
    with DagsterInstance.from_config(str(home.resolve())) as instance:
        for name in names:
            event = instance.get_latest_materialization_event(AssetKey([name]))
            found = event.asset_materialization if event is not None else None
            fact = found.metadata.get("export_seconds") if found is not None else None
            if isinstance(fact, FloatMetadataValue) and fact.value is not None:
                seconds[name] = fact.value
    return seconds

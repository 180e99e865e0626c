"""All definitions of a project folder: one asset per enabled feed, and everything around them.

Reads feed files and what the lake keeps of the server's sources: neither the server nor the Dagster instance is
asked, so the code location loads while both are down. A feed that is archived, disabled or broken keeps its
key, so that neither the others nor assets of somebody else below it are hurt.
"""

from collections import defaultdict

import dagster as dg
from dagster_duckdb import DuckDBResource

from ksql_lake.export.expiry import kept_retention
from ksql_lake.export.topology import Topology, kept_topology
from ksql_lake.feeds import Feed, FeedFile, FeedStore, StreamFeed, TableFeed, streams_of, tables_of
from ksql_lake.orchestration.alert_sensors import alert_sensors
from ksql_lake.orchestration.assets import stream_asset, table_asset
from ksql_lake.orchestration.certification_jobs import certify_jobs
from ksql_lake.orchestration.execution import executor
from ksql_lake.orchestration.expiry_sensor import topic_retention_sensors
from ksql_lake.orchestration.feed_sensors import feed_files_sensor, fingerprint, new_sources_sensor
from ksql_lake.orchestration.io_manager import lake_io_manager
from ksql_lake.orchestration.lineage import lineage_job, source_assets
from ksql_lake.orchestration.partitions import daily_partitions, zone_starts
from ksql_lake.orchestration.placeholders import placeholders
from ksql_lake.orchestration.report_asset import report_definitions
from ksql_lake.orchestration.resources import LakeResource, ksqldb_resource
from ksql_lake.orchestration.schedules import automation
from ksql_lake.orchestration.scope import RETRY_SECONDS, Scope
from ksql_lake.orchestration.sync import lake_sensor, sync_job
from ksql_lake.settings import Settings


def build_definitions(settings: Settings, *, retry_wait: float = RETRY_SECONDS) -> dg.Definitions:
    """Return the definitions of the feeds folder, for a code location that holds nothing else.

    Args:
        settings: Where feeds, lake and server are.
        retry_wait: Seconds before a step whose error may pass by itself is tried again.

    Raises:
        ConfigError: There is no feeds folder.
    """
    return scope_definitions(Scope(settings, retry_wait=retry_wait, whole_location=True))


def scope_definitions(scope: Scope) -> dg.Definitions:
    """Return the definitions of one scope.

    Raises:
        ConfigError: There is no feeds folder.
    """
    # Before the files are read: what changes in between is then noticed as a change.
    loaded = fingerprint(scope.settings.feeds_root, scope.lake)
    store, topology = FeedStore(scope.settings.feeds_root).load(), kept_topology(scope.lake)
    files = [file for file in store.files if not file.archived and file.feed.enabled]
    starts = zone_starts(store)
    days = daily_partitions(starts)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [*_feed_assets(files, days, scope, topology)]
    assets += source_assets(_sources(files), topology, scope)
    assets += placeholders(store, scope, starts)
    feeds = [file.feed for file in files]
    defs = dg.Definitions.merge(
        dg.Definitions(
            assets=assets,
            resources=_resources(scope),
            jobs=[
                sync_job(feeds, scope, starts),
                lineage_job(scope),
                *certify_jobs(_streams(files), days, feeds, scope),
            ],
            sensors=[
                *([lake_sensor(feeds, scope, starts)] if feeds else []),
                feed_files_sensor(scope, loaded),
                new_sources_sensor(scope),
                *topic_retention_sensors(_streams(files), topology, scope),
            ],
        ),
        automation(_streams(files), _tables(files), scope),
        report_definitions(
            feeds,
            {*(file.feed.name for file in store.files), *(file.name for file in store.quarantined)},
            scope,
        ),
    )
    jobs = {job.name for job in defs.jobs or ()}
    alerts = dg.Definitions(sensors=alert_sensors(scope, scope.keys(feeds), jobs))
    # Elsewhere than in a location of its own the executor of what is launched by hand is not ours to say.
    own = [dg.Definitions(executor=executor(scope.settings))] if scope.whole_location else []
    return dg.Definitions.merge(defs, alerts, *own)


def _resources(scope: Scope) -> dict[str, object]:
    resource = LakeResource(root=scope.lake.root, retry_wait=scope.retry_wait)
    return {
        scope.server_key: ksqldb_resource(scope.settings),
        scope.lake_key: resource,
        scope.duckdb_key: DuckDBResource(database=":memory:"),
        scope.io_manager_key: lake_io_manager(scope),
    }


def _feed_assets(
    files: list[FeedFile], days: dict[str, dg.DailyPartitionsDefinition], scope: Scope, topology: Topology
) -> list[dg.AssetsDefinition]:
    return [
        stream_asset(
            file,
            file.feed,
            scope,
            days[file.feed.timezone],
            kept_retention(file.feed, topology),
        )
        if isinstance(file.feed, StreamFeed)
        else table_asset(file, file.feed, scope)
        for file in files
    ]


def _streams(files: list[FeedFile]) -> list[StreamFeed]:
    return streams_of(file.feed for file in files)


def _tables(files: list[FeedFile]) -> list[TableFeed]:
    return tables_of(file.feed for file in files)


def _sources(files: list[FeedFile]) -> dict[str, list[Feed]]:
    found: dict[str, list[Feed]] = defaultdict(list)
    for file in files:
        found[file.feed.source].append(file.feed)
    return found

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
from ksql_lake.lake import Lake
from ksql_lake.orchestration.alert_sensors import alert_sensors
from ksql_lake.orchestration.assets import stream_asset, table_asset
from ksql_lake.orchestration.certification_jobs import certify_jobs
from ksql_lake.orchestration.execution import executor
from ksql_lake.orchestration.expiry_sensor import topic_retention_sensors
from ksql_lake.orchestration.feed_sensors import feed_files_sensor, fingerprint, new_sources_sensor
from ksql_lake.orchestration.io_manager import LakeIOManager
from ksql_lake.orchestration.lineage import lineage_job, source_assets
from ksql_lake.orchestration.partitions import daily_partitions, zone_starts
from ksql_lake.orchestration.placeholders import placeholders
from ksql_lake.orchestration.report_asset import report_definitions
from ksql_lake.orchestration.resources import KsqldbResource, LakeResource
from ksql_lake.orchestration.schedules import automation
from ksql_lake.orchestration.sync import lake_sensor, sync_job
from ksql_lake.settings import Settings

RETRY_SECONDS = 30.0


def build_definitions(settings: Settings, *, retry_wait: float = RETRY_SECONDS) -> dg.Definitions:
    """Return the definitions of the feeds folder.

    Args:
        settings: Where feeds, lake and server are.
        retry_wait: Seconds before a step whose error may pass by itself is tried again.

    Raises:
        ConfigError: There is no feeds folder.
    """
    # Before the files are read: what changes in between is then noticed as a change.
    lake = Lake(settings.lake_root)
    loaded = fingerprint(settings.feeds_root, lake)
    store, topology = FeedStore(settings.feeds_root).load(), kept_topology(lake)
    files = [file for file in store.files if not file.archived and file.feed.enabled]
    starts = zone_starts(store)
    days = daily_partitions(starts)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [*_feed_assets(files, days, lake, topology)]
    assets += source_assets(_sources(files), topology, settings.ksqldb_url)
    assets += placeholders(store, lake, starts)
    feeds, running = [file.feed for file in files], settings.schedules == "running"
    resource = LakeResource(root=lake.root, retry_wait=retry_wait)
    return dg.Definitions.merge(
        dg.Definitions(
            assets=assets,
            resources={
                "ksqldb": KsqldbResource(),
                "lake": resource,
                "lake_duckdb": DuckDBResource(database=":memory:"),
                "lake_io_manager": LakeIOManager(lake=resource, feeds_root=str(settings.feeds_root.resolve())),
            },
            jobs=[
                sync_job(feeds, lake, starts),
                lineage_job(),
                *certify_jobs(_streams(files), days, {feed.name for feed in feeds}),
            ],
            sensors=[
                *([lake_sensor(feeds, lake, starts)] if feeds else []),
                feed_files_sensor(settings.feeds_root.resolve(), lake, loaded, settings.dagster_url),
                *alert_sensors(),
                new_sources_sensor(settings.feeds_root.resolve()),
                *topic_retention_sensors(_streams(files), lake, topology),
            ],
            executor=executor(settings),
        ),
        automation(_streams(files), _tables(files), lake, running=running),
        report_definitions(
            feeds,
            settings.feeds_root.resolve(),
            {*(file.feed.name for file in store.files), *(file.name for file in store.quarantined)},
            running=running,
        ),
    )


def _feed_assets(
    files: list[FeedFile], days: dict[str, dg.DailyPartitionsDefinition], lake: Lake, topology: Topology
) -> list[dg.AssetsDefinition]:
    return [
        stream_asset(
            file,
            file.feed,
            lake.feed(file.feed),
            days[file.feed.timezone],
            kept_retention(file.feed, topology),
        )
        if isinstance(file.feed, StreamFeed)
        else table_asset(file, file.feed, lake.feed(file.feed))
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

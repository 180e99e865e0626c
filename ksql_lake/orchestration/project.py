"""All definitions of a project folder: one asset per enabled feed, with its jobs, schedules and sensors."""

# It asks neither the server nor the Dagster instance, so the code location loads while both are down.

import atexit
import gc
import logging
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from ksql_lake.decode.decoder import collector_paused
from ksql_lake.errors import ConfigError
from ksql_lake.export.checks import checks_of
from ksql_lake.export.expiry import kept_retention
from ksql_lake.export.topology import Topology
from ksql_lake.feeds import Feed, FeedFile, Feeds, FeedStore, StreamFeed, TableFeed, streams_of, tables_of
from ksql_lake.orchestration.alert_sensors import alert_sensors
from ksql_lake.orchestration.assets import stream_asset, table_asset
from ksql_lake.orchestration.certification_jobs import certify_jobs
from ksql_lake.orchestration.execution import executor
from ksql_lake.orchestration.expiry_sensor import topic_retention_sensors
from ksql_lake.orchestration.feed_sensors import feed_files_sensor, new_sources_sensor
from ksql_lake.orchestration.freshness_sensor import CHECK as FRESHNESS
from ksql_lake.orchestration.freshness_sensor import freshness_sensors
from ksql_lake.orchestration.inputs import read_inputs
from ksql_lake.orchestration.io_manager import LakeIOManager
from ksql_lake.orchestration.lineage import lineage_job, source_assets
from ksql_lake.orchestration.partitions import daily_partitions, zone_starts
from ksql_lake.orchestration.placeholders import placeholders
from ksql_lake.orchestration.report_asset import report_definitions, report_key
from ksql_lake.orchestration.resources import LakeResource, ksqldb_resource
from ksql_lake.orchestration.run_history import prune_definitions
from ksql_lake.orchestration.schedules import automation
from ksql_lake.orchestration.scope import Scope, Translate
from ksql_lake.orchestration.sync import lake_sensor, sync_job
from ksql_lake.settings import Settings, load_settings

_log = logging.getLogger(__name__)


def build_definitions(
    settings: Settings | None = None,
    *,
    key_prefix: Sequence[str] | str = (),
    name: str = "",
    group: str | None = None,
    translate: Translate | None = None,
    whole_location: bool = True,
) -> dg.Definitions:
    """Return everything Dagster needs for a feeds folder: assets, checks, jobs, schedules, sensors, resources.

    Args:
        settings: Feeds, lake and server, as `load_settings` returns them; None reads the environment.
        key_prefix: Prefix of every asset key; several parts as a list.
        name: Prefix of the names of jobs, schedules, sensors, resources and the pool; empty means `key_prefix`.
        group: Group of the feeds' assets; None means `streams` and `tables`.
        translate: Receives the spec of a feed's asset and the feed, and returns the spec to use.
        whole_location: Whether the code location exists for these feeds: then their executor runs every run
            in it, and each failed run raises an alert. A second lake must use False, which ignores other runs.

    Raises:
        ConfigError: There is no feeds folder, or a name is invalid in Dagster.
        SettingsError: A variable of the environment cannot be used.
    """
    scope = Scope(
        settings or load_settings(),
        prefix=(key_prefix,) if isinstance(key_prefix, str) and key_prefix else tuple(key_prefix),
        label=name,
        group=group,
        translate=translate,
        whole_location=whole_location,
    )
    return scope_definitions(scope)


def build_feed_assets(
    settings: Settings | None = None,
    *,
    key_prefix: Sequence[str] | str = (),
    group: str | None = None,
    translate: Translate | None = None,
) -> list[dg.AssetsDefinition]:
    """Return only the assets of the feeds that export, with their resources, to combine with other definitions.

    It makes no jobs, schedules or sensors, and no assets of sources or of feeds that export nothing. The
    arguments are those of `build_definitions`.

    Raises:
        ConfigError: There is no feeds folder, or a name is invalid in Dagster.
        SettingsError: A variable of the environment cannot be used.
    """
    prefix = (key_prefix,) if isinstance(key_prefix, str) and key_prefix else tuple(key_prefix)
    scope = Scope(settings or load_settings(), prefix=prefix, group=group, translate=translate)
    inputs = read_inputs(scope)
    days = daily_partitions(zone_starts(inputs.feeds))
    assets = _feed_assets(_exporting(inputs.feeds), days, scope, inputs.topology)
    return list(dg.with_resources(assets, resource_defs=_resources(scope)))


_made: list[tuple[Hashable, Scope, str, dg.Definitions]] = []


def definitions_of(scope: Scope, *, source: Hashable = None) -> dg.Definitions:
    """Return the definitions of a scope; one process builds them once, however often Dagster loads them.

    A changed feed file makes it build them again. It reads the lake's topology again only in the next process.

    Args:
        scope: The scope.
        source: The origin of its translation, for comparison: functions are new each time and differ.

    Raises:
        ConfigError: There is no feeds folder.
    """
    marks = FeedStore(scope.feeds_root).marks()
    for known in _made:
        if known[:3] == (source, scope, marks):
            return known[3]
    # Hundreds of assets are many objects, and the first ones stay as long as the process: the garbage collector
    # would go through them several times and find nothing, which is a fourth of what loading them costs.
    with collector_paused():
        made = scope_definitions(scope)
        made.get_repository_def()
        if not _made:
            gc.freeze()
            # DuckDB reports everything that is still frozen when Python ends as leaked.
            atexit.register(gc.unfreeze)
    _made[:] = [known for known in _made if known[:2] != (source, scope)]
    _made.append((source, scope, marks, made))
    return made


def scope_definitions(scope: Scope) -> dg.Definitions:
    """Return the definitions of one scope.

    Raises:
        ConfigError: There is no feeds folder.
    """
    inputs = read_inputs(scope)
    store, topology = inputs.feeds, inputs.topology
    files = _exporting(store)
    starts = zone_starts(store)
    days = daily_partitions(starts)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [*_feed_assets(files, days, scope, topology)]
    assets += source_assets(_sources(files), topology, scope)
    assets += placeholders(store, scope, starts, lake_answers=inputs.lake_answers)
    feeds = [file.feed for file in files]
    idle = [file.feed for file in store.files if not _exports(file)]
    taken = {*(file.feed.name for file in store.files), *(file.name for file in store.quarantined)}
    defs = dg.Definitions.merge(
        dg.Definitions(
            assets=assets,
            resources=_resources(scope),
            jobs=[
                sync_job(feeds, idle, scope, starts),
                lineage_job(scope),
                *certify_jobs(_streams(files), days, feeds, scope),
            ],
            sensors=[
                *([lake_sensor(feeds, idle, scope, starts)] if feeds or idle else []),
                feed_files_sensor(scope, inputs.fingerprint),
                new_sources_sensor(scope),
                *topic_retention_sensors(_streams(files), topology, scope),
                *freshness_sensors(feeds, scope),
            ],
        ),
        automation(_streams(files), _tables(files), scope),
        report_definitions(feeds, taken, scope),
    )
    _look_for_checks(files, topology, scope)
    jobs = {job.name for job in defs.jobs or ()}
    keys = [*scope.keys([*feeds, *idle]), report_key(taken, scope)]
    whole = dg.Definitions.merge(defs, dg.Definitions(sensors=alert_sensors(scope, scope.keys(feeds), jobs)))
    whole = dg.Definitions.merge(whole, prune_definitions(scope, keys, whole))
    return dg.Definitions(
        assets=whole.assets,
        resources=whole.resources,
        jobs=whole.jobs,
        schedules=_chosen("schedules", whole.schedules or (), scope.schedules, scope),
        sensors=_chosen("sensors", whole.sensors or (), scope.sensors, scope),
        # Beside other definitions, those decide the executor of runs that are launched by hand.
        executor=executor(scope.settings) if scope.whole_location else None,
    )


def _chosen(what: str, made: Iterable[Any], asked: frozenset[str] | None, scope: Scope) -> list[Any]:
    """Return the schedules or sensors that a scope names; see `_look_for`."""
    if asked is None:
        return list(made)
    names = {each.name.removeprefix(scope.named("")) for each in made}
    _look_for(what, asked - names, names, scope)
    return [each for each in made if each.name in {scope.named(name) for name in asked}]


def _look_for_checks(files: Sequence[FeedFile], topology: Topology, scope: Scope) -> None:
    """Report which checks named by the scope no feed has; see `_look_for`."""
    if scope.checks and files:
        names = {FRESHNESS}
        for feed in (file.feed for file in files):
            names |= checks_of(
                feed, kept_retention(feed, topology) if isinstance(feed, StreamFeed) else None
            ).keys()
        _look_for("checks", scope.checks - names, names, scope)


def _look_for(what: str, unknown: Collection[str], names: Collection[str], scope: Scope) -> None:
    """Report names of the scope that nothing has: in the log, because which names exist depends on the feeds.

    Raises:
        ConfigError: The definitions are only validated.
    """
    if not unknown:
        return
    error = ConfigError(
        f"{what}: there is none named {', '.join(sorted(unknown))}",
        hint=f"There are {', '.join(sorted(names))}.",
    )
    if scope.settings.validating:
        raise error
    _log.warning("%s", error)


def _exporting(feeds: Feeds) -> list[FeedFile]:
    return [file for file in feeds.files if _exports(file)]


def _exports(file: FeedFile) -> bool:
    return not file.archived and file.feed.enabled


def _resources(scope: Scope) -> dict[str, object]:
    resource = LakeResource(root=scope.lake.root, retry_wait=scope.retry_wait)
    return {
        scope.server_key: ksqldb_resource(scope.settings),
        scope.lake_key: resource,
        scope.duckdb_key: DuckDBResource(database=":memory:"),
        scope.io_manager_key: LakeIOManager(scope, resource),
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

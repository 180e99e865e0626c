"""One asset per enabled feed. The asset decides what to read; the IO manager lands it."""

# A run without a partition does what `ksql-lake export` does without a date. It yields its output too, so that
# downstream assets without partitions run.

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial

import dagster as dg

from ksql_lake.errors import VersionError
from ksql_lake.export import Days, ExportPlan, extract, plan_export
from ksql_lake.export.export_plan import running_day
from ksql_lake.export.judging import judge_export
from ksql_lake.export.version_keys import keep_versions
from ksql_lake.feeds import Feed, FeedFile, StreamFeed, TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import version_number
from ksql_lake.orchestration.asset_checks import check_results, check_specs
from ksql_lake.orchestration.conditions import automation_condition, exported_when
from ksql_lake.orchestration.freshness_sensor import fresh, freshness_specs
from ksql_lake.orchestration.internals import of_newest
from ksql_lake.orchestration.io_manager import ExportOutput
from ksql_lake.orchestration.lineage import source_key
from ksql_lake.orchestration.partitions import version_partitions
from ksql_lake.orchestration.resources import LakeResource
from ksql_lake.orchestration.scope import Scope
from ksql_lake.orchestration.ticks import DAYS_TAG
from ksql_lake.query import description

_MEANING = {
    *("kind", "source", "timezone", "event_time", "event_time_unit", "identity", "positions", "deleted"),
    *("columns", "rename", "extraction", "isolation", "on_bad_text"),
}
"""The keys of a feed that decide its rows and columns."""

_RESULT = "result"
_NOTHING = dg.In(dg.Nothing)
_CHECKED = dg.Out(dg.Any)

Yielded = dg.Output[ExportOutput] | dg.AssetCheckResult


def stream_asset(
    file: FeedFile,
    feed: StreamFeed,
    scope: Scope,
    days: dg.DailyPartitionsDefinition,
    retention: Retention | None = None,
) -> dg.AssetsDefinition:
    """Return the asset of a stream, partitioned by day; a range of days is one run and one query.

    Args:
        file: The feed's file.
        feed: The feed.
        scope: The scope of its names.
        days: The days of all feeds of its time zone.
        retention: How long its topic keeps records.
    """

    def plan(context: dg.AssetExecutionContext, lake: Lake) -> ExportPlan:
        if not _partitioned(context):
            apart = context.run.tags.get(DAYS_TAG) == "open"
            return plan_export(feed, lake, days=running_day(feed) if apart else None)
        asked = context.partition_key_range
        return plan_export(
            feed, lake, days=Days(date.fromisoformat(asked.start), date.fromisoformat(asked.end))
        )

    # The only way to read a range of days in one scan of the topic.
    policy = dg.BackfillPolicy.single_run()
    spec = _spec(file, feed, scope, days)
    return _asset(_body(plan, scope, retention), spec, _checks(feed, retention, scope), feed, scope, policy)


def table_asset(file: FeedFile, feed: TableFeed, scope: Scope) -> dg.AssetsDefinition:
    """Return the asset of a table, partitioned by version; only the open version can be materialised."""

    def plan(context: dg.AssetExecutionContext, lake: Lake) -> ExportPlan:
        if not _partitioned(context):
            return plan_export(feed, lake)
        asked = context.partition_key_range
        if asked.start != asked.end:
            raise VersionError(
                f"{asked.start} to {asked.end} are several versions, but a run writes the open one",
                feed=feed.name,
            )
        return plan_export(feed, lake, version=_version(feed, asked.start))

    spec = _spec(file, feed, scope, version_partitions(feed, scope))
    return _asset(_body(plan, scope), spec, _checks(feed, None, scope), feed, scope)


def _asset(
    export: Callable[..., Iterator[Yielded]],
    spec: dg.AssetSpec,
    checks: Sequence[dg.AssetCheckSpec],
    feed: Feed,
    scope: Scope,
    policy: dg.BackfillPolicy | None = None,
) -> dg.AssetsDefinition:
    """Return the asset that `dg.asset` would make, in half of its time, which counts with hundreds of feeds."""
    source = source_key(feed.source, scope)
    name, read = _identifier("__", spec.key), _identifier("_", source)
    by_output = {f"{name}_{check.name}".replace(".", "_"): check for check in checks}
    landed = dg.Out(io_manager_key=scope.io_manager_key, code_version=spec.code_version)
    made = dg.AssetsDefinition(
        node_def=dg.op(
            name=name,
            description=spec.description,
            ins={read: _NOTHING},
            out={_RESULT: landed, **dict.fromkeys(by_output, _CHECKED)},
            required_resource_keys={scope.server_key, scope.lake_key},
            code_version=spec.code_version,
            pool=scope.pool,
        )(export),
        keys_by_input_name={read: source},
        keys_by_output_name={_RESULT: spec.key},
        specs=[spec],
        check_specs_by_output_name=by_output,
        backfill_policy=policy,
    )
    if scope.translate is None:
        # Mapping builds each asset a second time, a tenth of what loading hundreds of feeds costs.
        return made
    return made.map_asset_specs(lambda spec: scope.translated(spec, feed))


def _identifier(between: str, key: dg.AssetKey) -> str:
    return between.join(key.path).replace("-", "_").replace(".", "_")


def _spec(file: FeedFile, feed: Feed, scope: Scope, partitions: dg.PartitionsDefinition[str]) -> dg.AssetSpec:
    lake = scope.lake.feed(feed)
    return dg.AssetSpec(
        scope.key(feed),
        description=description(lake),
        group_name=scope.feed_group(feed),
        kinds={"kafka", "parquet"},
        code_version=code_version(feed),
        owners=list(feed.owners),
        tags=feed.tags,
        metadata={
            "source": feed.source,
            "dagster/table_name": feed.name,
            "dagster/code_references": _reference(file),
            "dataset": dg.MetadataValue.path(lake.dataset_path),
            "feed_file": dg.MetadataValue.path(str(file.path)),
            "exported": dg.MetadataValue.text(exported_when(feed, scope)),
            "feed": dg.MetadataValue.json(feed.model_dump(mode="json", exclude_defaults=True)),
        },
        deps=[source_key(feed.source, scope)],
        automation_condition=automation_condition(feed),
        partitions_def=partitions,
    )


def _checks(feed: Feed, retention: Retention | None, scope: Scope) -> list[dg.AssetCheckSpec]:
    return [*check_specs(feed, retention, scope), *freshness_specs(feed, scope)]


def _reference(file: FeedFile) -> dg.CodeReferencesMetadataValue:
    """Return the link to the feed file, which editors open at a line."""
    with warnings.catch_warnings():
        # Beta; if it fails, the page only lacks the link.
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=str(file.path.absolute()), line_number=1, label="feed file")
        return dg.CodeReferencesMetadataValue(code_references=[place])


def code_version(feed: Feed) -> str:
    """Return a digest of the keys that decide which rows the same days of the source yield."""
    meant = feed.model_dump(mode="json", exclude_defaults=True, include=_MEANING)
    return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:12]


def _body(
    plan: Callable[[dg.AssetExecutionContext, Lake], ExportPlan],
    scope: Scope,
    retention: Retention | None = None,
) -> Callable[..., Iterator[Yielded]]:
    def export(context: dg.AssetExecutionContext) -> Iterator[Yielded]:
        client: KsqlClient = getattr(context.resources, scope.server_key)
        lake: LakeResource = getattr(context.resources, scope.lake_key)
        with lake.failures(context.retry_number):
            extraction = extract(plan(context, lake.lake), client)
        delivery = ExportOutput(extraction)
        yield dg.Output(delivery)
        result = delivery.landed
        with lake.failures(context.retry_number):
            if isinstance(result.feed, TableFeed) and not _partitioned(context):
                # Only after it is recorded: an offered version without a materialisation looks due.
                keep_versions(scope.versions(result.feed.name), lake.lake.feed(result.feed), context.instance)
            held = lake.lake.feed(result.feed)
            found = [*judge_export(result, held, retention), *fresh(result, held)]
            yield from check_results(
                result,
                [check for check in found if scope.wants_check(check.outcome.name)],
                scope.key(result.feed),
                news=delivery.news,
                log=context.log_event,
                report=partial(_report, context.instance),
            )

    return export


def _report(instance: dg.DagsterInstance, result: dg.AssetCheckEvaluation) -> None:
    instance.report_runless_asset_event(of_newest(result, instance))


def _partitioned(context: dg.AssetExecutionContext) -> bool:
    return bool(context.has_partition_key or context.has_partition_key_range)


def _version(feed: TableFeed, key: str) -> int:
    try:
        return version_number(key)
    except ValueError as error:
        raise VersionError(f"{error}", hint="Take the open version.", feed=feed.name) from None

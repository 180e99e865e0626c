"""The asset downstream of all feeds: the monitoring report as a file in the lake and on the asset's page."""

from collections.abc import Collection, Sequence
from secrets import token_hex

import dagster as dg
from dagster_duckdb import DuckDBResource

from ksql_lake.feeds import Feed, FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.orchestration.jobs import run_tags
from ksql_lake.orchestration.resources import LakeResource
from ksql_lake.orchestration.schedules import clock_schedule
from ksql_lake.orchestration.scope import Scope
from ksql_lake.report import MetadataAnalyzer, MetadataReader, Report, render_html, render_markdown

FILE = "metadata/monitoring_report.html"
"""The path of the newest report, relative to the lake's root."""

CONNECT_SECONDS = 5.0
"""Seconds to wait for a connection to the server; the report works without it."""


SCHEDULE = "0 6 * * *"
"""When the report is made, in UTC, once its schedule is switched on."""


def report_definitions(feeds: Sequence[Feed], taken: Collection[str], scope: Scope) -> dg.Definitions:
    """Return the report's asset, downstream of every feed, with its job and schedule; empty without feeds.

    Args:
        feeds: The feeds that export.
        taken: Names of all feeds, exporting or not.
        scope: The scope of the names.
    """
    if not feeds:
        return dg.Definitions()
    asset = report_asset(feeds, taken, scope)
    job = scope.free_name("report", scope.taken(feeds))
    return dg.Definitions(
        assets=[asset],
        jobs=[
            dg.define_asset_job(
                job, selection=[asset], description="The monitoring report.", tags=run_tags("upkeep")
            )
        ],
        schedules=[clock_schedule(job, SCHEDULE, running=scope.clocks_run)],
    )


def report_key(taken: Collection[str], scope: Scope) -> dg.AssetKey:
    """Return the report's asset key, which no feed has."""
    name = "monitoring_report"
    return scope.own_key("ksql_lake", name) if name in taken else scope.own_key(name)


def report_asset(feeds: Sequence[Feed], taken: Collection[str], scope: Scope) -> dg.AssetsDefinition:
    """Return the report's asset, downstream of every feed."""
    spec = dg.AssetSpec(
        report_key(taken, scope),
        deps=scope.keys(feeds),
        description="Reports every feed's status, age, missing days and late rows, as `ksql-lake report` does.",
        group_name=scope.named("monitoring"),
        kinds={"html"},
    )

    @dg.multi_asset(
        name=scope.named("_monitoring_report"),
        specs=[spec],
        required_resource_keys={scope.lake_key, scope.duckdb_key},
    )
    def monitoring_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        lake: LakeResource = getattr(context.resources, scope.lake_key)
        lake_duckdb: DuckDBResource = getattr(context.resources, scope.duckdb_key)
        with lake.failures(0), lake_duckdb.get_connection() as connection:
            report = _report(MetadataReader(lake.root, connection=connection), scope)
            html = render_html(report).encode()
            lake.lake.storage.replace(FILE, html, temporary=f"metadata/.report.{token_hex(8)}.tmp")
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.md(render_markdown(report)),
                "file": dg.MetadataValue.path(lake.lake.storage.uri(FILE)),
                "feeds": report.totals.feeds,
                "records": report.totals.records,
                "missing_days": report.totals.missing_days,
                **{f"feeds_{status.value}": number for status, number in report.totals.statuses.items()},
            }
        )

    return monitoring_report


def _report(reader: MetadataReader, scope: Scope) -> Report:
    feeds, settings = FeedStore(scope.feeds_root).load(), scope.settings
    # One attempt: a report at once without the server's part is worth more than a complete one in some minutes.
    patience = min(settings.connect_timeout, CONNECT_SECONDS)
    with KsqlClient(settings.model_copy(update={"attempts": 1, "connect_timeout": patience})) as client:
        return MetadataAnalyzer(reader, feeds, client=client).generate_report()

"""The asset below all feeds: the monitoring report as a file in the lake and on the asset's page."""

from collections.abc import Collection, Sequence
from pathlib import Path
from secrets import token_hex

import dagster as dg
from dagster_duckdb import DuckDBResource

from ksql_lake.feeds import Feed, FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.orchestration.jobs import run_tags
from ksql_lake.orchestration.resources import LakeResource
from ksql_lake.orchestration.schedules import clock_schedule, free_name
from ksql_lake.report import MetadataAnalyzer, MetadataReader, Report, render_html, render_markdown
from ksql_lake.settings import load_settings

FILE = "metadata/monitoring_report.html"
"""Where the newest report is, relative to the lake's root."""

CONNECT_SECONDS = 5.0
"""How long the server may take to be reached; a report does without its answer."""


SCHEDULE = "0 6 * * *"
"""When the report is made, UTC, once its schedule is switched on."""


def report_definitions(
    feeds: Sequence[Feed], feeds_root: Path, taken: Collection[str], *, running: bool = False
) -> dg.Definitions:
    """Return the report's asset, downstream of every feed, its job and its schedule; nothing without feeds.

    Args:
        feeds: The feeds that export.
        feeds_root: The folder of the feed files.
        taken: Asset names that are those of feeds, exporting or not.
        running: Whether the schedule runs until somebody switches it off.
    """
    if not feeds:
        return dg.Definitions()
    asset = report_asset(feeds, feeds_root, taken)
    job = free_name("report", {feed.name for feed in feeds})
    return dg.Definitions(
        assets=[asset],
        jobs=[
            dg.define_asset_job(
                job, selection=[asset], description="The monitoring report.", tags=run_tags("upkeep")
            )
        ],
        schedules=[clock_schedule(job, SCHEDULE, running=running)],
    )


def report_key(taken: Collection[str]) -> dg.AssetKey:
    """Return the report's asset key; one that no feed has."""
    name = "monitoring_report"
    return dg.AssetKey(["ksql_lake", name] if name in taken else [name])


def report_asset(feeds: Sequence[Feed], feeds_root: Path, taken: Collection[str]) -> dg.AssetsDefinition:
    """Return the report's asset, downstream of every feed."""
    spec = dg.AssetSpec(
        report_key(taken),
        deps=[dg.AssetKey([feed.name]) for feed in feeds],
        description="How every feed is: status, age, missing days, late rows. The same as `ksql-lake report`.",
        group_name="monitoring",
        kinds={"html"},
    )

    @dg.multi_asset(name="_monitoring_report", specs=[spec])
    def monitoring_report(lake: LakeResource, lake_duckdb: DuckDBResource) -> dg.MaterializeResult[None]:
        with lake.failures(0), lake_duckdb.get_connection() as connection:
            report = _report(MetadataReader(lake.root, connection=connection), feeds_root)
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


def _report(reader: MetadataReader, feeds_root: Path) -> Report:
    feeds, settings = FeedStore(feeds_root).load(), load_settings()
    # One attempt: a report without the server's part is worth more than one in some minutes.
    patience = min(settings.connect_timeout, CONNECT_SECONDS)
    with KsqlClient(load_settings(attempts=1, connect_timeout=patience)) as client:
        return MetadataAnalyzer(reader, feeds, client=client).generate_report()

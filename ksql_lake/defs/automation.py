"""Jobs, schedules, and the sensor that keeps the version keys.

Schedules are stopped until somebody switches them on: a pull query scans its topic from the start, and a fresh
clone must not do that to a production server by itself. What a schedule starts names no partition, so a tick
after an outage catches up with everything that was missed.
"""

from collections.abc import Sequence

import dagster as dg

from ksql_lake.export.versions import keep_versions
from ksql_lake.feeds import StreamFeed, TableFeed
from ksql_lake.lake import Lake

DEFAULT_SCHEDULES = {"stream": "5 * * * *", "table": "30 1 * * *"}
"""When a feed without a `schedule` is exported; a stream's first tick of a day closes the day before."""

SENSOR_SECONDS = 30


def automation(streams: Sequence[StreamFeed], tables: Sequence[TableFeed], lake: Lake) -> dg.Definitions:
    """Give one job for the streams of a time zone, one per table, a schedule per feed, and the sensor."""
    zones = sorted({feed.timezone for feed in streams})
    jobs = [
        dg.define_asset_job(
            stream_job(zone),
            selection=dg.AssetSelection.assets(*(feed.name for feed in streams if feed.timezone == zone)),
            description=f"Streams with days in {zone}: every day that is not closed yet, or the range given.",
        )
        for zone in zones
    ]
    jobs += [
        dg.define_asset_job(
            table_job(feed),
            selection=dg.AssetSelection.assets(feed.name),
            description=f"The next version of {feed.name}.",
        )
        for feed in tables
    ]
    return dg.Definitions(
        jobs=jobs,
        schedules=[*map(_schedule, streams), *map(_schedule, tables)],
        sensors=[_open_versions(tables, lake)] if tables else [],
    )


def stream_job(zone: str) -> str:
    """Give the name of a time zone's stream job: `streams` for UTC, else like `streams_Europe_Berlin`."""
    return "streams" if zone == "UTC" else f"streams_{zone.replace('+', 'plus').translate(_UNDERSCORES)}"


def table_job(feed: TableFeed) -> str:
    """Give the name of a table's job."""
    return f"table_{feed.name}"


_UNDERSCORES = str.maketrans("/-", "__")


def _schedule(feed: StreamFeed | TableFeed) -> dg.ScheduleDefinition:
    stream = isinstance(feed, StreamFeed)

    @dg.schedule(
        name=f"{feed.kind}_{feed.name}_schedule",
        job_name=stream_job(feed.timezone) if isinstance(feed, StreamFeed) else table_job(feed),
        cron_schedule=feed.schedule or DEFAULT_SCHEDULES[feed.kind],
        execution_timezone=feed.timezone if isinstance(feed, StreamFeed) else "UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Exports {feed.name}: "
        + ("every day that is not closed yet." if stream else "its next version."),
    )
    def tick() -> dg.RunRequest:
        return dg.RunRequest(asset_selection=[dg.AssetKey([feed.name])] if stream else None)

    return tick


def _open_versions(tables: Sequence[TableFeed], lake: Lake) -> dg.SensorDefinition:
    @dg.sensor(
        name="open_versions",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Offers exactly the versions of each table that the lake holds, and the open one. Starts "
        "no runs and asks no server; without it a new table has no partition to materialise in the UI.",
    )
    def open_versions(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        for feed in tables:
            keep_versions(feed.versions_name, lake.feed(feed), context.instance)
        return dg.SkipReason(f"The versions of {len(tables)} tables are in step with the lake.")

    return open_versions

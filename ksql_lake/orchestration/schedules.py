"""Jobs and schedules.

Schedules are stopped until somebody switches them on: a pull query scans its topic from the start, and a fresh
clone must not do that to a production server by itself. A tick after an outage catches up with everything that
was missed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import partial

import dagster as dg

from ksql_lake.feeds import StreamFeed, TableFeed
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.lake import Lake
from ksql_lake.lake.compaction import OPEN_FILES
from ksql_lake.orchestration.conditions import automation_sensors, cron_of
from ksql_lake.orchestration.jobs import compaction_job, retention_job, run_tags
from ksql_lake.orchestration.ticks import stream_runs

CLOSE = "15 0 * * *"
"""When a day is closed by those who export once a day; in the time zone of the streams."""

UPKEEP_SCHEDULES = {
    "retention": "30 3 * * *",
    "compaction": "0 4 * * *",
    "compaction_open": "50 * * * *",
    "ksqldb_sources": "45 0 * * *",
}


def automation(streams: Sequence[StreamFeed], tables: Sequence[TableFeed], lake: Lake) -> dg.Definitions:
    """Return the jobs and schedules of feeds and upkeep, and the sensor of automation conditions.

    One job for the streams of a time zone and one per table. Streams of a zone that are due together share one
    schedule, and so one run.
    """
    names = {feed.name for feed in (*streams, *tables)}
    zones = sorted({feed.timezone for feed in streams})
    jobs = [
        dg.define_asset_job(
            stream_job(zone, names),
            selection=dg.AssetSelection.assets(*(feed.name for feed in streams if feed.timezone == zone)),
            description=f"Streams with days in {zone}: every day that is not closed yet, or the range given.",
            tags=run_tags("streams"),
        )
        for zone in zones
    ]
    jobs += [
        dg.define_asset_job(
            table_job(feed.name, names),
            selection=dg.AssetSelection.assets(feed.name),
            description=f"The next version of {feed.name}.",
            tags=run_tags("tables"),
        )
        for feed in tables
    ]
    upkeep = [
        retention_job(tables, lake),
        compaction_job(streams, lake),
        compaction_job(streams, lake, open_files=OPEN_FILES),
    ]
    return dg.Definitions(
        jobs=[*jobs, *upkeep],
        schedules=[
            *_stream_schedules([feed for feed in streams if feed.automation == "schedule"], names, lake),
            *(_table_schedule(feed, names) for feed in tables if feed.automation == "schedule"),
            *(stopped_schedule(name, cron) for name, cron in UPKEEP_SCHEDULES.items()),
        ],
        sensors=[
            *automation_sensors([*streams, *tables]),
        ],
    )


def stream_job(zone: str, feeds: Collection[str] = ()) -> str:
    """Return the name of a time zone's stream job: `streams` for UTC, else like `streams_Europe_Berlin`.

    Jobs share one namespace with assets: where a feed of `feeds` has the name, `_job` is added.
    """
    return free_name(zone_name("streams", zone), feeds)


def zone_name(name: str, zone: str) -> str:
    """Return the name of what there is once per time zone: the bare name for UTC, else the zone behind it."""
    return name if zone == "UTC" else f"{name}_{zone.replace('+', 'plus').translate(_UNDERSCORES)}"


def table_job(table: str, feeds: Collection[str] = ()) -> str:
    """Return the name of a table's job; see `stream_job`."""
    return free_name(f"table_{table}", feeds)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a job name that no feed has: this one, or with `_job` behind it."""
    while name in taken:
        name += "_job"
    return name


def stream_schedule(zone: str, cron: str) -> str:
    """Return the name of the schedule of all streams of a zone with this cron expression.

    `streams_hourly` for the default, else like `streams_at_0_6_every_every_MON`.
    """
    if cron == DEFAULT_SCHEDULES["stream"]:
        return f"{stream_job(zone)}_hourly"
    words = "_".join(cron.split()).translate(_CRON_WORDS)
    return f"{stream_job(zone)}_at_{words}"


_UNDERSCORES = str.maketrans("/-", "__")
_CRON_WORDS = str.maketrans({"@": "", "*": "every", "/": "_per_", ",": "_and_", "-": "_to_"})


def _stream_schedules(
    streams: Sequence[StreamFeed], feeds: Collection[str], lake: Lake
) -> Iterator[dg.ScheduleDefinition]:
    due: dict[tuple[str, str], list[StreamFeed]] = defaultdict(list)
    for feed in streams:
        due[feed.timezone, cron_of(feed)].append(feed)
    for (zone, cron), group in due.items():
        yield _schedule(
            stream_schedule(zone, cron),
            stream_job(zone, feeds),
            cron,
            zone=zone,
            runs=partial(stream_runs, group, lake),
            says=f"Exports {_names(group)}: every day that is not closed yet.",
        )
    for zone in sorted({feed.timezone for feed in streams}):
        group = [feed for feed in streams if feed.timezone == zone]
        yield _schedule(
            f"{stream_job(zone)}_close",
            stream_job(zone, feeds),
            CLOSE,
            zone=zone,
            runs=partial(stream_runs, group, lake, running_day=False),
            says=f"Exports all streams of {zone} once, soon after their day has ended: {_names(group)}.",
        )


def _names(feeds: Sequence[StreamFeed]) -> str:
    return ", ".join(feed.name for feed in feeds)


def _table_schedule(feed: TableFeed, feeds: Collection[str]) -> dg.ScheduleDefinition:
    return _schedule(
        f"table_{feed.name}_schedule",
        table_job(feed.name, feeds),
        cron_of(feed),
        says=f"Exports {feed.name}: its next version.",
    )


def stopped_schedule(job: str, cron: str) -> dg.ScheduleDefinition:
    """Return the schedule of a job that is about no feed in particular; cron in UTC."""
    return _schedule(f"{job}_schedule", job, cron, says=f"Runs the job {job}.")


def _schedule(
    name: str,
    job: str,
    cron: str,
    *,
    says: str,
    zone: str = "UTC",
    runs: Callable[[datetime], Sequence[dg.RunRequest]] | None = None,
) -> dg.ScheduleDefinition:
    """A stopped schedule; `runs` says what a tick asks for, given when it was due; None means one whole run."""

    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=says,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if runs is None:
            return [dg.RunRequest()]
        found = runs(context.scheduled_execution_time)
        return [*found] or dg.SkipReason("Every day that has ended was read to its end.")

    return tick

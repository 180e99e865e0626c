"""Jobs of feeds and upkeep, and what starts them by the clock.

All of it is stopped until somebody switches it on, or says `KSQL_LAKE_SCHEDULES=running`: a pull query scans
its topic from the start, and a fresh clone must not do that to a production server by itself. A tick after an
outage catches up with everything that was missed.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import dagster as dg

from ksql_lake.feeds import Feed, StreamFeed, TableFeed, streams_of
from ksql_lake.lake import Lake
from ksql_lake.lake.compaction import OPEN_FILES
from ksql_lake.orchestration.conditions import (
    STREAMS_CLOSING,
    STREAMS_DUE,
    TABLES_DUE,
    automation_sensors,
    cron_of,
)
from ksql_lake.orchestration.due_sensors import Rota, by_zone, due_sensor
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

_ALWAYS_STOPPED = {"compaction_open"}
"""What nobody gets by `KSQL_LAKE_SCHEDULES=running`: plain readers see the day that it merges change."""


def automation(
    streams: Sequence[StreamFeed], tables: Sequence[TableFeed], lake: Lake, *, running: bool = False
) -> dg.Definitions:
    """Return the jobs of feeds and upkeep, the sensors that start what is due, and the upkeep's schedules.

    Args:
        streams: The streams that export.
        tables: The tables that export.
        lake: Where they land.
        running: Whether exports and upkeep run by the clock until somebody switches them off.
    """
    names = {feed.name for feed in (*streams, *tables)}
    of_zone = {
        stream_job(zone.key, names): [feed.name for feed in group] for zone, group in by_zone(streams).items()
    }
    of_table = {table_job(feed.name, names): [feed.name] for feed in tables}
    jobs = [
        dg.define_asset_job(
            stream_job(zone.key, names),
            selection=dg.AssetSelection.assets(*(feed.name for feed in group)),
            description=f"Streams with days in {zone.key}: every day not closed yet, or the range given.",
            tags=run_tags("streams"),
        )
        for zone, group in by_zone(streams).items()
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
            clock_schedule(name, cron, running=running and name not in _ALWAYS_STOPPED)
            for name, cron in UPKEEP_SCHEDULES.items()
        ],
        sensors=[
            *_stream_sensors(
                [feed for feed in streams if feed.automation == "schedule"], of_zone, lake, running
            ),
            _table_sensor([feed for feed in tables if feed.automation == "schedule"], of_table, running),
            *automation_sensors([*streams, *tables], running=running),
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


_UNDERSCORES = str.maketrans("/-", "__")


def _stream_sensors(
    streams: Sequence[StreamFeed], jobs: dict[str, list[str]], lake: Lake, running: bool
) -> list[dg.SensorDefinition]:
    keys = {feed.name: dg.AssetKey([feed.name]) for feed in streams}

    def runs(feeds: Sequence[Feed], since: datetime, *, running_day: bool = True) -> list[dg.RunRequest]:
        return [
            request
            for group in by_zone(feeds).values()
            for request in stream_runs(streams_of(group), lake, since, running_day=running_day)
        ]

    def closing(feeds: Sequence[Feed], since: datetime) -> list[dg.RunRequest]:
        return runs(feeds, since, running_day=False)

    return [
        due_sensor(
            STREAMS_DUE,
            Rota(streams, keys, cron_of, runs, jobs),
            says="Exports each stream when its `schedule` says, five past every hour without one: every day "
            "that is not closed yet. Streams that are due together share a run.",
            running=running,
        ),
        due_sensor(
            STREAMS_CLOSING,
            Rota(streams, keys, lambda _feed: CLOSE, closing, jobs),
            says="Exports every stream once, soon after its day has ended: for those who need no open day.",
            running=False,
        ),
    ]


def _table_sensor(
    tables: Sequence[TableFeed], jobs: dict[str, list[str]], running: bool
) -> dg.SensorDefinition:
    keys = {feed.name: dg.AssetKey([feed.name]) for feed in tables}

    def runs(feeds: Sequence[Feed], since: datetime) -> list[dg.RunRequest]:
        return [
            dg.RunRequest(
                run_key=f"{since.isoformat()} {feed.name}",
                asset_selection=[keys[feed.name]],
                tags=run_tags("tables"),
            )
            for feed in feeds
        ]

    return due_sensor(
        TABLES_DUE,
        Rota(tables, keys, cron_of, runs, jobs),
        says="Exports each table's next version when its `schedule` says, 01:30 UTC without one.",
        running=running,
    )


def clock_schedule(job: str, cron: str, *, running: bool) -> dg.ScheduleDefinition:
    """Return the schedule of a job that is about no feed in particular; cron in UTC."""

    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description=f"Runs the job {job}.",
    )
    def tick() -> list[dg.RunRequest]:
        return [dg.RunRequest()]

    return tick

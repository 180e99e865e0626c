"""Jobs and schedules. Schedules start stopped."""

# A pull query scans its topic from the start; a new clone must not do that on a production server
# automatically.

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import dagster as dg

from ksql_lake.feeds import Feed, StreamFeed, TableFeed, streams_of
from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake.orchestration.conditions import (
    STREAMS_CLOSING,
    STREAMS_DUE,
    TABLES_DUE,
    automation_sensors,
    cron_of,
)
from ksql_lake.orchestration.due_sensors import Rota, by_zone, due_sensor
from ksql_lake.orchestration.execution import job_executor
from ksql_lake.orchestration.internals import AssetJob
from ksql_lake.orchestration.jobs import compaction_job, retention_job, run_tags
from ksql_lake.orchestration.scope import Scope
from ksql_lake.orchestration.ticks import stream_runs

CLOSE = "15 0 * * *"
"""When feeds that are exported once a day close a day; in the time zone of the streams."""

UPKEEP_SCHEDULES = {
    "retention": "30 3 * * *",
    "compaction": "0 4 * * *",
    "compaction_open": "50 * * * *",
    "ksqldb_sources": "45 0 * * *",
}

_ALWAYS_STOPPED = {"compaction_open"}
"""Not switched on by `KSQL_LAKE_SCHEDULES=running`: plain readers see an open day change while it merges."""

Jobs = Mapping[str, Collection[str]]
"""Job -> the feeds that it exports."""


def automation(streams: Sequence[StreamFeed], tables: Sequence[TableFeed], scope: Scope) -> dg.Definitions:
    """Return the jobs of feeds and upkeep, the sensors that start due exports, and the upkeep's schedules.

    There is one job per time zone of streams and one per table; one sensor for streams and one for tables.
    """
    taken = scope.taken([*streams, *tables])
    of_zone = {scope.free_name(stream_job(zone.key), taken): group for zone, group in by_zone(streams).items()}
    of_table = {scope.free_name(table_job(feed.name), taken): [feed] for feed in tables}
    jobs = [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*scope.keys(group)),
            description=f"Streams with days in {group[0].zone.key}: every day not closed yet, or a range.",
            tags=run_tags("streams"),
            executor_def=job_executor(scope),
        )
        for name, group in of_zone.items()
    ]
    jobs += [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(scope.key(feed)),
            description=f"The next version of {feed.name}.",
            tags=run_tags("tables"),
            executor_def=job_executor(scope),
        )
        for name, [feed] in of_table.items()
    ]
    upkeep = [
        retention_job(tables, scope),
        compaction_job(streams, scope),
        compaction_job(streams, scope, open_files=OPEN_FILES),
    ]
    return dg.Definitions(
        jobs=[*jobs, *upkeep],
        schedules=[
            clock_schedule(scope.named(name), cron, running=scope.clocks_run and name not in _ALWAYS_STOPPED)
            for name, cron in UPKEEP_SCHEDULES.items()
        ],
        sensors=[
            *_stream_sensors(streams, of_zone, jobs, scope),
            _table_sensor(tables, of_table, jobs, scope),
            *automation_sensors([*streams, *tables], scope),
        ],
    )


def stream_job(zone: str) -> str:
    """Return the name of a time zone's stream job: `streams` for UTC, else like `streams_Europe_Berlin`."""
    return zone_name("streams", zone)


def zone_name(name: str, zone: str) -> str:
    """Return the name of a definition of one time zone: the bare name for UTC, else with the zone appended."""
    return name if zone == "UTC" else f"{name}_{zone.replace('+', 'plus').translate(_UNDERSCORES)}"


def table_job(table: str) -> str:
    """Return the name of a table's job."""
    return f"table_{table}"


_UNDERSCORES = str.maketrans("/-", "__")


def _stream_sensors(
    streams: Sequence[StreamFeed], of_zone: Mapping[str, Sequence[Feed]], jobs: Sequence[AssetJob], scope: Scope
) -> list[dg.SensorDefinition]:
    streams = [feed for feed in streams if feed.automation == "schedule"]
    job_of = {feed.name: name for name, feeds in of_zone.items() for feed in feeds}
    own = [job for job in jobs if job.name in of_zone]
    keys = {feed.name: scope.key(feed) for feed in streams}

    def runs(feeds: Sequence[Feed], since: datetime, *, running_day: bool = True) -> list[dg.RunRequest]:
        return [
            request
            for group in by_zone(feeds).values()
            for request in stream_runs(
                streams_of(group), scope, since, job=job_of[group[0].name], running_day=running_day
            )
        ]

    def closing(feeds: Sequence[Feed], since: datetime) -> list[dg.RunRequest]:
        return runs(feeds, since, running_day=False)

    return [
        due_sensor(
            scope.named(STREAMS_DUE),
            Rota(streams, keys, cron_of, runs, _names(of_zone)),
            own,
            says="Exports each stream by its `schedule`, or five past every hour without one: every day that "
            "is not closed yet. Streams that are due together share a run.",
            running=scope.clocks_run,
        ),
        due_sensor(
            scope.named(STREAMS_CLOSING),
            Rota(streams, keys, lambda _feed: CLOSE, closing, _names(of_zone)),
            own,
            says="Exports every stream once a day, soon after its day has ended: for lakes without open days.",
            running=False,
        ),
    ]


def _table_sensor(
    tables: Sequence[TableFeed], of_table: Mapping[str, Sequence[Feed]], jobs: Sequence[AssetJob], scope: Scope
) -> dg.SensorDefinition:
    tables = [feed for feed in tables if feed.automation == "schedule"]
    job_of = {feed.name: name for name, [feed] in of_table.items()}
    keys = {feed.name: scope.key(feed) for feed in tables}

    def runs(feeds: Sequence[Feed], since: datetime) -> list[dg.RunRequest]:
        return [
            dg.RunRequest(
                run_key=f"{since.isoformat()} {feed.name}",
                job_name=job_of[feed.name],
                asset_selection=[keys[feed.name]],
                tags=run_tags("tables"),
            )
            for feed in feeds
        ]

    return due_sensor(
        scope.named(TABLES_DUE),
        Rota(tables, keys, cron_of, runs, _names(of_table)),
        [job for job in jobs if job.name in of_table],
        says="Exports each table's next version by its `schedule`, or at 01:30 UTC without one.",
        running=scope.clocks_run,
    )


def _names(jobs: Mapping[str, Sequence[Feed]]) -> Jobs:
    return {job: {feed.name for feed in feeds} for job, feeds in jobs.items()}


def clock_schedule(job: str, cron: str, *, running: bool) -> dg.ScheduleDefinition:
    """Return the schedule of a job that belongs to no single feed; cron in UTC."""

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

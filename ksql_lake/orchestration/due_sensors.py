"""Sensors that start due exports: one per kind of feed, for all cron expressions and time zones."""

# The name and state of a schedule would depend on its cron expression. Here a feed is due when its expression
# has ticked since the sensor's last tick, so one export catches up after an outage. A feed whose run has not
# ended is passed over. Ticks while the sensor is switched off are not made up.

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from ksql_lake.feeds import Feed
from ksql_lake.orchestration.internals import AssetJob, next_tick
from ksql_lake.quantities import count_text

DUE_SECONDS = 30
"""Seconds between two ticks; a run may start this much later than its cron expression says."""

SENSOR_TAG = "dagster/sensor_name"

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STEP_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SKIPPED,
}
_NAMED = 5
"""Most feeds that a tick names."""

Runs = Callable[[Sequence[Feed], datetime], Sequence[dg.RunRequest]]


@dataclass(frozen=True, slots=True)
class Rota:
    """The feeds that a sensor starts, and when.

    Attributes:
        feeds: The feeds.
        keys: Feed -> its asset.
        cron: Returns a feed's cron expression; in the time zone of its days, UTC for a table.
        runs: Returns the runs for due feeds; its second argument is the time of the sensor's last tick.
        jobs: Job -> the feeds that it exports when it is started as a whole.
    """

    feeds: Sequence[Feed]
    keys: Mapping[str, dg.AssetKey]
    cron: Callable[[Feed], str]
    runs: Runs
    jobs: Mapping[str, Collection[str]] = field(default_factory=dict)

    def due(self, since: datetime, now: datetime) -> list[Feed]:
        """Return the feeds whose expression has ticked after `since` and not after `now`."""
        ticks = cache(next_tick)
        return [feed for feed in self.feeds if ticks(self.cron(feed), feed.zone.key, since) <= now]

    def next_due(self, now: datetime) -> tuple[datetime, Feed] | None:
        """Return when the next feed is due, in its time zone, and which; None without feeds."""
        ticks = cache(next_tick)
        found = [(ticks(self.cron(feed), feed.zone.key, now), feed.name, feed) for feed in self.feeds]
        if not found:
            return None
        moment, _, feed = min(found, key=lambda each: each[:2])
        return moment.astimezone(feed.zone), feed


@dataclass(slots=True)
class _Cursor:
    """The state between two ticks: the time of the last one, and the feeds that wait for another run to end."""

    since: datetime
    waiting: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: dg.SensorEvaluationContext, now: datetime) -> "_Cursor":
        """Read the cursor; if the sensor was switched on after that, use the time it was switched on.

        A time in the future, written while the clock was ahead, counts as now; else no feed would be due until
        then.
        """
        started = context.last_sensor_start_time
        begun = min(datetime.fromtimestamp(started, UTC), now) if started else None
        if not context.cursor:
            return cls(begun or now)
        kept = json.loads(context.cursor)
        since = min(datetime.fromisoformat(kept["since"]), now)
        if begun is not None and begun > since:
            return cls(begun)
        return cls(since, kept["waiting"])

    def text(self) -> str:
        """Return the cursor's text."""
        return json.dumps({"since": self.since.isoformat(), "waiting": self.waiting})


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A run that has not exported a feed yet."""

    run: str
    since: datetime
    sensor: str

    def __str__(self) -> str:
        return f"run {self.run[:8]}, since {self.since:%Y-%m-%d %H:%M} UTC"


def due_sensor(
    name: str, rota: Rota, jobs: Sequence[AssetJob], *, says: str, running: bool
) -> dg.SensorDefinition:
    """Return the sensor.

    Args:
        name: Its name, which keeps its state when feeds are added, removed or changed.
        rota: The feeds it starts, and when.
        jobs: The jobs of its runs; each has partitions of one kind.
        says: Its description.
        running: Whether it is switched on by default.
    """

    @dg.sensor(
        name=name,
        jobs=jobs,
        minimum_interval_seconds=DUE_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=says,
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = datetime.now(UTC)
        cursor = _Cursor.of(context, now)
        wanted = rota.due(cursor.since, now)
        names = {feed.name for feed in wanted}
        waited = [feed for feed in rota.feeds if feed.name in cursor.waiting and feed.name not in names]
        due = [*wanted, *waited]
        busy = _under_way(context.instance, rota, due, name) if due else {}
        waiting = {
            feed.name: cursor.waiting.get(feed.name, now.isoformat(timespec="seconds"))
            for feed in due
            if feed.name in busy and busy[feed.name].sensor != name
        }
        requests = [*rota.runs([feed for feed in due if feed.name not in busy], cursor.since)]
        for line in _passed_over(busy, waiting):
            context.log.info(line)
        following = _Cursor(now, waiting).text()
        if requests:
            graph = context.repository_def.asset_graph if context.repository_def is not None else None
            return dg.SensorResult([_runnable(each, graph) for each in requests], cursor=following)
        said = [*_passed_over(busy, waiting), _idle(rota, due, busy, now)]
        return dg.SensorResult(skip_reason=" ".join(filter(None, said)), cursor=following)

    return tick


def _runnable(request: dg.RunRequest, graph: Any) -> dg.RunRequest:
    """Leave checks with partitions out of a run without: a project's own check by day would fail it."""
    if graph is None or "dagster/asset_partition_range_start" in request.tags:
        return request
    asked = {*(request.asset_selection or ())}
    checks = [key for key in graph.asset_check_keys if key.asset_key in asked]
    fitting = [key for key in checks if getattr(graph.get(key), "partitions_def", None) is None]
    if len(fitting) == len(checks):
        return request
    return dg.RunRequest(
        run_key=request.run_key,
        job_name=request.job_name,
        tags=request.tags,
        asset_selection=request.asset_selection,
        asset_check_keys=sorted(fitting, key=str),
    )


def _passed_over(busy: Mapping[str, _UnderWay], waiting: Collection[str]) -> Iterator[str]:
    """Yield which due feeds were not started, and why."""
    again = {name: run for name, run in busy.items() if name not in waiting}
    if again:
        yield f"Passed over, because a run that this sensor started has not ended: {_listed(again)}."
    put_off = {name: run for name, run in busy.items() if name in waiting}
    if put_off:
        yield f"Put off until another run of the feed has ended: {_listed(put_off)}."


def _listed(busy: Mapping[str, _UnderWay]) -> str:
    shown = [f"{name} ({run})" for name, run in list(busy.items())[:_NAMED]]
    more = f" and {count_text(len(busy) - _NAMED, 'feed')} more" if len(busy) > _NAMED else ""
    return ", ".join(shown) + more


def _idle(rota: Rota, due: Sequence[Feed], busy: Collection[str], now: datetime) -> str:
    """Return why no run was started, and what is due next."""
    following = rota.next_due(now)
    if following is None:
        return "No feed has a schedule."
    moment, feed = following
    coming = f"Next: {feed.name} at {moment:%Y-%m-%d %H:%M} {feed.zone.key}."
    if len(due) > len(busy):
        return f"Every day that has ended was read to its end. {coming}"
    return coming


def _under_way(
    instance: dg.DagsterInstance, rota: Rota, feeds: Sequence[Feed], sensor: str
) -> dict[str, _UnderWay]:
    """Return the feeds that a run has not exported yet; steps that have ended do not count.

    Queued runs that this sensor did not start do not count either: they may wait for hours.
    """
    found: dict[str, _UnderWay] = {}
    planned = cache(lambda run: _planned(instance, run))
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run = record.dagster_run
        by = run.tags.get(SENSOR_TAG, "")
        if run.status is dg.DagsterRunStatus.QUEUED and by != sensor:
            continue
        theirs = [
            feed
            for feed in feeds
            if (by == sensor or feed.name not in found) and _covers(run, feed, rota, planned)
        ]
        ended = _ended_steps(instance, run.run_id) if theirs else set()
        for feed in theirs:
            if rota.keys[feed.name].to_python_identifier() not in ended:
                found[feed.name] = _UnderWay(run.run_id, record.create_timestamp.astimezone(UTC), by)
    return found


def _covers(run: dg.DagsterRun, feed: Feed, rota: Rota, planned: Callable[[str], Collection[Any]]) -> bool:
    if run.asset_selection is not None:
        return rota.keys[feed.name] in run.asset_selection
    if run.job_name in rota.jobs:
        return feed.name in rota.jobs[run.job_name]
    # A job of other definitions, started as a whole.
    return rota.keys[feed.name] in planned(run.run_id)


def _planned(instance: dg.DagsterInstance, run: str) -> set[dg.AssetKey | None]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    events = (entry.dagster_event for entry in instance.all_logs(run, of_type=kind))
    return {event.asset_key for event in events if event is not None}


def _ended_steps(instance: dg.DagsterInstance, run: str) -> set[str]:
    return {
        entry.step_key for entry in instance.all_logs(run, of_type=_STEP_ENDS) if entry.step_key is not None
    }


def by_zone(feeds: Sequence[Feed]) -> dict[ZoneInfo, list[Feed]]:
    """Return feeds by the time zone of their days: those of one zone can share a run."""
    zones: dict[ZoneInfo, list[Feed]] = defaultdict(list)
    for feed in feeds:
        zones[feed.zone].append(feed)
    return zones

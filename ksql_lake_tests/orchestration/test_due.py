"""What is due, by each feed's own cron expression, and what is passed over because a run is still going."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._utils.schedules import schedule_execution_time_iterator

from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.orchestration import internals
from ksql_lake.orchestration.conditions import clock_hint, cron_of
from ksql_lake.orchestration.due_sensors import Rota
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import Project

BERLIN = "Europe/Berlin"
REPOSITORY = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
LONG_AGO = "2026-01-01T00:00:00+00:00"


def stream(name: str, schedule: str | None = None, timezone: str = "UTC") -> StreamFeed:
    """A stream that is due by this expression in this zone."""
    return StreamFeed(
        name=name,
        kind="stream",
        source=name.upper(),
        start_date=date(2025, 1, 6),
        schedule=schedule,
        timezone=timezone,
    )


def rota(*feeds: Feed) -> Rota:
    """A rota that is only asked what is due."""
    keys = {feed.name: dg.AssetKey([feed.name]) for feed in feeds}
    return Rota(feeds, keys, cron_of, lambda _feeds, _since: [])


def due(found: Rota, since: str, now: str) -> list[str]:
    """The names of what is due."""
    return [feed.name for feed in found.due(datetime.fromisoformat(since), datetime.fromisoformat(now))]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_a_feed_is_due_once_its_expression_has_ticked() -> None:
    """Not before the tick, at the tick and until it was looked at, and never twice for the same tick."""
    found = rota(stream("a", "0 9 * * *"))

    assert due(found, "2026-03-01T08:00:00Z", "2026-03-01T08:59:59Z") == []
    assert due(found, "2026-03-01T08:59:59Z", "2026-03-01T09:00:00Z") == ["a"]
    assert due(found, "2026-03-01T09:00:00Z", "2026-03-01T09:00:30Z") == []
    assert due(found, "2026-03-01T09:00:00.5Z", "2026-03-01T09:00:30Z") == []


def test_an_outage_makes_a_feed_due_once() -> None:
    """After four days without a daemon every feed is due, each of them once, however often it ticks."""
    found = rota(stream("often", "* * * * *"), stream("daily", "@daily"), stream("yearly", "@yearly"))

    assert due(found, "2026-03-01T08:00:00Z", "2026-03-05T08:00:00Z") == ["often", "daily"]


def test_the_same_expression_ticks_in_the_zone_of_each_feed() -> None:
    """Five past midnight comes in Auckland first, in Los Angeles last."""
    zones = ("UTC", "Pacific/Auckland", "America/Los_Angeles")
    found = rota(*(stream(f"s{at}", "5 0 * * *", zone) for at, zone in enumerate(zones)))

    assert due(found, "2026-06-01T00:00:00Z", "2026-06-01T00:10:00Z") == ["s0"]
    assert due(found, "2026-06-01T12:00:00Z", "2026-06-01T12:10:00Z") == ["s1"]
    assert due(found, "2026-06-01T07:00:00Z", "2026-06-01T07:10:00Z") == ["s2"]
    told = found.next_due(datetime(2026, 6, 1, 1, tzinfo=UTC))
    assert told is not None
    assert (told[1].name, f"{told[0]:%H:%M}") == ("s2", "00:05")


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
@pytest.mark.parametrize(
    "cron", ["5 * * * *", "30 2 * * *", "15 0 * * *", "0 3 * * *", "*/20 1-3 * * *", "@daily", "0 2 * * SUN"]
)
def test_the_nights_of_the_clock_change_are_those_of_a_schedule(day: date, cron: str) -> None:
    """Looking every half minute, a feed is due exactly as often and as late as Dagster's schedule ticks."""
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(BERLIN)).astimezone(UTC) - timedelta(hours=2)
    end = start + timedelta(hours=30)
    ticks = schedule_execution_time_iterator(start.timestamp() + 1, cron, BERLIN)
    scheduled = [tick.astimezone(UTC) for tick in _until(ticks, end)]
    found, seen, since = rota(stream("a", cron, BERLIN)), [], start

    while since < end:
        now = since + timedelta(seconds=30)
        seen += [now for _ in found.due(since, now)]
        since = now

    assert len(scheduled) > 0
    assert seen == scheduled


def _until(ticks: Iterator[datetime], end: datetime) -> Iterator[datetime]:
    for tick in ticks:
        if tick > end:
            return
        yield tick


@pytest.mark.parametrize("cron", ["30 2 * * *", "@hourly", "*/7 3-5 * * mon,fri", "0 0 29 2 *", "15 2 31 * *"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_next_tick_is_the_same_with_and_without_the_inner_names(cron: str, zone: str) -> None:
    """Dagster's iterator and its published partitions name the same moment."""
    for text in (
        "2025-12-31T23:59:59Z",
        "2026-01-01T00:00:00Z",
        "2026-06-05T03:07:00.4Z",
        "2026-07-31T06:15:00Z",
    ):
        after = datetime.fromisoformat(text)
        inner = internals.next_tick(cron, zone, after)

        assert inner > after
        assert inner == internals.next_tick(cron, zone, after, ticks=None)


def test_no_instigator_is_called_after_a_cron(project: Project) -> None:
    """Feeds of many expressions and zones leave the schedules and sensors that one feed has."""
    before = _instigators(project)
    for at, zone in enumerate(("UTC", BERLIN, "Asia/Tokyo", "Pacific/Auckland")):
        for hour in range(3):
            name = f"more_{at}_{hour}"
            project.write_feed(
                name,
                kind="stream",
                source="VISITS",
                start_date="2025-02-01",
                timezone=zone,
                schedule=f"{at} {hour} * * *",
            )
            project.write_feed(
                f"table_{at}_{hour}", kind="table", source="TOTALS", schedule=f"{at} {hour} * * *"
            )

    after = _instigators(project)

    assert after == before
    exporting = [name for name in after if name.endswith(("_due", "_closing", "_schedule"))]
    assert len(exporting) <= 10


def _instigators(project: Project) -> list[str]:
    repository = project.definitions().get_repository_def()
    schedules = [schedule.name for schedule in repository.schedule_defs]
    return sorted([*schedules, *(sensor.name for sensor in repository.sensor_defs)])


def _tick(
    project: Project,
    instance: dg.DagsterInstance,
    sensor: str,
    cursor: str | None,
    started: float | None = None,
) -> dg.SensorResult:
    repository = project.definitions().get_repository_def()
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        last_sensor_start_time=started,
    )
    told = repository.get_sensor_def(sensor)(context)
    assert isinstance(told, dg.SensorResult)
    return told


def _cursor(since: str = LONG_AGO, **waiting: str) -> str:
    return json.dumps({"since": since, "waiting": waiting})


def _asked(told: dg.SensorResult) -> set[str]:
    return {
        key.to_user_string() for request in told.run_requests or [] for key in request.asset_selection or []
    }


def _run(
    instance: dg.DagsterInstance,
    *names: str,
    sensor: str = "",
    job: str = "__ASSET_JOB",
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> dg.DagsterRun:
    run = dg.DagsterRun(
        job_name=job,
        run_id=f"{len(instance.get_runs()):08d}-0000-0000-0000-000000000000",
        status=status,
        asset_selection=frozenset(dg.AssetKey([name]) for name in names) or None,
        tags={"dagster/sensor_name": sensor} if sensor else {},
        remote_job_origin=RemoteJobOrigin(REPOSITORY, job),
    )
    return instance.add_run(run)


def test_the_first_tick_begins_with_the_moment_it_was_switched_on(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """What ticked before is not made up for, also when the sensor was off for a while."""
    now = datetime.now(UTC)

    first = _tick(project, instance, "streams_due", None, now.timestamp())
    again = _tick(project, instance, "streams_due", _cursor(payments=LONG_AGO), now.timestamp())
    later = _tick(project, instance, "streams_due", _cursor(), (now - timedelta(hours=2)).timestamp())

    for told in (first, again):
        assert not told.run_requests
        assert told.skip_reason is not None
        assert "Next: payments at " in str(told.skip_reason.skip_message)
        assert json.loads(told.cursor or "")["waiting"] == {}
    assert _asked(later) == {"payments", "refunds"}
    assert datetime.fromisoformat(json.loads(later.cursor or "")["since"]) >= now


def test_a_tick_that_is_evaluated_again_asks_with_the_same_keys(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """A daemon that was killed before it kept the cursor starts no run twice."""
    project.write_feed("berlin", kind="stream", source="VISITS", start_date="2025-02-01", timezone=BERLIN)

    told = [_tick(project, instance, "streams_due", _cursor()) for _ in range(2)]
    keys = [[request.run_key for request in each.run_requests or []] for each in told]

    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(keys[0]) > 2
    assert {request.tags["dagster/priority"] for request in told[0].run_requests or []} == {"20"}


def test_a_tick_that_is_evaluated_again_loses_no_feed(project: Project, instance: dg.DagsterInstance) -> None:
    """A feed that is due only now, after the daemon was killed in the tick, is in no run that began before."""
    busy = _run(instance, "refunds", sensor="streams_due")
    begun = _tick(project, instance, "streams_due", _cursor()).run_requests or []
    instance.report_run_canceled(busy)

    again = _tick(project, instance, "streams_due", _cursor()).run_requests or []

    # Dagster starts nothing under a key that it has seen.
    fresh = [request for request in again if request.run_key not in {each.run_key for each in begun}]
    refunds = [request for request in again if dg.AssetKey(["refunds"]) in (request.asset_selection or [])]
    assert {request.run_key for request in refunds} == {request.run_key for request in fresh}
    assert len(refunds) == 2


def test_each_run_is_of_one_partitions_definition(project: Project, instance: dg.DagsterInstance) -> None:
    """Streams of two zones share no run, and neither do two tables."""
    project.write_feed("berlin", kind="stream", source="VISITS", start_date="2025-01-09", timezone=BERLIN)
    project.write_feed("fewer", kind="table", source="FEWER")
    graph = project.definitions().get_repository_def().asset_graph

    for sensor in ("streams_due", "streams_closing", "tables_due"):
        for request in _tick(project, instance, sensor, _cursor()).run_requests or []:
            assert len({graph.get(key).partitions_def for key in request.asset_selection or []}) == 1


def test_a_feed_that_is_still_running_is_passed_over(project: Project, instance: dg.DagsterInstance) -> None:
    """The others start; the tick is gone, because what the sensor started reads the same days."""
    _run(instance, "payments", sensor="streams_due")

    told = _tick(project, instance, "streams_due", _cursor())

    assert _asked(told) == {"refunds"}
    assert json.loads(told.cursor or "")["waiting"] == {}


def test_a_tick_with_nothing_to_start_says_why(project: Project, instance: dg.DagsterInstance) -> None:
    """The reason names feed, run and since when, and what is due next."""
    run = _run(instance, "payments", "refunds", sensor="streams_due")

    told = _tick(project, instance, "streams_due", _cursor())

    assert not told.run_requests
    assert told.skip_reason is not None
    said = str(told.skip_reason.skip_message)
    assert said.startswith(
        f"Passed over, because a run that this sensor started has not ended: payments (run {run.run_id[:8]}"
    )
    assert " Next: payments at " in said


def test_a_tick_beside_another_run_is_put_off(project: Project, instance: dg.DagsterInstance) -> None:
    """A run that a person started may read something else: the feed is started once that run has ended."""
    run = _run(instance, "totals")

    held = _tick(project, instance, "tables_due", _cursor())
    later = _tick(project, instance, "tables_due", held.cursor)
    instance.report_run_canceled(run)
    then = _tick(project, instance, "tables_due", later.cursor)
    after = _tick(project, instance, "tables_due", then.cursor)

    for told in (held, later):
        assert not told.run_requests
        assert list(json.loads(told.cursor or "")["waiting"]) == ["totals"]
        assert "Put off until another run of the feed has ended: totals" in str(told.skip_reason)
    assert _asked(then) == {"totals"}
    assert not after.run_requests


def test_what_somebody_else_has_queued_holds_nothing_up(project: Project, instance: dg.DagsterInstance) -> None:
    """A backfill in the queue may wait for hours; a queued run of the sensor itself is not doubled."""
    theirs = dg.DagsterRunStatus.QUEUED
    _run(instance, "payments", status=theirs)
    _run(instance, "refunds", sensor="streams_due", status=theirs)

    told = _tick(project, instance, "streams_due", _cursor())

    assert _asked(told) == {"payments"}
    assert json.loads(told.cursor or "")["waiting"] == {}


def test_a_clock_that_was_ahead_stops_nothing(project: Project, instance: dg.DagsterInstance) -> None:
    """Where the cursor is of next year, the sensor goes on from now."""
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01", schedule="* * * * *")
    ahead = datetime.now(UTC) + timedelta(days=365)

    told = _tick(project, instance, "streams_due", _cursor(ahead.isoformat()), ahead.timestamp())

    assert not told.run_requests
    since = datetime.fromisoformat(json.loads(told.cursor or "")["since"])
    assert since <= datetime.now(UTC)


def test_a_job_that_was_started_as_a_whole_counts(project: Project, instance: dg.DagsterInstance) -> None:
    """`dagster job execute -j streams` names no asset, and runs all of them."""
    _run(instance, job="streams")

    assert _asked(_tick(project, instance, "streams_due", _cursor())) == set()
    assert _asked(_tick(project, instance, "tables_due", _cursor())) == {"totals"}


def test_a_job_of_other_definitions_counts(project: Project, instance: dg.DagsterInstance) -> None:
    """A job of the project's own names no asset in its runs either; the runs say what they will materialise."""
    own = dg.define_asset_job("mine", selection=dg.AssetSelection.assets("payments"))
    defs = dg.Definitions.merge(project.definitions(), dg.Definitions(jobs=[own]))
    run = instance.create_run_for_job(defs.resolve_job_def("mine"), status=dg.DagsterRunStatus.STARTED)

    held = _tick(project, instance, "streams_due", _cursor())
    instance.report_run_canceled(run)

    assert run.asset_selection is None
    assert _asked(held) == {"refunds"}
    assert list(json.loads(held.cursor or "")["waiting"]) == ["payments"]
    assert "payments" in _asked(_tick(project, instance, "streams_due", held.cursor))


@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
def test_a_check_by_day_is_left_out_of_runs_without_days(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """A project's own check with partitions would fail the run of the current day; all others stay in it."""
    days = dg.DailyPartitionsDefinition("2025-01-06", timezone="UTC")

    @dg.asset_check(asset="payments", partitions_def=days)
    def by_day() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset_check(asset="payments")
    def of_all() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    own = dg.Definitions(asset_checks=[by_day, of_all])
    repository = dg.Definitions.merge(project.definitions(), own).get_repository_def()
    context = dg.build_sensor_context(instance=instance, cursor=_cursor(), repository_def=repository)
    told = repository.get_sensor_def("streams_due")(context)
    assert isinstance(told, dg.SensorResult)

    checks = {key.name for key in repository.asset_graph.asset_check_keys}
    for request in told.run_requests or []:
        if "dagster/asset_partition_range_start" in request.tags:
            assert request.asset_check_keys is None
        else:
            assert {key.name for key in request.asset_check_keys or []} == checks - {"by_day", "shrinkage"}


def test_a_feed_whose_step_has_ended_is_not_running(project: Project, instance: dg.DagsterInstance) -> None:
    """In a long run of many feeds one that is done does not wait for the others."""
    run = _run(instance, "payments", "refunds", sensor="streams_due")
    done = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.STEP_SUCCESS.value,
        job_name=run.job_name,
        step_key="payments",
        event_specific_data=StepSuccessData(1.0),  # type: ignore[no-untyped-call]
    )
    instance.report_dagster_event(done, run.run_id)

    assert _asked(_tick(project, instance, "streams_due", _cursor())) == {"payments"}


def test_a_feed_that_went_away_is_waited_for_no_longer(project: Project, instance: dg.DagsterInstance) -> None:
    """Archived, disabled or broken while it was put off: the tick forgets it, and the others go on."""
    project.write_feed("totals", kind="table", source="TOTALS", enabled=False)
    project.write_feed("fewer", kind="table", source="FEWER", schedule="@yearly")

    told = _tick(project, instance, "tables_due", _cursor(datetime.now(UTC).isoformat(), totals=LONG_AGO))

    assert not told.run_requests
    assert json.loads(told.cursor or "")["waiting"] == {}


def test_schedules_can_run_from_the_start(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in the environment, exports and upkeep run; not what is another way, or changes an open day."""
    project.write_feed("condition", kind="table", source="FEWER", automation="condition")
    monkeypatch.setenv("KSQL_LAKE_SCHEDULES", "running")
    repository = project.definitions().get_repository_def()

    states = {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs}
    states |= {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    stopped = {name for name, state in states.items() if state == "STOPPED"}

    assert stopped == {"streams_closing", "compaction_open_schedule", "new_sources"}


def _state(name: str, kind: str, status: str) -> InstigatorState:
    return InstigatorState(
        RemoteInstigatorOrigin(REPOSITORY, name),
        InstigatorType[kind],
        InstigatorStatus[status],
        ScheduleInstigatorData("5 * * * *", None) if kind == "SCHEDULE" else None,
    )


def test_an_instance_that_exports_nothing_is_told(project: Project) -> None:
    """A running sensor says so, with the schedules of an earlier release that did it until now."""
    sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")
    scope = Scope(load_settings())
    with dg.instance_for_test() as instance:
        for name in ("streams_hourly", "streams_Asia_Tokyo_at_0_6_every_every_MON", "table_totals_schedule"):
            instance.add_instigator_state(_state(name, "SCHEDULE", "RUNNING"))
        instance.add_instigator_state(_state("streams_close", "SCHEDULE", "STOPPED"))
        instance.add_instigator_state(_state("retention_schedule", "SCHEDULE", "RUNNING"))

        told = sensor(dg.build_sensor_context(instance=instance))

        assert isinstance(told, dg.SkipReason)
        said = str(told.skip_message)
        assert "No export starts by the clock: switch on streams_due and tables_due" in said
        assert said.endswith(
            "The schedules of an earlier release are gone: streams_Asia_Tokyo_at_0_6_every_every_MON, "
            "streams_hourly, table_totals_schedule."
        )
        instance.add_instigator_state(_state("streams_due", "SENSOR", "STOPPED"))
        assert clock_hint(instance, scope)
        instance.add_instigator_state(_state("tables_due", "SENSOR", "RUNNING"))
        assert clock_hint(instance, scope) == ""


def test_without_feeds_the_sensors_are_there(project: Project, instance: dg.DagsterInstance) -> None:
    """The last feed takes no sensor with it, whose state would be asked for when the next one comes."""
    for path in (project.folder / "feeds" / "active").iterdir():
        path.unlink()

    told = _tick(project, instance, "tables_due", _cursor())

    assert "No feed has a schedule." in str(told.skip_reason)
    assert TableFeed.model_fields["schedule"].default is None

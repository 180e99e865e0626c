"""Automation conditions, the alternative to cron schedules for feeds that ask for it."""

# Dagster's own `on_cron` would wait for the assets above, and a ksqlDB source is never materialised.

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.lake import FeedState
from ksql_lake.orchestration.internals import has_ticked
from ksql_lake.orchestration.jobs import run_tags
from ksql_lake.orchestration.scope import Scope

SENSOR = "automation"

_EARLIER = r"streams(_.+)?_(hourly|close)|streams(_.+)?_at_.+|table_.+_schedule"
"""Names of the schedules of earlier releases."""


def cron_of(feed: Feed) -> str:
    """Return the cron expression of a feed."""
    return feed.schedule or DEFAULT_SCHEDULES[feed.kind]


STREAMS_DUE, STREAMS_CLOSING, TABLES_DUE = "streams_due", "streams_closing", "tables_due"
"""The sensors that start exports by the clock; their names do not depend on cron expressions."""


def exported_when(feed: Feed, scope: Scope) -> str:
    """Return when a feed is exported automatically, and which sensor has to be switched on for it."""
    due = STREAMS_DUE if isinstance(feed, StreamFeed) else TABLES_DUE
    sensor = due if feed.automation == "schedule" else SENSOR
    if scope.sensors is not None and sensor not in scope.sensors and feed.automation == "schedule":
        return f"by no sensor of ksql-lake: this project leaves out {scope.named(sensor)}"
    return f"at {cron_of(feed)} {feed.zone.key}, while the sensor {scope.named(sensor)} is switched on"


def automation_condition(feed: Feed) -> dg.AutomationCondition[Any] | None:
    """Return the condition of a feed with `"automation": "condition"`; None for the others."""
    if feed.automation != "condition":
        return None
    zone = feed.zone.key
    tick: dg.AutomationCondition[Any] = dg.AutomationCondition.cron_tick_passed(cron_of(feed), zone)
    due: dg.AutomationCondition[Any] = dg.AutomationCondition.missing()
    if isinstance(feed, StreamFeed):
        due |= dg.AutomationCondition.in_latest_time_window(timedelta(days=1 + feed.lookback_days))
    else:
        # Only the open version can be missing: closed ones are recorded before they are offered.
        tick |= dg.AutomationCondition.newly_missing()
    condition = due & tick.since_last_handled() & ~dg.AutomationCondition.in_progress()
    return condition.with_label(f"due at {cron_of(feed)} {zone}")


def version_is_due(feed: TableFeed, state: FeedState, now: datetime) -> bool:
    """Return whether a table's condition shall request the open version: its cron ticked since the last one.

    The first version is always offered, and requested at the first tick.
    """
    if feed.automation != "condition" or not state.last_export:
        return False
    return has_ticked(cron_of(feed), datetime.fromisoformat(state.last_export), now)


def clock_hint(instance: dg.DagsterInstance, scope: Scope) -> str:
    """Return a note that no export starts by the clock, with the schedules of an earlier release that did it.

    The note is empty if a sensor that starts exports is switched on, or if the project leaves them all out.
    """
    if scope.sensors is not None and not scope.sensors & {STREAMS_DUE, STREAMS_CLOSING, TABLES_DUE, SENSOR}:
        return ""
    if instance.schedule_storage is None:
        return ""  # an instance in memory starts nothing
    states = instance.all_instigator_state()
    running = {state.instigator_name for state in states if state.is_running}
    starting = {scope.named(name) for name in (STREAMS_DUE, STREAMS_CLOSING, TABLES_DUE, SENSOR)}
    known = {state.instigator_name for state in states}
    if running & starting or (scope.clocks_run and not known & starting):
        return ""
    note = (
        f"No export starts by the clock: switch on {scope.named(STREAMS_DUE)} and {scope.named(TABLES_DUE)} "
        "(Automation in Dagster's UI), or set KSQL_LAKE_SCHEDULES=running."
    )
    earlier = sorted(
        state.instigator_name
        for state in states
        if state.is_running and re.fullmatch(_EARLIER, state.instigator_name)
    )
    return note + (f" The schedules of an earlier release are gone: {', '.join(earlier)}." if earlier else "")


def automation_runs(instance: dg.DagsterInstance, scope: Scope) -> bool:
    """Return whether the sensor that evaluates the conditions is switched on."""
    return any(
        state.instigator_type.value == "SENSOR"
        and state.instigator_name == scope.named(SENSOR)
        and state.is_running
        for state in instance.all_instigator_state()
    )


def automation_sensors(feeds: Sequence[Feed], scope: Scope) -> list[dg.SensorDefinition]:
    """Return the sensor that evaluates the conditions; empty if no feed has a condition."""
    feeds = [feed for feed in feeds if feed.automation == "condition"]
    if not feeds:
        return []
    return [
        dg.AutomationConditionSensorDefinition(
            scope.named(SENSOR),
            target=dg.AssetSelection.assets(*scope.keys(feeds)),
            default_status=dg.DefaultSensorStatus.RUNNING
            if scope.clocks_run
            else dg.DefaultSensorStatus.STOPPED,
            run_tags=run_tags("automation"),
            description=f"Exports {', '.join(feed.name for feed in feeds)} by their automation conditions.",
        )
    ]

"""Automation conditions: the alternative to cron schedules for feeds that ask for it.

Dagster then decides partition by partition: at each tick of the feed's cron expression every day that is
missing and the newest ones again for late rows, or a table's open version, which is offered at the tick and
not before: a version that is always missing would keep everything below waiting. Nothing here looks at what is
above a feed: a ksqlDB source is no asset that anybody materialises, and Dagster's own `on_cron` would wait for
it for ever.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from ksql_lake.feeds import Feed, StreamFeed, TableFeed
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.lake import FeedState
from ksql_lake.orchestration.internals import has_ticked
from ksql_lake.orchestration.jobs import run_tags

SENSOR = "automation"


def cron_of(feed: Feed) -> str:
    """Return the cron expression of a feed."""
    return feed.schedule or DEFAULT_SCHEDULES[feed.kind]


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
        # The open version is the one that is missing; closed ones are recorded before they are offered.
        tick |= dg.AutomationCondition.newly_missing()
    condition = due & tick.since_last_handled() & ~dg.AutomationCondition.in_progress()
    return condition.with_label(f"due at {cron_of(feed)} {zone}")


def version_is_due(feed: TableFeed, state: FeedState, now: datetime) -> bool:
    """Whether a table's condition is to ask for the open version: its cron ticked since the last one.

    The first version is offered anyway, and asked for at the first tick.
    """
    if feed.automation != "condition" or not state.last_export:
        return False
    return has_ticked(cron_of(feed), datetime.fromisoformat(state.last_export), now)


def automation_runs(instance: dg.DagsterInstance) -> bool:
    """Whether the sensor that evaluates the conditions was switched on."""
    return any(
        state.instigator_type.value == "SENSOR" and state.instigator_name == SENSOR and state.is_running
        for state in instance.all_instigator_state()
    )


def automation_sensors(feeds: Sequence[Feed]) -> list[dg.SensorDefinition]:
    """Return the sensor that evaluates the conditions; none where no feed has one."""
    names = [feed.name for feed in feeds if feed.automation == "condition"]
    if not names:
        return []
    return [
        dg.AutomationConditionSensorDefinition(
            SENSOR,
            target=dg.AssetSelection.assets(*names),
            default_status=dg.DefaultSensorStatus.STOPPED,
            run_tags=run_tags("automation"),
            description=f"Exports {', '.join(names)} by their automation conditions.",
        )
    ]

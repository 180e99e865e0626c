"""The check `freshness` of feeds with `max_age_hours`: the age of the last export in the lake."""

# It reads the lake, because an export that found nothing is no event in Dagster, and an export from the shell
# may not be one either. A run that exports finds its feed fresh, so a sensor repeats the check; it asks no
# server, and a feed that was never exported gets no result from it.

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from ksql_lake.alerts import Alert, send_alert
from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import ExportResult
from ksql_lake.export.checks import CheckOutcome
from ksql_lake.export.judging import JudgedCheck
from ksql_lake.feeds import Feed
from ksql_lake.lake import FeedLake
from ksql_lake.lake.closing import in_the_future
from ksql_lake.orchestration.internals import of_newest
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings

CHECK = "freshness"

SENSOR_SECONDS = 60

_OLD, _AHEAD = "too old", "dated in the future"
_NEVER = "It was never exported, so it has no age."
_TITLES = {_OLD: "no export for too long", _AHEAD: "the last export is dated in the future"}


def freshness_specs(feed: Feed, scope: Scope) -> list[dg.AssetCheckSpec]:
    """Return the check of a feed with `max_age_hours`; empty for other feeds."""
    hours = feed.checks.max_age_hours
    if hours is None or not scope.wants_check(CHECK):
        return []
    asks = f"The last export is at most {hours:g} hours old."
    return [dg.AssetCheckSpec(CHECK, asset=scope.key(feed), description=asks)]


def fresh(result: ExportResult, lake: FeedLake) -> list[JudgedCheck]:
    """Return the check's result right after an export; empty for a feed without the check.

    Args:
        result: The export; one that had nothing to read leaves its feed as old as it was.
        lake: The feed's lake.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    if result.feed.checks.max_age_hours is None:
        return []
    passed, says = True, "It has just been exported."
    if result.commit is None:
        exported = lake.state().last_export
        passed, says = _judged(result.feed, exported, datetime.now(UTC)) if exported else (True, _NEVER)
    return [JudgedCheck(CheckOutcome(CHECK, passed, says), "error")]


def freshness_sensors(feeds: Sequence[Feed], scope: Scope) -> list[dg.SensorDefinition]:
    """Return the sensor over the feeds with `max_age_hours`; empty if there is no such feed."""
    wanted = feeds if scope.wants_check(CHECK) else ()
    watched = [feed for feed in wanted if feed.checks.max_age_hours is not None]
    return [_sensor(watched, scope)] if watched else []


def _sensor(watched: Sequence[Feed], scope: Scope) -> dg.SensorDefinition:
    @dg.sensor(
        name=scope.named(CHECK),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts when a feed's last export is older than its `max_age_hours`. Looks at the lake and "
        "asks no server.",
    )
    def freshness(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before: dict[str, bool] = json.loads(context.cursor) if context.cursor else {}
        now, known, events = datetime.now(UTC), dict[str, bool](), list[dg.AssetCheckEvaluation]()
        lines, news, failing = list[str](), defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for feed in watched:
            try:
                exported = scope.lake.feed(feed).state().last_export
            except KsqlLakeError as error:
                lines.append(f"{feed.name} cannot be checked: {error}")
                known |= {feed.name: before[feed.name]} if feed.name in before else {}
                continue
            if not exported:
                continue
            event = _evaluation(feed, scope.key(feed), exported, now)
            known[feed.name] = event.passed
            if before.get(feed.name, True) != event.passed:
                events.append(of_newest(event, context.instance))
            if not event.passed:
                what = _AHEAD if in_the_future(exported, now) else _OLD
                failing[what].append(feed.name)
                if before.get(feed.name, True):
                    news[what].append(f"{feed.name}: {event.description}")
        lines += [_alert(what, of_feeds, scope.settings) for what, of_feeds in news.items()]
        calm = "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in failing.items())
        reason = "\n".join(lines) or f"{len(watched)} feeds watched; {calm or 'none is too old'}"
        return dg.SensorResult(skip_reason=reason, cursor=json.dumps(known), asset_events=events)

    return freshness


def _evaluation(feed: Feed, key: dg.AssetKey, exported: str, now: datetime) -> dg.AssetCheckEvaluation:
    passed, says = _judged(feed, exported, now)
    age = now - datetime.fromisoformat(exported)
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=CHECK,
        passed=passed,
        metadata={
            "age_hours": round(age.total_seconds() / 3600, 2),
            "max_age_hours": float(feed.checks.max_age_hours or 0),
        },
        severity=dg.AssetCheckSeverity.ERROR,
        description=says,
        blocking=False,
    )


def _judged(feed: Feed, exported: str, now: datetime) -> tuple[bool, str]:
    """Return whether a feed's last export is young enough, and why."""
    hours = feed.checks.max_age_hours or 0
    # A clock that was ahead would keep a feed fresh until then, even if no export starts any more.
    if in_the_future(exported, now):
        why = "in the future: by a clock that was ahead, so its age is unknown"
        return False, f"the last export was at {exported}, {why}"
    passed = now - datetime.fromisoformat(exported) <= timedelta(hours=hours)
    found = f"{'within' if passed else 'longer ago than'} max_age_hours ({hours:g})"
    return passed, f"the last export was at {exported}, {found}"


def _alert(what: str, of_feeds: Sequence[str], settings: Settings) -> str:
    """Send one alert for all feeds; return its text with failed deliveries, which are not repeated."""
    names = ", ".join(line.partition(":")[0] for line in of_feeds)
    alert = Alert(CHECK, f"ksql-lake: {_TITLES[what]}: {names}", "\n".join(of_feeds), {"feeds": names})
    failed = [each for each in send_alert(alert, settings) if each.problem]
    problems = "".join(f"\nNot delivered by {each.channel}: {each.problem}" for each in failed)
    return f"{alert.title}\n{alert.text}{problems}"

"""A sensor that warns before Kafka deletes rows that were not exported. It asks no server and starts no run."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from ksql_lake.alerts import Alert, send_alert
from ksql_lake.errors import KsqlLakeError
from ksql_lake.export.checks import check_severity, checks_of
from ksql_lake.export.expiry import (
    FATES,
    DayAtRisk,
    days_at_risk,
    fate_ranges,
    kept_retention,
    risk_text,
    safe_text,
)
from ksql_lake.export.topology import Topology
from ksql_lake.feeds import StreamFeed
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.orchestration.asset_checks import severity
from ksql_lake.orchestration.internals import of_newest
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings

SENSOR_SECONDS = 600

Known = dict[str, dict[str, list[list[str]]]]
"""Feed -> risk -> first and last day of each range, as the previous tick recorded it."""


def topic_retention_sensors(
    streams: Sequence[StreamFeed], topology: Topology, scope: Scope
) -> list[dg.SensorDefinition]:
    """Return the sensor over the streams with a known topic retention; empty if there is no such stream.

    Args:
        streams: The enabled streams.
        topology: The server's sources as the lake keeps them.
        scope: Their lake, and the settings of alerts.
    """
    watched = [(feed, kept_retention(feed, topology)) for feed in streams]
    watched = [(feed, found) for feed, found in watched if "topic_retention" in checks_of(feed, found)]
    return [_sensor(watched, scope)] if watched else []


def _sensor(watched: Sequence[tuple[StreamFeed, Retention]], scope: Scope) -> dg.SensorDefinition:
    @dg.sensor(
        name=scope.named("topic_retention"),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Alerts when Kafka is about to delete days that were not exported, or has begun to. Uses "
        "`topic_retention_hours` of the feed or RETENTION_MS of its source; asks no server.",
    )
    def topic_retention(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before: Known = json.loads(context.cursor) if context.cursor else {}
        now, known, lines = datetime.now(UTC), Known(), list[str]()
        events, news = [], dict[str, str]()
        for feed, retention in watched:
            try:
                risks = list(days_at_risk(feed, scope.lake.feed(feed).state(), retention, now=now))
            except KsqlLakeError as error:
                lines.append(f"{feed.name} cannot be checked: {error}")
                known[feed.name] = before.get(feed.name, {})
                continue
            known[feed.name] = _ranges(risks)
            if known[feed.name] != before.get(feed.name) and scope.wants_check("topic_retention"):
                found = _evaluation(scope.key(feed), feed, risks, retention)
                events.append(of_newest(found, context.instance))
            if _worse(risks, before.get(feed.name, {})):
                news[feed.name] = risk_text(feed, risks, retention)
        lines += [_alert(news, scope.settings)] if news else []
        reason = "\n".join(lines) or f"{len(watched)} streams watched; {_summary(known)}"
        return dg.SensorResult(skip_reason=reason, cursor=json.dumps(known), asset_events=events)

    return topic_retention


def _alert(news: dict[str, str], settings: Settings) -> str:
    """Send one alert for all feeds; return its text with failed deliveries, which are not repeated."""
    title = f"ksql-lake: Kafka deletes days that were not exported: {', '.join(news)}"
    text = "\n\n".join(f"{name}\n{risk}" for name, risk in news.items())
    alert = Alert("topic_retention", title, text, {"feeds": ", ".join(news)})
    failed = [each for each in send_alert(alert, settings) if each.problem]
    problems = "".join(f"\nNot delivered by {each.channel}: {each.problem}" for each in failed)
    return f"{title}\n{text}{problems}"


def _evaluation(
    key: dg.AssetKey, feed: StreamFeed, risks: list[DayAtRisk], retention: Retention
) -> dg.AssetCheckEvaluation:
    meaning = check_severity(feed, "topic_retention")
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name="topic_retention",
        passed=not risks,
        metadata={
            fate: ", ".join(map(str, fate_ranges(risks, fate))) for fate in FATES if fate_ranges(risks, fate)
        },
        severity=severity(meaning),
        description=risk_text(feed, risks, retention) or safe_text(retention),
    )


def _ranges(risks: list[DayAtRisk]) -> dict[str, list[list[str]]]:
    return {
        fate: [[str(days.first), str(days.last)] for days in fate_ranges(risks, fate)]
        for fate in FATES
        if fate_ranges(risks, fate)
    }


def _worse(risks: list[DayAtRisk], before: dict[str, list[list[str]]]) -> bool:
    """Return whether a day is newly at risk or at higher risk than before."""
    for risk in risks:
        as_bad = FATES[: FATES.index(risk.fate) + 1]
        ranges = [days for fate in as_bad for days in before.get(fate, [])]
        if not any(date.fromisoformat(first) <= risk.day <= date.fromisoformat(last) for first, last in ranges):
            return True
    return False


def _summary(known: dict[str, Any]) -> str:
    at_risk = sorted(name for name, fates in known.items() if fates)
    return f"still at risk: {', '.join(at_risk)}" if at_risk else "Kafka is about to delete no unread day"

"""A feed's checks in Dagster's terms: specs on the asset, results that ride on its materialisation."""

from collections.abc import Iterator

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.checks import check_export, checks_of
from ksql_lake.feeds import Feed
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import Lake
from ksql_lake.orchestration.scope import Scope


def check_specs(feed: Feed, retention: Retention | None, scope: Scope) -> list[dg.AssetCheckSpec]:
    """Return the checks of a feed's asset; one that blocks stops what is below, the rows have landed."""
    return [
        dg.AssetCheckSpec(
            name, asset=scope.key(feed), description=check.asks, blocking=check.severity == "block"
        )
        for name, check in checks_of(feed, retention).items()
        if scope.wants_check(name)
    ]


def check_results(
    result: ExportResult, lake: Lake, retention: Retention | None, scope: Scope
) -> Iterator[dg.AssetCheckResult]:
    """Yield what the checks found, with the severity that the feed gives each."""
    asked = checks_of(result.feed, retention)
    for outcome in check_export(result, lake.feed(result.feed), retention):
        if not scope.wants_check(outcome.name):
            continue
        yield dg.AssetCheckResult(
            check_name=outcome.name,
            passed=outcome.passed,
            severity=severity(asked[outcome.name].severity),
            description=outcome.says,
            metadata={"partitions": result.covered},
        )


def severity(asked: Severity) -> dg.AssetCheckSeverity:
    """Return Dagster's word for what a failure means."""
    return dg.AssetCheckSeverity.WARN if asked == "warn" else dg.AssetCheckSeverity.ERROR

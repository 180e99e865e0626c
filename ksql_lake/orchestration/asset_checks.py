"""A feed's checks in Dagster's terms: specs on the asset, results that ride on its materialisation."""

from collections.abc import Iterator

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.checks import checks_of
from ksql_lake.export.judging import judge_export
from ksql_lake.feeds import Feed
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import Lake


def check_specs(feed: Feed, retention: Retention | None) -> list[dg.AssetCheckSpec]:
    """Return the checks of a feed's asset; one that blocks stops what is below, the rows have landed."""
    return [
        dg.AssetCheckSpec(name, asset=feed.name, description=check.asks, blocking=check.severity == "block")
        for name, check in checks_of(feed, retention).items()
    ]


def check_results(
    result: ExportResult, lake: Lake, retention: Retention | None
) -> Iterator[dg.AssetCheckResult]:
    """Yield what the checks found, with the severity that the feed gives each; the lake notes it too."""
    for judged in judge_export(result, lake.feed(result.feed), retention):
        yield dg.AssetCheckResult(
            check_name=judged.outcome.name,
            passed=judged.outcome.passed,
            severity=severity(judged.severity),
            description=judged.outcome.says,
            metadata={"partitions": result.covered},
        )


def severity(asked: Severity) -> dg.AssetCheckSeverity:
    """Return Dagster's word for what a failure means."""
    return dg.AssetCheckSeverity.WARN if asked == "warn" else dg.AssetCheckSeverity.ERROR

"""A feed's checks in Dagster's terms: specs on the asset, results that ride on its materialisation."""

from collections.abc import Iterator

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.checks import check_export, check_names
from ksql_lake.feeds import Feed
from ksql_lake.lake import Lake


def check_specs(feed: Feed) -> list[dg.AssetCheckSpec]:
    """Give the checks of a feed's asset; none blocks anything, because the rows have landed by then."""
    return [
        dg.AssetCheckSpec(name, asset=feed.name, description=asks) for name, asks in check_names(feed).items()
    ]


def check_results(result: ExportResult, lake: Lake) -> Iterator[dg.AssetCheckResult]:
    """Give what the checks found; ERROR where data is wrong, WARN where it is unusual."""
    covered = [part.partition for part in result.partitions]
    facts = {"partitions": f"{covered[0]} to {covered[-1]}" if len(covered) > 1 else "".join(covered)}
    for outcome in check_export(result, lake.feed(result.feed)):
        yield dg.AssetCheckResult(
            check_name=outcome.name,
            passed=outcome.passed,
            severity=dg.AssetCheckSeverity.ERROR if outcome.wrong else dg.AssetCheckSeverity.WARN,
            description=outcome.says,
            metadata=facts,
        )

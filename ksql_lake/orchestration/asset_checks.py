"""A feed's checks in Dagster: specs on the asset, a result per day or version, and one for all partitions."""

# Dagster shows the newest result as the state of a check, whatever its partition. So the result for all
# partitions is recorded last, and it fails while the newest result of any partition fails. A partition gets a
# result only when something happened to it.

from collections.abc import Callable, Collection, Iterator

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.checks import checks_of
from ksql_lake.export.judging import JudgedCheck
from ksql_lake.feeds import Feed
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.orchestration.scope import Scope

AT_MOST = 31
"""Most partitions of one export that get their own result per check: failing ones first, then the newest."""

FAILED_HERE = "failed_in_this_export"
"""The metadata key of a result for all partitions: how many partitions of this export fail."""

_NAMED = 10
"""Most failing partitions that a text names."""


def check_specs(feed: Feed, retention: Retention | None, scope: Scope) -> list[dg.AssetCheckSpec]:
    """Return the checks of a feed's asset; a blocking one stops downstream assets, not the landing of rows."""
    return [
        dg.AssetCheckSpec(
            name, asset=scope.key(feed), description=check.asks, blocking=check.severity == "block"
        )
        for name, check in checks_of(feed, retention).items()
        if scope.wants_check(name)
    ]


def check_results(
    result: ExportResult,
    checks: Collection[JudgedCheck],
    key: dg.AssetKey,
    *,
    news: Collection[str],
    log: Callable[[dg.AssetCheckEvaluation], None],
    report: Callable[[dg.AssetCheckEvaluation], None],
) -> Iterator[dg.AssetCheckResult]:
    """Yield one result per check of an export, and record the results of its partitions.

    Args:
        result: The export.
        checks: What its checks found.
        key: The key of the feed's asset.
        news: The partitions with news; see `events.news`.
        log: Records a result in the run.
        report: Records a result without a run, after those of the run.
    """
    last = []
    for check in checks:
        whole, days = summary(check, result.covered, key), list(day_evaluations(check, key, news))
        for day in days:
            log(day)
        # A failure that an earlier export left does not block assets that read this one.
        mild = bool(whole.blocking and check.outcome.passed and not whole.passed)
        if days or mild:
            last.append(whole)
        yield dg.AssetCheckResult(
            check_name=whole.check_name,
            passed=whole.passed,
            severity=dg.AssetCheckSeverity.WARN if mild else whole.severity,
            description=whole.description,
            metadata=dict(whole.metadata),
        )
    for each in last:
        report(each)


def day_evaluations(
    check: JudgedCheck, key: dg.AssetKey, news: Collection[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the results of partitions with news, and of those that fail or failed before, oldest first."""
    outcome = check.outcome
    wanted = {*news, *check.recovered}.difference(outcome.failed)
    calm = [partition for partition in outcome.judged if partition in wanted]
    failed = [partition for partition in outcome.judged if partition in outcome.failed][-AT_MOST:]
    recorded = {*failed, *calm[len(calm) - max(AT_MOST - len(failed), 0) :]}
    for partition in outcome.judged:
        if partition in recorded:
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=outcome.name,
                passed=partition not in outcome.failed,
                partition=partition,
                metadata=dict(outcome.figures.get(partition, {})),
                severity=severity(check.severity),
                description=outcome.failed.get(partition, f"{partition}: it holds."),
                blocking=check.severity == "block",
            )


def summary(check: JudgedCheck, covered: str, key: dg.AssetKey) -> dg.AssetCheckEvaluation:
    """Return the result of a check for all partitions; it fails while any partition's newest result fails."""
    outcome = check.outcome
    others = sorted(check.failing.keys() - outcome.failed.keys(), key=_age)
    lines = [outcome.says]
    if others:
        named = ", ".join(others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        lines.append(f"Failing since an earlier export, until they are read again and pass: {named}{more}")
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=outcome.name,
        passed=outcome.passed and not others,
        metadata={
            "partitions": covered,
            # The newest partition's numbers are repeated, because a plot has a gap where a number is missing.
            **(outcome.figures.get(outcome.judged[-1], {}) if outcome.judged else {}),
            "failing_partitions": len(others) + len(outcome.failed),
            FAILED_HERE: len(outcome.failed) or int(not outcome.passed),
        },
        severity=severity(check.severity),
        description="\n".join(lines),
        blocking=check.severity == "block",
    )


def found_here(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Return whether a result for all partitions fails because of its own export, not only of earlier ones."""
    failed = evaluation.metadata.get(FAILED_HERE)
    return isinstance(failed, dg.IntMetadataValue) and bool(failed.value)


def severity(asked: Severity) -> dg.AssetCheckSeverity:
    """Return Dagster's severity for a feed's severity."""
    return dg.AssetCheckSeverity.WARN if asked == "warn" else dg.AssetCheckSeverity.ERROR


def _age(partition: str) -> tuple[int, str]:
    return len(partition), partition

"""A feed's checks in Dagster's terms: specs on the asset, a result per day or version, and one for all of them.

Dagster takes the newest result of a check for how the check is, whatever partition it is about. So the result
for all of them comes last, and it fails while the newest result of any partition does. It refuses to repeat
itself: a partition gets a result when something happened to it, not whenever it is looked at.
"""

from collections.abc import Callable, Collection, Iterator

import dagster as dg

from ksql_lake.export import ExportResult
from ksql_lake.export.checks import checks_of
from ksql_lake.export.judging import JudgedCheck
from ksql_lake.feeds import Feed
from ksql_lake.feeds.model import Severity
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.orchestration.scope import Scope

AT_MOST = 100
"""How many partitions of one export get a result of their own per check: those that fail, then the newest."""

FAILED_HERE = "failed_in_this_export"
"""The number in a result for all partitions that says how many of those of this export fail."""

_NAMED = 10
"""How many failing partitions a text names."""


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
    result: ExportResult,
    checks: Collection[JudgedCheck],
    key: dg.AssetKey,
    *,
    news: Collection[str],
    log: Callable[[dg.AssetCheckEvaluation], None],
    report: Callable[[dg.AssetCheckEvaluation], None],
) -> Iterator[dg.AssetCheckResult]:
    """Yield what the checks of an export found, one result each, and record those of its partitions.

    Args:
        result: The export.
        checks: What its checks found.
        key: Of the feed's asset.
        news: The partitions to which something happened.
        log: Records a result in the run.
        report: Records a result without a run, after those of the run.
    """
    last = []
    for check in checks:
        whole, days = summary(check, result.covered, key), list(day_evaluations(check, key, news))
        for day in days:
            log(day)
        # What another export left failing stops nothing that is built on this one.
        mild = whole.blocking and check.outcome.passed
        if days or (mild and not whole.passed):
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
    """Yield the results of partitions: those with news, and those that fail or did before, oldest first."""
    outcome = check.outcome
    wanted = {*news, *check.recovered}.difference(outcome.failed)
    calm = [partition for partition in outcome.judged if partition in wanted]
    failed = [partition for partition in outcome.judged if partition in outcome.failed][-AT_MOST:]
    told = {*failed, *calm[len(calm) - max(AT_MOST - len(failed), 0) :]}
    for partition in outcome.judged:
        if partition in told:
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
    """Return the result of a check for all partitions; it fails while the newest one of any of them does."""
    outcome = check.outcome
    others = sorted(check.failing.keys() - outcome.failed.keys(), key=_age)
    said = [outcome.says]
    if others:
        named = ", ".join(others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        said.append(f"Failing since an earlier export, until they are read again and pass: {named}{more}")
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=outcome.name,
        passed=outcome.passed and not others,
        metadata={
            "partitions": covered,
            # Those of the newest one again, because a plot has a gap where a number is missing.
            **(outcome.figures.get(outcome.judged[-1], {}) if outcome.judged else {}),
            "failing_partitions": len(others) + len(outcome.failed),
            FAILED_HERE: len(outcome.failed) or int(not outcome.passed),
        },
        severity=severity(check.severity),
        description="\n".join(said),
        blocking=check.severity == "block",
    )


def found_here(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether a result for all partitions fails by what its own export read, not only by earlier ones."""
    failed = evaluation.metadata.get(FAILED_HERE)
    return isinstance(failed, dg.IntMetadataValue) and bool(failed.value)


def severity(asked: Severity) -> dg.AssetCheckSeverity:
    """Return Dagster's word for what a failure means."""
    return dg.AssetCheckSeverity.WARN if asked == "warn" else dg.AssetCheckSeverity.ERROR


def _age(partition: str) -> tuple[int, str]:
    return len(partition), partition

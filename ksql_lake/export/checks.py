"""Judge a feed's checks over all rows of the partitions that an export covered."""

# All rows count, not only the new ones: a day read again without new rows must not hide its faults.
# A check never undoes an export.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil, floor, sqrt
from statistics import median

from ksql_lake.export.column_checks import ColumnFindings, Figures, column_findings
from ksql_lake.export.expiry import days_at_risk, days_read_late, late_text, risk_text, safe_text
from ksql_lake.export.facts import is_closed
from ksql_lake.export.result import ExportResult, PartitionResult
from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.feeds.promises import SEVERITIES, WEEKS, CheckAsked, check_severity, promises
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.closing import questioned_days, read_to_end
from ksql_lake.lake.commit.state import PartitionState
from ksql_lake.schema import Schema, parse_schema

ENOUGH = 4
"""How many earlier days of the same weekday a day's volume is compared with, at least."""

SPREADS = 4.0
"""How many spreads from the median a day's volume is an anomaly."""

__all__ = [
    "ENOUGH",
    "SEVERITIES",
    "SPREADS",
    "WEEKS",
    "CheckAsked",
    "CheckOutcome",
    "check_export",
    "check_severity",
    "checks_of",
    "judge_topic_retention",
]

_SHOWN = 5
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What one check found.

    Attributes:
        name: The check.
        passed: Whether it holds.
        says: Why, in words for people; never empty.
        judged: The partitions it judged; empty for a check of the feed as a whole.
        failed: Partition -> why it does not hold there, for those of them where it does not.
        figures: Partition -> the numbers it was judged by, by their names.
    """

    name: str
    passed: bool
    says: str
    judged: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)


def checks_of(feed: Feed, retention: Retention | None = None) -> dict[str, CheckAsked]:
    """Return the checks that every export of a feed evaluates, in order, without those that are switched off.

    Args:
        feed: The feed.
        retention: How long the topic keeps records, if that is to be checked.
    """
    return promises(feed, retention.text if retention is not None and retention.hours is not None else "")


def check_export(
    result: ExportResult, lake: FeedLake, retention: Retention | None = None
) -> list[CheckOutcome]:
    """Judge the partitions an export covered; one outcome per name of `checks_of`, in that order.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    state, names = lake.state(), checks_of(result.feed, retention)
    findings = column_findings(result, lake, state, names)
    outcomes = {outcome.name: outcome for outcome in _outcomes(result, lake, state, findings)}
    if isinstance(result.feed, StreamFeed) and retention is not None:
        outcomes["topic_retention"] = judge_topic_retention(result, result.feed, state, retention)
    return [outcomes[name] for name in names]


def judge_topic_retention(
    result: ExportResult, feed: StreamFeed, state: FeedState, retention: Retention
) -> CheckOutcome:
    """Judge whether Kafka has deleted, or will soon delete, days before they were read to their end.

    Days that this very export read too late count once: no later export can bring back what Kafka deleted.
    """
    now = result.started_at + timedelta(seconds=result.seconds)
    risks = list(days_at_risk(feed, state, retention, now=now))
    read = [date.fromisoformat(part.partition) for part in result.partitions]
    late = days_read_late(feed, result.plan.basis, read, retention, now=result.started_at)
    found = filter(None, [late_text(feed, late, retention), risk_text(feed, risks, retention)])
    says = "\n".join(found) or safe_text(retention)
    return CheckOutcome("topic_retention", not risks and not late, says)


def _outcomes(
    result: ExportResult, lake: FeedLake, state: FeedState, findings: ColumnFindings
) -> Iterator[CheckOutcome]:
    feed = result.feed
    closed = [part for part in result.partitions if is_closed(result, part.partition)]
    read = tuple(part.partition for part in result.partitions)
    yield _min_records(feed, closed)
    rows = f"{findings.rows:,} rows"
    yield _found("not_null", read, findings.nulls, f"No NULL among {rows}.", findings.of("null_rows"))
    yield _found("unique", read, findings.doubles, f"All different among {rows}.", findings.of("repeated_rows"))
    yield _found(
        "day_boundaries", read, findings.strays, f"{rows} lie in their days.", findings.of("stray_rows")
    )
    if isinstance(feed, StreamFeed):
        yield _volume(feed, closed, state)
        yield _certificates(lake, closed, state)
    else:
        yield _shrinkage(feed, result.partitions, state)
    yield _schema(result, state)
    yield _files(lake, state)


def _found(
    name: str, judged: Sequence[str], failed: Mapping[str, Sequence[str]], calm: str, figures: Figures
) -> CheckOutcome:
    """Build an outcome from the problems found in each partition."""
    says = _listed(problem for problems in failed.values() for problem in problems)
    failed_texts = {partition: _listed(problems) for partition, problems in failed.items()}
    return CheckOutcome(name, not failed_texts, says or calm, tuple(judged), failed_texts, figures)


def _min_records(feed: Feed, closed: Sequence[PartitionResult]) -> CheckOutcome:
    fewest = feed.checks.min_records or 0
    few = {part.partition: f"{part.partition} has {part.records:,}" for part in closed if part.records < fewest}
    says = f"{len(closed)} partitions have enough."
    if few:
        says = f"Fewer than {fewest:,} records: {_listed(few.values())}"
    few_texts = {partition: f"Fewer than {fewest:,} records: {text}" for partition, text in few.items()}
    figures = {part.partition: {"records": part.records} for part in closed}
    return CheckOutcome("min_records", not few, says, tuple(figures), few_texts, figures)


def _volume(feed: StreamFeed, closed: Sequence[PartitionResult], state: FeedState) -> CheckOutcome:
    odd, judged = dict[str, str](), dict[str, dict[str, float]]()
    for part in closed:
        day = date.fromisoformat(part.partition)
        before = [count for count in _weekdays_before(feed, day, state) if count is not None]
        if len(before) < ENOUGH:
            continue
        usual, spread = _usual(before)
        judged[part.partition] = {"records": part.records, "usual_records": usual}
        room = SPREADS * spread
        if abs(part.records - usual) > room:
            odd[part.partition] = (
                f"{day} has {part.records:,} records, {_compared(part.records, usual)}: the {len(before)} "
                f"{day:%A}s before had {_counts(before)} (median {usual:,.0f}), so "
                f"{max(ceil(usual - room), 0):,} to {floor(usual + room):,} would be usual"
            )
    if odd:
        return CheckOutcome("volume", False, _listed(odd.values()), tuple(judged), odd, judged)
    if judged:
        says = f"{len(judged)} of {len(closed)} days judged: all as usual."
        return CheckOutcome("volume", passed=True, says=says, judged=tuple(judged), figures=judged)
    return CheckOutcome(
        "volume", passed=True, says=f"Not judged: no day has {ENOUGH} exported days of its weekday before it."
    )


def _compared(count: int, usual: float) -> str:
    if not count:
        return "none at all"
    if count > 2 * usual:
        return f"{count / usual:,.1f} times as many as usual" if usual else "where there usually are none"
    return f"{abs(count - usual) / usual:.0%} {'fewer' if count < usual else 'more'} than usual"


def _counts(counts: Sequence[int]) -> str:
    """The counts behind a judgement, smallest first."""
    texts = [f"{count:,}" for count in sorted(counts)]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _weekdays_before(feed: StreamFeed, day: date, state: FeedState) -> Iterator[int | None]:
    """The counts of earlier days of the same weekday; None where the day was not read to its end."""
    now = datetime.now(UTC)
    for week in range(1, WEEKS + 1):
        earlier = day - timedelta(weeks=week)
        key = earlier.isoformat()
        if not read_to_end(state.looked, earlier, feed.zone, now=now):
            yield None
        else:
            yield state.partitions[key].records if key in state.partitions else 0


def _usual(counts: Sequence[int]) -> tuple[float, float]:
    """Return the median of counts and how far they stray from it, at least by chance or a twentieth of it."""
    middle = median(counts)
    deviation = _MAD_TO_SIGMA * median(abs(count - middle) for count in counts)
    return middle, max(deviation, sqrt(middle), middle / 20, 1.0)


def _certificates(lake: FeedLake, closed: Sequence[PartitionResult], state: FeedState) -> CheckOutcome:
    days = [part.partition for part in closed if part.partition in state.certified]
    certified = {
        each.partition: each
        for commit in {state.certified[day] for day in days}
        for each in lake.log.manifest(commit).certificates
        if state.certified.get(each.partition) == commit
    }
    broken, figures = dict[str, str](), dict[str, dict[str, int]]()
    for day in days:
        held, proof = state.partitions.get(day, PartitionState()), certified[day]
        figures[day] = {"records": held.records, "certified_records": proof.rows}
        if (held.records, held.checksum) != (proof.rows, proof.checksum):
            broken[day] = f"{day} holds {held.records:,} records, not the {proof.rows:,} certified"
    for questioned in questioned_days(state.looked, now=datetime.now(UTC)):
        day, at = str(questioned), state.looked[str(questioned)]
        ahead = f"{day} was read at {at}, which is in the future: by a clock that is ahead"
        broken[day] = f"{broken[day]}\n{ahead}" if day in broken else ahead
    calm = f"{len(days)} of {len(closed)} closed days hold what was certified."
    judged = tuple(dict.fromkeys([*days, *broken]))
    return CheckOutcome("certificate", not broken, _listed(broken.values()) or calm, judged, broken, figures)


def _shrinkage(feed: TableFeed, parts: Sequence[PartitionResult], state: FeedState) -> CheckOutcome:
    keys = state.partition_keys()
    for part in parts:
        earlier = keys[: keys.index(part.partition)] if part.partition in keys else []
        if not earlier:
            continue
        before = state.partitions[earlier[-1]].records
        change = f"{part.partition} has {part.records:,} records, {earlier[-1]} has {before:,}."
        kept = part.records >= before * (1 - feed.max_shrinkage)
        failed = {} if kept else {part.partition: change}
        figures = {part.partition: {"records": part.records, "records_before": before}}
        return CheckOutcome("shrinkage", kept, change, (part.partition,), failed, figures)
    return CheckOutcome("shrinkage", passed=True, says="There is no earlier version to compare with.")


def _schema(result: ExportResult, state: FeedState) -> CheckOutcome:
    texts = _schemas(state, result)
    if len(texts) < 2:
        return CheckOutcome("schema_unchanged", passed=True, says="There is no earlier export to compare with.")
    before, now = map(parse_schema, texts)
    changes = list(_changes(before, now))
    return CheckOutcome("schema_unchanged", not changes, _listed(changes) or f"{len(now)} columns as before.")


def _schemas(state: FeedState, result: ExportResult) -> list[str]:
    """Return the columns before an export and those it wrote; fewer than two if there was no export before."""
    if isinstance(result.feed, TableFeed):
        return [state.partitions[key].schema for key in state.partition_keys()[-2:]]
    up_to = [text for commit, text in state.shapes if commit <= (result.commit or state.sequence)]
    brought = any(commit == result.commit for commit, _ in state.shapes)
    # An export that brought no other columns wrote those of the export before it.
    return up_to[-2:] if brought else up_to[-1:] * 2


def _changes(before: Schema, now: Schema) -> Iterator[str]:
    old = {column.name: column.type.text for column in before}
    new = {column.name: column.type.text for column in now}
    yield from (f"{name} {kind} is new" for name, kind in new.items() if name not in old)
    yield from (f"{name} {kind} is gone" for name, kind in old.items() if name not in new)
    for name, kind in new.items():
        if old.get(name, kind) != kind:
            yield f"{name} was {old[name]} and is {kind}"


def _files(lake: FeedLake, state: FeedState) -> CheckOutcome:
    problems, files = [], {lake.layout.data(file.path): file for file in state.files()}
    sizes = lake.storage.sizes(lake.layout.dataset, files)
    for key, file in files.items():
        size = sizes.get(key)
        if size is None:
            problems.append(f"{file.path} is missing")
        elif size != file.bytes:
            problems.append(f"{file.path} has {size:,} bytes instead of {file.bytes:,}")
    says = f"{_listed(problems)}\nWhat to do: ksql-lake doctor" if problems else ""
    return CheckOutcome("files_match", not problems, says or f"{len(files)} files, all as committed.")


def _listed(problems: Iterable[str]) -> str:
    """Return problems as one text, the first few of them in full."""
    found = list(problems)
    more = f"\n... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "\n".join(found[:_SHOWN]) + more

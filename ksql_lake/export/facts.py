"""The facts of an export, per partition, as plain names and values for records and Dagster's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.guards import shrunk_text
from ksql_lake.export.result import ExportResult, PartitionResult
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.closing import Clock, has_ended, read_to_end
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.day_zone import with_its_zone
from ksql_lake.lake.layout import partition_folder
from ksql_lake.quantities import count_text, size_text
from ksql_lake.schema import Schema, arrow_type

LISTED = 5
"""How many days with late rows a summary lists."""

ROWS = "partition_rows"
"""The name of the rows a partition holds. Dagster's own name for it is so long that it overflows its pages."""

Facts = dict[str, int | float | str]


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """What is recorded of one partition.

    Attributes:
        partition: `2025-01-15` or `v4`.
        closed: Whether it had ended when it was read; only the running day has not.
        facts: Name -> count, seconds or text. Numbers are plotted, so the number of a commit is a text.
        newest: Whether it is the last one, which also carries the facts of the whole feed.
    """

    partition: str
    closed: bool
    facts: Facts
    newest: bool = False


@dataclass(frozen=True, slots=True)
class ColumnRecord:
    """One column: its name in the lake, the Arrow type it is stored as, and the type ksqlDB declares."""

    name: str
    type: str
    declared: str


def partition_facts(result: ExportResult, partition: str, *, newest: bool = True, held: int = 0) -> Facts:
    """Return the facts of one partition.

    Args:
        result: The export.
        partition: `2025-01-15` or `v4`.
        newest: Whether to add the facts of the whole feed and of the query.
        held: Rows of the partition if the export had no reason to read it: more than 0 if the feed's start was
            moved behind it.
    """
    whole = _feed_facts(result) if newest and result.commit is not None else {}
    part = next((part for part in result.partitions if part.partition == partition), None)
    if part is None:
        feed, note = result.feed, result.plan.reason
        if isinstance(feed, StreamFeed) and partition < feed.start_date.isoformat():
            note = _before_start(feed)
        return {ROWS: held, "read_rows": 0, "new_rows": 0, "note": note, **whole}
    if partition in result.plan.already:
        return {**_facts(result, part), "note": result.plan.reason, **whole}
    return {**_facts(result, part), **whole}


def partition_records(result: ExportResult) -> Iterator[PartitionRecord]:
    """Yield what is recorded of an export that was started without naming partitions, newest last.

    Days without rows are recorded too: a day that is left out would look as if it were not yet read.
    """
    keys = [part.partition for part in result.partitions]
    # The running day is no partition yet, so the one before it carries the feed's facts too.
    whole = {*keys[-1:], *[key for key in keys if is_closed(result, key)][-1:]}
    for key in keys:
        facts = partition_facts(result, key, newest=key in whole)
        yield PartitionRecord(key, is_closed(result, key), facts, key in whole)


def early_records(feed: StreamFeed, since: date) -> Iterator[PartitionRecord]:
    """Yield what is recorded of days before a stream's own start, partitions because of another stream's."""
    facts: Facts = {ROWS: 0, "note": _before_start(feed)}
    day = since
    while day < feed.start_date:
        yield PartitionRecord(day.isoformat(), closed=True, facts=facts)
        day += timedelta(days=1)


def _before_start(feed: StreamFeed) -> str:
    return f"before start_date {feed.start_date}, so nothing is read"


def lake_records(lake: FeedLake) -> Iterator[PartitionRecord]:
    """Yield what is worth recording of all that a lake holds: versions, and days that were read to their end.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    state = lake.state()
    keys = _closed_days(lake.feed, state) if isinstance(lake.feed, StreamFeed) else state.partition_keys()
    for key in keys:
        part = state.partitions.get(key)
        facts: Facts = {
            ROWS: part.records if part else 0,
            "dagster/uri": lake.storage.uri(lake.layout.data(partition_folder(lake.layout.kind, key))),
            "bytes": part.bytes if part else 0,
            "committed_at": (part.committed_at if part else "") or state.looked.get(key, ""),
            "note": "recorded from the lake's metadata, not by an export",
        }
        yield PartitionRecord(key, closed=True, facts=facts, newest=key == keys[-1])


def whole_facts(state: FeedState) -> Facts:
    """Return rows and size of a whole feed, as readers see it."""
    held = state.readable()
    return _whole(sum(part.records for part in held), sum(part.bytes for part in held))


def lake_columns(lake: FeedLake) -> tuple[ColumnRecord, ...]:
    """Return the columns a lake has; none before the first rows."""
    return _column_records(lake.state().columns)


def is_closed(result: ExportResult, partition: str) -> bool:
    """Return whether a partition had ended when it was read; a version always has."""
    if not isinstance(result.feed, StreamFeed):
        return True
    read_at = result.read_at or result.started_at
    return result.clock != "disputed" and has_ended(date.fromisoformat(partition), result.feed.zone, read_at)


def clock_text(clock: Clock) -> str:
    """Return whose clock decides which days had ended, as a phrase; empty where nothing was noted."""
    match clock:
        case "server":
            return "days were closed by the server's clock"
        case "proxy":
            return "days were closed by the clock of a proxy before the server"
        case "client":
            return "days were closed by the client clock: the server's could not be asked"
        case "disputed":
            return "no day was closed: our clock and the server's differ by more than an hour"
        case _:
            return ""


def column_records(result: ExportResult) -> tuple[ColumnRecord, ...]:
    """Return the columns of the rows that were read; none when nothing was read."""
    return _column_records(result.schema)


def beginning(plan: ExportPlan, server: str) -> str:
    """Return one line on what an export is about to read, and from where."""
    if plan.days is not None:
        what = f"{plan.days} ({count_text(len(plan.days), 'day')}; {plan.reason})"
    elif plan.version is not None:
        what = f"version v{plan.version} ({plan.reason})"
    else:
        return f"{plan.feed.name}: nothing to read: {plan.reason}"
    return f"{plan.feed.name}: reading {what} from {plan.feed.source} at {server}"


def summary(result: ExportResult) -> str:
    """Return a few lines on what an export did; without the query, which is logged when it is sent."""
    if result.commit is None:
        return f"{result.feed.name}: nothing to read: {result.plan.reason}"
    where = f"version {result.partitions[0].partition}" if result.partitions else "no version"
    if result.plan.days is not None:
        where = str(result.plan.days)
    dropped = f"{result.dropped:,} dropped (a later row has their key), " if result.dropped else ""
    counts = f"{result.new:,} new, {result.already_there:,} already there, {dropped}{result.late:,} late"
    lines = [
        f"{result.feed.name}, {where}: {count_text(result.read, 'row')} read, {counts}",
        f"{rate(result.read, result.bytes_read, result.seconds)}; commit {result.commit}"
        + (f", read {result.attempts} times" if result.attempts > 1 else ""),
        f"the lake now shows {count_text(result.held_records, 'row')}, {size_text(result.held_bytes)}",
    ]
    if result.evidence is not None:
        lines.append(f"{result.evidence.level}: {result.evidence.text}")
        lines += [f"refused by the server: {caveat}" for caveat in result.evidence.caveats]
    if result.fell_back:
        lines.append(f"read by pull query this time instead of from its marks: {result.fell_back}")
    if result.shrunk:
        lines.append(f"the version has {shrunk_text(result.shrunk)} against the one before, read twice")
    if result.clock in ("client", "disputed"):
        lines.append(clock_text(result.clock))
    if result.replaced_texts:
        lines.append(f"{count_text(result.replaced_texts, 'text')} held half a character, now U+FFFD")
    if result.late:
        lines.append(f"late rows: {_listed(result)}")
    if result.removed:
        lines.append(f"retention removed {', '.join(result.removed)}")
    return "\n".join(lines)


def rate(rows: int, size: int, seconds: float) -> str:
    """Return how long something took and how fast it was."""
    speed = f", {rows / seconds:,.0f} rows/s" if seconds and rows else ""
    return f"{seconds:.1f} s{speed}, {size_text(size)} received"


def _listed(result: ExportResult) -> str:
    late = [f"{part.partition} {part.late:,}" for part in result.partitions if part.late]
    more = f" and {len(late) - LISTED} days more" if len(late) > LISTED else ""
    return ", ".join(late[-LISTED:]) + more


def _column_records(schema: Schema | None) -> tuple[ColumnRecord, ...]:
    return tuple(
        ColumnRecord(column.name, str(arrow_type(column.type)), column.type.text) for column in schema or ()
    )


def _closed_days(feed: StreamFeed, state: FeedState) -> list[str]:
    now, zone = datetime.now(UTC), with_its_zone(feed, state).zone
    return [
        key for key in sorted(state.looked) if read_to_end(state.looked, date.fromisoformat(key), zone, now=now)
    ]


def _feed_facts(result: ExportResult) -> Facts:
    caught_up: Facts = {"caught_up": result.caught_up} if result.caught_up else {}
    return {
        **_whole(result.held_records, result.held_bytes),
        "query": result.statement,
        **caught_up,
        **_evidence_facts(result.evidence),
    }


def _evidence_facts(evidence: Evidence | None) -> Facts:
    if evidence is None:
        return {}
    facts: Facts = {"evidence": evidence.level, "evidence_text": evidence.text, "isolation": evidence.isolation}
    if evidence.caveats:
        facts["refused_by_the_server"] = "\n".join(evidence.caveats)
    return facts


def _whole(records: int, size: int) -> Facts:
    # Dagster shows facts with these two names at the top of the asset's page.
    return {"dagster/row_count": records, "dagster/size_bytes": size}


def _facts(result: ExportResult, part: PartitionResult) -> Facts:
    facts: Facts = {
        ROWS: part.records,
        "dagster/uri": part.path,
        "read_rows": part.read,
        "new_rows": part.new,
        "already_there_rows": part.already_there,
        "late_rows": part.late,
        "bytes": part.bytes,
        "export_seconds": round(result.seconds, 3),
    }
    if result.commit is not None:
        facts["commit"] = str(result.commit)
    if part.dropped:
        facts["dropped_rows"] = part.dropped
    if result.shrunk:
        facts["shrunk"] = shrunk_text(result.shrunk)
    if result.clock:
        facts["clock"] = result.clock
    if result.query_id:
        facts["query_id"] = result.query_id
    if result.replaced_texts:
        facts["replaced_texts"] = result.replaced_texts
    if result.fell_back:
        facts["fell_back"] = result.fell_back
    return facts

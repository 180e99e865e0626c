"""Refuse readings that must not land: a table that shrank, times in another unit, another source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from ksql_lake.errors import (
    ConfigError,
    IncompleteResponseError,
    KsqlLakeError,
    SchemaError,
    SnapshotRefusedError,
)
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.extraction import Extraction
from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.ksqldb import KsqlClient, SourceDescription, quote_identifier
from ksql_lake.ksqldb.reach import carried_offsets
from ksql_lake.ksqldb.server_clock import first_number
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.days import UNITS
from ksql_lake.lake.files.evolution import widened
from ksql_lake.schema import KsqlType, Schema, parse_schema

_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_LIKELY = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
"""Between these an event is likely to have happened; a number fits one unit only."""

_log = logging.getLogger(__name__)
_MAKING = ("CSAS_", "CTAS_")
"""How the ids of queries begin that create a source; other queries only add to it."""


class SmallSnapshotError(Exception):
    """A snapshot is suspiciously small for the first time, so it is read once more."""


def lost_share(feed: TableFeed, state: FeedState, rows: int, *, seen: int | None) -> float:
    """Return the share of rows that a snapshot has lost, for the commit; 0 where that is within bounds.

    Args:
        feed: The feed.
        state: What the lake holds of it.
        rows: Rows of the snapshot.
        seen: Rows of the reading just before it, if that was suspiciously small.

    Raises:
        SmallSnapshotError: It is suspicious, and was seen only once.
        IncompleteResponseError: Two readings do not show the same loss.
        SnapshotRefusedError: It is smaller than the feed allows, and was read twice.
    """
    # Not always the latest there ever was: doctor may have removed that one.
    newest = (state.partition_keys() or [""])[-1]
    previous = state.partitions[newest].records if newest else 0
    lost = 1 - rows / previous if previous else 0.0
    allowed = feed.min_ratio_to_previous == 0 and previous > 0
    refused = rows < max(previous * feed.min_ratio_to_previous, 1) and not allowed
    if not refused and lost <= feed.max_shrinkage:
        return 0.0
    if seen is None:
        before = f" after {previous} in {newest}" if newest else ""
        raise SmallSnapshotError(f"the snapshot has {rows} rows{before}")
    if previous == 0:
        return 0.0
    if refused:
        raise SnapshotRefusedError(
            f"the snapshot has {rows} rows, {newest} has {previous}: less than "
            f"{feed.min_ratio_to_previous:.0%}, read twice",
            hint="A restarting server answers like this. If the table really shrank, set a lower "
            "`min_ratio_to_previous` in the feed file (0 accepts anything) and export again.",
            feed=feed.name,
        )
    if abs(rows - seen) > max(previous * feed.max_shrinkage, 1):
        raise IncompleteResponseError(
            f"two readings of the table do not agree: {seen} rows, then {rows}, after {previous} in {newest}",
            hint="Nothing was kept. Is a node starting or stopping? Export again when all of them run.",
            feed=feed.name,
        )
    return lost


def shrunk_text(share: float) -> str:
    """Return the mark of a version that has lost rows; empty where it has not."""
    return f"shrunk by {share * 100:.0f} %" if share else ""


def check_unit(feed: StreamFeed, event_type: str, client: KsqlClient) -> None:
    """Check the unit of the event time on one row, read without any condition, where a window held none.

    Args:
        feed: The feed.
        event_type: ksqlDB type of its event-time column.
        client: The server.

    Raises:
        ConfigError: The column counts in another unit than the feed says.
    """
    if feed.event_time == "ROWTIME" or event_type != "BIGINT":
        return
    try:
        found = first_number(client, feed.source, quote_identifier(feed.event_time))
    except (KsqlLakeError, ValueError) as error:
        _log.info("%s: no row can be read to check the unit: %s", feed.name, error)
        return
    if found is None or _likely(found, feed.event_time_unit):
        return
    unit = next((unit for unit in UNITS if _likely(found, unit)), None)
    if unit is not None:
        raise ConfigError(
            f"no row of {feed.source} is in these days, but a row has {feed.event_time} {found}: it seems to "
            f"count {_NAMES[unit]} ({_moment(found, unit):%Y-%m-%d %H:%M} UTC), not "
            f"{_NAMES[feed.event_time_unit]}",
            hint=f'Nothing was closed. Set "event_time_unit": "{unit}" in the feed file, or name '
            f"another column "
            "in `event_time`, and export again: every day is then read again.",
            feed=feed.name,
        )


def _likely(number: int, unit: str) -> bool:
    milliseconds = _milliseconds(number, unit)
    first, last = (edge.timestamp() * 1000 for edge in _LIKELY)
    return first <= milliseconds < last


def _milliseconds(number: int, unit: str) -> int:
    times, parts = UNITS[unit]
    return number * times // parts


def _moment(number: int, unit: str) -> datetime:
    return datetime.fromtimestamp(_milliseconds(number, unit) / 1000, UTC)


def checked_origin(extraction: Extraction, lake: FeedLake) -> Origin | None:
    """Return what the server reports of an export's source, once its rows mean what those in the lake do.

    Raises:
        CorruptLakeError: The log does not name what the lake holds.
        MeaningChangeError: The rows would not mean the same as those in the lake.
    """
    source = extraction.question.source
    if source is None:
        return None
    origin = _origin(extraction.plan, source, extraction.client, lake.state().columns)
    lake.check(origin)
    return origin


def _origin(plan: ExportPlan, source: SourceDescription, client: KsqlClient, held: Schema | None) -> Origin:
    info = client.server_info()
    making = [query.id for query in source.write_queries if query.id.startswith(_MAKING)]
    return Origin(
        topic=source.topic,
        kafka_cluster=info.kafka_cluster_id or "",
        service=info.service_id or "",
        made_by=making[0] if len(making) == 1 else "",
        copied=carried_offsets(source) or () if source.kind == "stream" else (),
        retyped=frozenset(_retyped(plan.feed, source, held)),
        accepted=plan.new_topic,
    )


def _retyped(feed: Feed, source: SourceDescription, held: Schema | None) -> Iterator[str]:
    """Yield the columns whose type cannot be combined with that of the lake's column of their old name."""
    known = {column.name: column.type for column in held or ()}
    for column in source.columns:
        old = known.get(column.name)
        if column.name in feed.rename and old is not None and _differs(old, column.type):
            yield column.name


def _differs(old: KsqlType, declared: str) -> bool:
    try:
        (column,) = parse_schema(f"`X` {declared}")
    except SchemaError:
        # DESCRIBE does not report all of a MAP, but it does report what kind of type it is.
        return declared.partition("<")[0] != old.text.partition("<")[0]
    return widened(old, column.type) is None

"""Certify a day: read it from the source again and compare rows and checksums, hour by hour.

It changes nothing.
"""

# Rows are compared on the columns and STRUCT fields that the source and every file of the day have, since a row
# exported before a column existed has no value for it. Against the certificate each file is compared on all
# its columns.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import ConfigError, KsqlLakeError, LakeError
from ksql_lake.export.comparable import Comparable, comparable
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.extraction import Extraction
from ksql_lake.export.reading_clock import Beginning
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.retry import tried, without_refused
from ksql_lake.ksqldb.server_clock import server_time
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.closing import Clock, day_end, has_ended, in_the_future
from ksql_lake.lake.commit.manifest import DayCertificate, Evidence
from ksql_lake.lake.days import Days, day_start
from ksql_lake.lake.files.checksum import RowChecksum
from ksql_lake.lake.files.checksum_sums import EMPTY
from ksql_lake.lake.files.evolution import versioned_names
from ksql_lake.lake.rows.event_days import event_times
from ksql_lake.schema import Schema

Hours = npt.NDArray[np.int64]
_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class HourDifference:
    """An hour in which the sides differ: its start (UTC), the rows of each, and whether it is of the day."""

    start: datetime
    source_rows: int
    lake_rows: int
    inside: bool = True

    @property
    def text(self) -> str:
        """The difference as a phrase."""
        more = self.source_rows - self.lake_rows
        rows = f"{abs(more):,} row is" if abs(more) == 1 else f"{abs(more):,} rows are"
        if not self.inside:
            what = f"outside of the day, {rows} {'missing in the lake' if more > 0 else 'in the lake only'}"
        elif more > 0:
            what = f"{rows} missing in the lake"
        elif more < 0:
            what = f"{rows} in the lake only (deleted by Kafka since, or changed)"
        else:
            what = "as many rows, but not the same ones"
        return f"{self.start:%Y-%m-%d %H:%M} UTC: {what}"


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets of one Kafka partition that the lake holds on a day, for feeds that know offsets.

    Gaps are normal (filters, transactions, compacted topics): they are reported and are no failure.
    """

    kafka_partition: int
    first: int
    last: int
    rows: int
    gaps: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Certification:
    """The outcome of comparing a day with its source.

    Attributes:
        feed: Name of the feed.
        day: The day.
        source_rows: Rows the source has now.
        lake_rows: Rows the lake has.
        source_checksum: Of the source's rows, in any order.
        lake_checksum: Of the lake's rows on the same columns, in any order.
        differences: The hours that differ; empty when the day is equal.
        columns: The compared columns, by the lake's names.
        unseen: Columns and STRUCT fields (`S->A`) that are not compared, because the source or a file of the
            day lacks them or has them in another type, or an earlier release read them less exactly.
        certificate: What the export that last read the closed day certified, if one did.
        held_checksum: Of the rows in the lake's files, each on all its columns, as certificates count.
        questioned: Why the certificate cannot be trusted; empty where it can.
        clock: Whose clock says that the day has ended.
        offsets: Per Kafka partition, for feeds with identity `offset`.
        read_at: When the source was read (UTC).
        evidence: What shows that this reading brought all rows of the source.
    """

    feed: str
    day: date
    source_rows: int
    lake_rows: int
    source_checksum: str
    lake_checksum: str
    differences: tuple[HourDifference, ...]
    columns: tuple[str, ...]
    unseen: tuple[str, ...]
    certificate: DayCertificate | None
    held_checksum: str
    questioned: str
    clock: Clock
    offsets: tuple[OffsetRange, ...]
    read_at: datetime
    evidence: Evidence

    @property
    def equal(self) -> bool:
        """Whether the lake holds exactly the source's rows, by `columns`: count, checksum, and each hour."""
        totals = (self.source_rows, self.source_checksum) == (self.lake_rows, self.lake_checksum)
        return totals and not self.differences

    @property
    def sound(self) -> bool:
        """Whether the lake holds the source's rows and its certificate does not contradict that."""
        return self.equal and self.as_certified is not False and not self.questioned

    @property
    def whole(self) -> bool:
        """Whether the lake misses no row, as far as source and certificate show.

        If it holds what was certified, hours of the day in which it has more rows are those Kafka deletes from.
        """
        if self.as_certified is False or self.questioned:
            return False
        if not self.differences:
            return self.equal
        return all(hour.inside and hour.lake_rows > hour.source_rows for hour in self.differences)

    @property
    def as_certified(self) -> bool | None:
        """Whether the lake still holds what its certificate states; None without a certificate."""
        if self.certificate is None:
            return None
        return (self.certificate.rows, self.certificate.checksum) == (self.lake_rows, self.held_checksum)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON-ready data."""
        return {
            "feed": self.feed,
            "day": self.day.isoformat(),
            "equal": self.equal,
            "source_rows": self.source_rows,
            "lake_rows": self.lake_rows,
            "source_checksum": self.source_checksum,
            "lake_checksum": self.lake_checksum,
            "certified_rows": self.certificate.rows if self.certificate else None,
            "certified_checksum": self.certificate.checksum if self.certificate else None,
            "certified_by": self.certificate.clock or None if self.certificate else None,
            "as_certified": self.as_certified,
            "questioned": self.questioned,
            "clock": self.clock,
            "columns": list(self.columns),
            "unseen": list(self.unseen),
            "differences": [
                {
                    "hour": hour.start.isoformat(),
                    "source_rows": hour.source_rows,
                    "lake_rows": hour.lake_rows,
                }
                for hour in self.differences
            ],
            "offsets": [
                {
                    "kafka_partition": part.kafka_partition,
                    "first": part.first,
                    "last": part.last,
                    "rows": part.rows,
                    "gaps": part.gaps,
                    "duplicates": part.duplicates,
                }
                for part in self.offsets
            ],
            "read_at": self.read_at.isoformat(timespec="milliseconds"),
            "evidence": msgspec.to_builtins(self.evidence),
        }


@dataclass(slots=True)
class _Side:
    """Rows and checksum of one side, by hour since the day began; `clock` is its column of the event time."""

    start: int
    clock: str
    unit: str
    rows: dict[int, int] = field(default_factory=dict)
    sums: dict[int, RowChecksum] = field(default_factory=dict)
    all: RowChecksum = field(default_factory=RowChecksum)

    def add(self, batch: pa.RecordBatch, compared: Comparable) -> None:
        chosen = compared.of(batch)
        hours: Hours = (event_times(batch, self.clock, self.unit) - self.start) // _HOUR
        self.all.add(chosen)
        for hour in np.unique(hours):
            part = chosen.filter(pa.array(hours == hour))
            self.rows[int(hour)] = self.rows.get(int(hour), 0) + part.num_rows
            self.sums.setdefault(int(hour), RowChecksum()).add(part)

    def of(self, hour: int) -> tuple[int, str]:
        return self.rows.get(hour, 0), self.sums[hour].text if hour in self.sums else EMPTY

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def certify(
    feed: Feed,
    day: date,
    client: KsqlClient,
    lake: Lake,
    *,
    by: Literal["pull", "push"] | None = None,
    now: datetime | None = None,
) -> Certification:
    """Compare a closed day of a stream with its source.

    Args:
        feed: The feed.
        day: The day, which must have ended.
        client: The server.
        lake: Where it landed.
        by: How the source is read; None as the feed says. A push query brings each row with its offset, so that
            a row that comes twice is noticed.
        now: The present; for tests.

    Raises:
        ConfigError: The feed is a table, or the day has not ended.
        KsqlError: The source could not be read completely.
        LakeError: The lake's files could not be read.
    """
    if not isinstance(feed, StreamFeed):
        raise ConfigError("only days of streams can be certified", hint="Name a stream feed.", feed=feed.name)
    began = Beginning(now) if now else Beginning()
    _refuse_open(feed, day, began.ours)
    start, end = day_start(day, feed.zone), day_end(day, feed.zone)
    feed_lake = lake.feed(feed)
    read = feed if by is None else feed.model_copy(update={"extraction": by})
    extraction = Extraction(ExportPlan(read, days=Days(day, day), reason="certify"), client).pulled()
    try:
        source, evidence, compared = without_refused(
            client.learn,
            lambda: tried(lambda _: _read_source(extraction, feed, feed_lake, day), client.attempts),
        )
    except KsqlLakeError as error:
        raise error.at(feed=feed.name, partition=day) from error.__cause__
    clock, ahead = began.judged(server_time(client, feed.source))
    _refuse_open(feed, day, began.ours - max(ahead, timedelta(0)), clock)
    clock_column = source.clock if source.clock in compared.columns else feed.lake_name(feed.event_time)
    held, own = _Side(start, clock_column, feed.event_time_unit), _held_checksum(feed_lake, day)
    for batch in _lake_batches(feed_lake, day):
        held.add(batch, compared)
    hours = sorted(hour for hour in source.rows.keys() | held.rows.keys() if source.of(hour) != held.of(hour))
    return Certification(
        feed=feed.name,
        day=day,
        source_rows=source.total,
        lake_rows=held.total,
        source_checksum=source.all.text,
        lake_checksum=held.all.text,
        differences=tuple(
            HourDifference(
                datetime.fromtimestamp((start + hour * _HOUR) / 1000, UTC),
                source.of(hour)[0],
                held.of(hour)[0],
                inside=0 <= hour < (end - start + _HOUR - 1) // _HOUR,
            )
            for hour in hours
        ),
        columns=tuple(compared.columns),
        unseen=compared.unseen,
        certificate=feed_lake.certificate(day.isoformat()),
        held_checksum=own,
        questioned=_questioned(feed_lake, day, began.ours - max(ahead, timedelta(0))),
        clock=clock,
        offsets=_offsets(feed_lake, feed, day),
        read_at=began.ours,
        evidence=evidence,
    )


def _refuse_open(feed: StreamFeed, day: date, moment: datetime, clock: Clock = "client") -> None:
    if has_ended(day, feed.zone, moment):
        return
    whose = " by the server's clock" if clock in ("server", "disputed") else ""
    raise ConfigError(
        f"{day} has not ended yet in {feed.timezone}{whose}",
        hint="A day can be certified when no more events can belong to it.",
        feed=feed.name,
    )


def _questioned(lake: FeedLake, day: date, now: datetime) -> str:
    looked = lake.state().looked.get(day.isoformat(), "")
    if not looked or not in_the_future(looked, now):
        return ""
    return f"it says that the day was read at {looked}, which is in the future: by a clock that is ahead"


def _held_checksum(lake: FeedLake, day: date) -> str:
    """Return the checksum of the rows that the day's files hold, each file on its own columns and types."""
    held = RowChecksum()
    keys = [lake.layout.data(entry.path) for entry in lake.state().files_of(day.isoformat())]
    for key in keys:
        try:
            with lake.storage.open(key, whole=True) as data, pq.ParquetFile(data) as parquet:
                for batch in parquet.iter_batches():
                    held.add(batch)
        except (pa.ArrowException, OSError) as error:
            raise LakeError(
                f"a file of the day cannot be read as Parquet: {error}",
                hint="See what is damaged: ksql-lake doctor",
                feed=lake.feed.name,
                path=key,
            ) from error
    return held.text


def _read_source(
    extraction: Extraction, feed: StreamFeed, lake: FeedLake, day: date
) -> tuple[_Side, Evidence, Comparable]:
    with extraction.open() as reading:
        state = lake.state()
        # As an export would name them: a retyped column may be another one in the lake.
        held = state.columns if feed.on_schema_change == "new_version" else None
        named = versioned_names(held, reading.schema)
        received = Schema(tuple(replace(column, name=named[column.name]) for column in reading.schema))
        compared = comparable(received, state, state.files_of(day.isoformat()))
        clock = named[feed.lake_name(feed.event_time)]
        side = _Side(day_start(day, feed.zone), clock, feed.event_time_unit)
        for batch in reading:
            side.add(batch.rename_columns([named[name] for name in batch.schema.names]), compared)
        return side, reading.evidence(), compared


def _lake_batches(lake: FeedLake, day: date) -> Iterable[pa.RecordBatch]:
    if not lake.state().files_of(day.isoformat()):
        return
    batches: Iterator[pa.RecordBatch] = lake.dataset(partitions=[day.isoformat()]).to_batches()
    yield from (batch for batch in batches if batch.num_rows)


def _offsets(lake: FeedLake, feed: StreamFeed, day: date) -> tuple[OffsetRange, ...]:
    if feed.identity.by != "offset":
        return ()
    names = [feed.lake_name(column) for column in feed.identity.columns]
    parts: dict[int, list[Hours]] = {}
    for batch in _lake_batches(lake, day):
        # Rows exported before the feed knew offsets have none.
        placed = batch.select(names).drop_null()
        kafka, offsets = (column.cast(pa.int64()).to_numpy() for column in placed.columns)
        for number in np.unique(kafka):
            parts.setdefault(int(number), []).append(offsets[kafka == number])
    ranges = []
    for number in sorted(parts):
        offsets = np.concatenate(parts[number])
        unique = np.unique(offsets)
        first, last = int(unique[0]), int(unique[-1])
        ranges.append(
            OffsetRange(
                kafka_partition=number,
                first=first,
                last=last,
                rows=len(offsets),
                gaps=last - first + 1 - len(unique),
                duplicates=len(offsets) - len(unique),
            )
        )
    return tuple(ranges)

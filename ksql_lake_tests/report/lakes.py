"""Small real lakes and the reports of them, with the present given by the test."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
from msgspec import structs

from ksql_lake.feeds import Feed, Feeds, StreamFeed
from ksql_lake.feeds.collection import FeedFile
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Commit, Lake, ReadFacts
from ksql_lake.report import FeedReport, MetadataAnalyzer, MetadataReader, Report
from ksql_lake.schema import arrow_schema
from ksql_lake_tests.lake.landing import EVENTS, Row

NOON = datetime(2025, 1, 20, 12, tzinfo=UTC)
"""The present of these tests: five days after the first day of `landing.event`."""


def of_day(day: date, count: int) -> list[Row]:
    """So many events of a day, a second apart."""
    midnight = datetime.combine(day, time.min, UTC)
    return [
        {"ROWTIME": midnight + timedelta(seconds=number), "ID": number, "NOTE": f"{day}"}
        for number in range(count)
    ]


def land_days(
    lake: Lake,
    feed: StreamFeed,
    rows: Iterable[Row],
    *,
    days: tuple[date, date],
    read_at: datetime = NOON,
    response_bytes: int = 0,
) -> Commit:
    """Land what an export of these days at this time would have landed."""
    read = ReadFacts(
        source=feed.source,
        statement="SELECT ...;",
        read_at=read_at.isoformat(timespec="milliseconds"),
        first_day=days[0].isoformat(),
        last_day=days[1].isoformat(),
    )
    listed = list(rows)
    with lake.feed(feed).stage(EVENTS, read=read, days=days) as staging:
        if listed:
            staging.write(pa.RecordBatch.from_pylist(listed, schema=arrow_schema(EVENTS)))
        return staging.commit(response_bytes=response_bytes)


def backdate(lake: Lake, feed: Feed, *times: datetime) -> None:
    """Make a feed's commits look as if they were made at these times, one per commit, and read just before."""
    log = lake.feed(feed).log
    for sequence, at in enumerate(times, start=1):
        manifest = structs.replace(log.manifest(sequence), committed_at=at.isoformat(timespec="milliseconds"))
        before = (at - timedelta(seconds=2.5)).isoformat(timespec="milliseconds")
        if manifest.read is not None:
            manifest = structs.replace(manifest, read=structs.replace(manifest.read, read_at=before))
        Path(lake.root, log.layout.manifest(sequence)).write_bytes(manifest.encode())
    assert log.load().sequence == len(times)
    Path(lake.root, log.layout.summary).unlink()
    log.recover()


def feeds_of(*feeds: Feed, archived: Iterable[Feed] = ()) -> Feeds:
    """Feeds as a store would give them."""
    active = [FeedFile(Path(f"feeds/active/{feed.name}.json"), feed, archived=False) for feed in feeds]
    away = [FeedFile(Path(f"feeds/archived/{feed.name}.json"), feed, archived=True) for feed in archived]
    return Feeds((*active, *away), ())


def report_of(
    root: Path,
    *feeds: Feed,
    now: datetime = NOON,
    client: KsqlClient | None = None,
    archived: Iterable[Feed] = (),
    sample: int = 10,
) -> Report:
    """The report of a lake."""
    known = feeds_of(*feeds, archived=archived)
    return MetadataAnalyzer(
        MetadataReader(root), known, client=client, now=now, sample=sample
    ).generate_report()


def report_on(root: Path, feed: Feed, *, now: datetime = NOON) -> FeedReport:
    """The part of a report about one feed."""
    (found,) = report_of(root, feed, now=now).feeds
    return found


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its time and content."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }

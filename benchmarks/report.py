"""How long a report takes against what DuckDB alone needs to read the same metadata files, and how it grows.

    python benchmarks/report.py [--feeds 50] [--partitions 200] [--rounds 3]

Makes a lake of stream feeds, one export per day, each day one file, and reports on it. The metadata files are
`_metadata.json`, the manifests, and the footers that the report samples. DuckDB reads them with `read_json` and
`parquet_metadata`, everything else left out; the report also proves the manifests' digests, folds them into
states, judges the feeds and draws the page.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.feeds import Feeds, StreamFeed
from ksql_lake.feeds.collection import FeedFile
from ksql_lake.lake import FileEntry, Lake, Manifest, PartitionCount, ReadFacts
from ksql_lake.lake.commit.log import CHECKPOINT_EVERY
from ksql_lake.lake.files.statistics import NOTE
from ksql_lake.lake.layout import data_file
from ksql_lake.report import MetadataAnalyzer, MetadataReader, Report, render_html

FIRST = date(2025, 1, 1)
ROWS = 100
SCHEMA = "`ROWTIME` TIMESTAMP, `ID` BIGINT, `NOTE` STRING"


def feeds(count: int) -> Feeds:
    """So many stream feeds."""
    made = (
        StreamFeed(kind="stream", name=f"feed_{number:03d}", source=f"SOURCE_{number:03d}", start_date=FIRST)
        for number in range(count)
    )
    return Feeds(tuple(FeedFile(Path(f"{feed.name}.json"), feed, archived=False) for feed in made), ())


def fill(root: Path, feed: StreamFeed, partitions: int) -> None:
    """Make a feed of one commit and one file per day; its derived files are written by the lake itself."""
    lake = Lake(root).feed(feed)
    (root / lake.layout.commits).mkdir(parents=True)
    for number in range(1, partitions + 1):
        content = _content(feed, number)
        manifest = _manifest(feed, number, content)
        target = root / lake.layout.data(manifest.added[0].path)
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
        (root / lake.layout.manifest(number)).write_bytes(manifest.encode())
        if number == partitions - partitions % CHECKPOINT_EVERY:
            lake.recover()
    lake.recover()


def _content(feed: StreamFeed, number: int) -> bytes:
    """Return a day's file, in which doctor finds nothing wrong."""
    noon = round(datetime(FIRST.year, FIRST.month, FIRST.day, 12, tzinfo=UTC).timestamp() * 1000)
    at = noon + (number - 1) * 86_400_000
    rows = pa.table(
        {
            "ROWTIME": pa.array(range(at, at + ROWS), pa.timestamp("ms", "UTC")),
            "ID": range(ROWS),
            "NOTE": [f"note {each}" for each in range(ROWS)],
        }
    )
    file = io.BytesIO()
    facts = {"ksql_lake.feed": feed.name, NOTE: "{}"}
    pq.write_table(rows.replace_schema_metadata(facts), file, compression="zstd")
    return file.getvalue()


def _manifest(feed: StreamFeed, number: int, content: bytes) -> Manifest:
    day = FIRST + timedelta(days=number - 1)
    at = datetime(FIRST.year, FIRST.month, FIRST.day, 0, 5, tzinfo=UTC) + timedelta(days=number)
    entry = FileEntry(
        path=data_file("stream", day.isoformat(), at=at, sequence=number),
        partition=day.isoformat(),
        staged="rows.tmp",
        records=ROWS,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        checksum="0" * 32,
        min_event=round(at.timestamp() * 1000) - 86_000_000,
        max_event=round(at.timestamp() * 1000) - 600_000,
    )
    before = (day - timedelta(days=1)).isoformat()
    return Manifest(
        sequence=number,
        attempt="0a1b2c3d",
        feed=feed.name,
        kind="stream",
        operation="append",
        committed_at=(at + timedelta(seconds=4)).isoformat(timespec="milliseconds"),
        schema=SCHEMA,
        read=ReadFacts(
            source=feed.source,
            statement=f"SELECT * FROM {feed.source} WHERE ROWTIME >= 0;",
            read_at=at.isoformat(timespec="milliseconds"),
            first_day=before,
            last_day=day.isoformat(),
            rows=2 * ROWS,
            response_bytes=18_000,
        ),
        added=[entry],
        counts=[
            PartitionCount(partition=before, read=ROWS, new=0, already_there=ROWS),
            PartitionCount(partition=day.isoformat(), read=ROWS, new=ROWS, already_there=0),
        ],
    )


def make_report(root: Path, known: Feeds) -> Report:
    """The report, page included."""
    report = MetadataAnalyzer(MetadataReader(root), known).generate_report()
    render_html(report)
    return report


def duckdb_alone(root: Path, sample: list[str]) -> tuple[float, float, float]:
    """Seconds DuckDB needs for `_metadata.json`, manifests, and sampled footers."""
    metadata, commits = f"{root}/metadata/*/*/_metadata.json", f"{root}/metadata/*/*/commits/*.json"
    count = "SELECT count(*), sum(len(partitions)), sum(total_records) FROM read_json(?)"
    sums = "SELECT count(*), sum(list_sum([part.new for part in manifest.counts])) FROM read_json(?)"
    footers = "SELECT file_name, sum(total_compressed_size) FROM parquet_metadata(?) GROUP BY 1"
    return (
        seconds(lambda: duckdb.connect().execute(count, [metadata]).fetchall()),
        seconds(lambda: duckdb.connect().execute(sums, [commits]).fetchall()),
        seconds(lambda: duckdb.connect().execute(footers, [sample]).fetchall()),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Make the lakes, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--feeds", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=200, help="per feed")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        taken: list[tuple[int, float]] = []
        for count in (asked.feeds // 4, asked.feeds // 2, asked.feeds):
            root, known = Path(folder, f"lake_{count}"), feeds(count)
            for file in known.files:
                assert isinstance(file.feed, StreamFeed)  # noqa: S101 - made above
                fill(root, file.feed, asked.partitions)
            best = min(seconds(lambda: make_report(root, known)) for _ in range(asked.rounds))  # noqa: B023
            taken.append((count, best))
            print(f"{count:4d} feeds, {count * asked.partitions:6,d} partitions: {best:6.2f} s", flush=True)
        sampled = make_report(root, known).cross_check.sampled
        files = sorted(str(path) for path in (root / "streams").rglob("*.parquet"))
        sample = files[:: max(1, len(files) // sampled)][:sampled]
        alone = [
            min(times) for times in zip(*(duckdb_alone(root, sample) for _ in range(asked.rounds)), strict=True)
        ]
    (few, short), (many, long) = taken[0], taken[-1]
    print(
        f"DuckDB alone: _metadata.json {alone[0]:.2f} s, manifests {alone[1]:.2f} s, footers {alone[2]:.2f} s"
    )
    print(f"report / DuckDB on the same files: {long / sum(alone):.2f} (at most 5)")
    print(f"report / DuckDB on _metadata.json and footers only: {long / (alone[0] + alone[2]):.2f}")
    print(f"{many / few:.1f} times the feeds take {long / short:.1f} times as long (linear: {many / few:.1f})")


if __name__ == "__main__":
    main()

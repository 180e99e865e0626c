"""What history costs: opening a feed and appending one row, with 10 and with 10,000 day partitions.

    python benchmarks/partitions.py [PARTITIONS ...]

Prints the median milliseconds of an append and of opening, alternated between the feeds, and the ratio to the
first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.lake import FeedLake, Lake, ReadFacts
from ksql_lake.schema import arrow_schema, parse_schema

FIRST = date(1995, 1, 1)
SCHEMA = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `NOTE` STRING")
ROUNDS = 15
COMMITS = 40


def append(lake: FeedLake, numbers: range, *, days: int) -> None:
    """Append a row per number, one per day from the first day on."""
    noon = datetime(FIRST.year, 1, 1, 12, tzinfo=UTC)
    rows = [{"ROWTIME": noon + timedelta(days=number % days), "ID": number, "NOTE": "x"} for number in numbers]
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2030-01-01T00:00:00+00:00")
    with lake.stage(SCHEMA, read=read, days=(FIRST, FIRST + timedelta(days=days - 1))) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(SCHEMA)))
        staging.commit()


def build(root: Path, partitions: int) -> FeedLake:
    """Make a feed with this many day partitions and some history."""
    feed = FEED_ADAPTER.validate_python(
        {"name": f"days_{partitions}", "kind": "stream", "source": "EVENTS", "start_date": FIRST.isoformat()}
    )
    lake = Lake(root).feed(feed)
    append(lake, range(partitions), days=partitions)
    for number in range(COMMITS):
        append(lake, range(partitions + number, partitions + number + 1), days=1)
    return lake


def main(arguments: list[str]) -> None:
    """Measure and print."""
    sizes = [int(text) for text in arguments] or [10, 10_000]
    with tempfile.TemporaryDirectory() as folder:
        lakes = {size: build(Path(folder), size) for size in sizes}
        appends: dict[int, list[float]] = {size: [] for size in sizes}
        opens: dict[int, list[float]] = {size: [] for size in sizes}
        for number in range(ROUNDS):
            for size, lake in lakes.items():
                began = time.perf_counter()
                append(lake, range(10**6 + number, 10**6 + number + 1), days=1)
                appends[size].append(time.perf_counter() - began)
                began = time.perf_counter()
                lake.state()
                opens[size].append(time.perf_counter() - began)
    for size in sizes:
        one, other = statistics.median(appends[size]), statistics.median(opens[size])
        ratio = one / statistics.median(appends[sizes[0]])
        print(
            f"{size:>7,} partitions  append {one * 1000:7.1f} ms  ({ratio:4.1f}x)  open {other * 1000:6.1f} ms"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

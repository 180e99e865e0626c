"""What a lake in an object store costs beside one on a disk: seconds, and requests to the store.

    python benchmarks/object_store.py [--server seaweedfs] [--rows 1000000] [--partitions 10000] [--commits 40]

Each figure is measured with a newly opened feed, as by a scheduled export: the first export of a day, the
same day again with one new row and with none, and, of feeds with few and with many day partitions and commits,
an export of one row, and opening the feed. Requests are counted by a proxy before the server, in runs of their
own, so that it slows none that is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import FeedLake, Lake, ReadFacts
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.stores.proxy import Proxy, proxied
from ksql_lake_tests.stores.servers import Store, moto, seaweedfs

FIRST = date(1995, 1, 1)
SCHEMA = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `NOTE` STRING")
ARROW = arrow_schema(SCHEMA)
ROUNDS = 5
_DAY_MS = 86_400_000
_BATCH = 50_000


def feed(name: str) -> StreamFeed:
    """A stream feed."""
    given = {"name": name, "kind": "stream", "source": "EVENTS", "start_date": FIRST.isoformat()}
    return StreamFeed.model_validate(given)


def rows(numbers: np.ndarray, *, days: int = 1, day: int = 0) -> pa.Table:
    """A row per number, from a day on: on one day spread over it, on several days one on each in turn."""
    start = int(datetime(FIRST.year, 1, 1, tzinfo=UTC).timestamp() * 1000) + day * _DAY_MS
    times = start + (numbers % days) * _DAY_MS + numbers % _DAY_MS // 2
    notes = [f"note {number % 997} of {number}" for number in numbers.tolist()]
    return pa.table(
        [pa.array(times).cast(ARROW.field(0).type), pa.array(numbers), pa.array(notes)], schema=ARROW
    )


def export(lake: FeedLake, table: pa.Table, *, days: int = 1, day: int = 0) -> None:
    """Stage and commit rows of a window."""
    first = FIRST + timedelta(days=day)
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2030-01-01T00:00:00+00:00")
    with lake.stage(SCHEMA, read=read, days=(first, first + timedelta(days=days - 1))) as staging:
        for batch in table.to_batches(max_chunksize=_BATCH):
            staging.write(batch)
        staging.commit()


@contextmanager
def served(name: str) -> Iterator[Store]:
    """Run a server while the block lasts."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield stack.enter_context(moto() if name == "moto" else seaweedfs(Path(folder)))


class Bench:
    """The same work on a disk, in a store, and in the store through a counting proxy.

    Args:
        store: The store.
        proxy: The proxy before it.
        folder: Where the lake on the disk goes.
    """

    def __init__(self, store: Store, proxy: Proxy, folder: Path) -> None:
        self.proxy = proxy
        self.places = {
            "disk": (str(folder / "lake"), store.url),
            "store": (store.fresh(), store.url),
            "counted": (store.fresh(), proxy.url),
        }

    def lakes(self, name: str) -> Iterator[tuple[str, Callable[[], FeedLake]]]:
        """Yield each place, and a function that opens a feed there."""
        for place, (root, url) in self.places.items():
            os.environ["AWS_ENDPOINT_URL"] = url  # noqa: TID251
            yield place, lambda root=root: Lake(root).feed(feed(name))  # type: ignore[misc]

    def measure(self, what: str, name: str, work: Callable[[FeedLake, int], object], rounds: int = 1) -> None:
        """Do it everywhere, and print seconds and requests."""
        seconds: dict[str, list[float]] = {}
        requests: Counter[str] = Counter()
        for place, opened in self.lakes(name):
            for turn in range(rounds):
                self.proxy.seen.clear()
                lake = opened()
                began = time.perf_counter()
                work(lake, turn)
                seconds.setdefault(place, []).append(time.perf_counter() - began)
            if place == "counted":
                requests = self.proxy.counts
        disk, store = (statistics.median(seconds[place]) for place in ("disk", "store"))
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(requests.items()))
        print(f"| {what} | {disk:.2f} s | {store:.2f} s | {requests.total()} | {kinds} |", flush=True)


def main(arguments: list[str]) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("moto", "seaweedfs"), default="seaweedfs")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the day (default 1,000,000)")
    parser.add_argument("--partitions", type=int, default=10_000, help="days of the old feed (default 10,000)")
    parser.add_argument("--commits", type=int, default=40, help="further commits of both feeds (default 40)")
    wanted = parser.parse_args(arguments)
    with served(wanted.server) as store, proxied(store.url) as proxy, tempfile.TemporaryDirectory() as folder:
        os.environ.update(store.environment)  # noqa: TID251
        bench = Bench(store, proxy, Path(folder))
        print(f"| {wanted.server} | disk | store | requests | of these |\n|---|---|---|---|---|")
        whole = rows(np.arange(wanted.rows))
        more = rows(np.arange(wanted.rows + 1))
        bench.measure(
            f"first export of a day, {wanted.rows:,} rows", "day", lambda lake, _: export(lake, whole)
        )
        bench.measure("again, one row is new", "day", lambda lake, _: export(lake, more))
        bench.measure("again, nothing is new", "day", lambda lake, _: export(lake, more))
        for count in (10, wanted.partitions):
            name = f"days_{count}"
            first = rows(np.arange(count), days=count)
            bench.measure(
                f"first export of {count:,} days",
                name,
                lambda lake, _, t=first, c=count: export(lake, t, days=c),
            )
            for _, opened in bench.lakes(name):
                for number in range(wanted.commits):
                    day = number % count
                    export(opened(), rows(np.array([10**6 + number]), day=day), day=day)
            label = f"{count:,} days, {wanted.commits + 1} commits: "
            bench.measure(
                f"{label}one new row",
                name,
                lambda lake, turn: export(lake, rows(np.array([10**7 + turn]), day=turn), day=turn),
                ROUNDS,
            )
            bench.measure(f"{label}opening", name, lambda lake, _: lake.state(), ROUNDS)


if __name__ == "__main__":
    main(sys.argv[1:])

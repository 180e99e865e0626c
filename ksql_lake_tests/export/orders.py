"""Orders and tables made of them on a real service, exported, and judged by an independent reader."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import requests

from ksql_lake.export import Days, Progress, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.settings import load_settings
from ksql_lake_tests.devserver.conversation import PATIENCE, Client

KEYS = 60
"""Orders that the common server holds, each with a key of its own."""
FIRST = 1_736_121_600_000
"""2025-01-06, in epoch ms."""
DAYS = Days(date(2025, 1, 6), date(2025, 1, 9))


class Meanwhile:
    """Stands for `sleep`: does something the n-th time that the product waits, and waits for nothing itself."""

    def __init__(self, action: Callable[[], object] = lambda: None, *, at: int = 1) -> None:
        self.waits = 0
        self._action, self._at = action, at

    def __call__(self, _seconds: float) -> None:
        """Count the wait."""
        self.waits += 1
        if self.waits == self._at:
            self._action()


@dataclass(frozen=True)
class Exported:
    """What an export said.

    Attributes:
        read: Rows received.
        attempts: How often it tried.
        evidence: Why the rows were taken for all of them.
    """

    read: int
    attempts: int
    evidence: Evidence


def table_feed(source: str = "TOTALS", **keys: object) -> Feed:
    """A feed of a table that is read by pull query."""
    return FEED_ADAPTER.validate_python({"name": source.lower(), "kind": "table", "source": source, **keys})


def stream_feed(source: str = "ORDERS", **keys: object) -> Feed:
    """A feed of a stream that is read by pull query."""
    given = {"name": source.lower(), "kind": "stream", "source": source, "start_date": "2025-01-06"}
    return FEED_ADAPTER.validate_python({**given, **keys})


def fill(url: str, keys: int, source: str = "ORDERS") -> None:
    """Append one order for each key."""
    Client(url).append(source, *(order(number) for number in range(keys)))


def order(number: int, **keys: object) -> dict[str, object]:
    """One order."""
    return {"K": f"key-{number}", "V": number, "ROWTIME": FIRST + number, **keys}


def export(
    url: str,
    root: Path,
    wanted: Feed,
    *,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: Callable[[Progress], None] | None = None,
    **settings: object,
) -> Exported:
    """Export a feed with a client of its own; in one attempt unless the settings say otherwise."""
    quick = {"ksqldb_url": url, "attempts": 1, "read_timeout": 20, "settle_time": 1, "table_wait": 40}
    with KsqlClient(load_settings(**quick | settings), sleep=sleep) as client:
        days = DAYS if wanted.kind == "stream" else None
        done = export_feed(wanted, client, Lake(root), days=days, on_progress=on_progress)
    assert done.evidence is not None
    return Exported(done.read, done.attempts, done.evidence)


def held(root: Path, wanted: Feed, column: str = "K") -> Counter[object]:
    """The values of a column that an independent reader sees in all of a feed's files, with multiplicity."""
    files = sorted((root / f"{wanted.kind}s" / wanted.name).rglob("*.parquet"))
    if not files:
        return Counter()
    paths = [str(path) for path in files]
    rows = duckdb.execute(f'SELECT "{column}" FROM read_parquet(?, hive_partitioning=false)', [paths])
    return Counter(value for (value,) in rows.fetchall())


def keys(count: int) -> Counter[object]:
    """Each key once."""
    return Counter(f"key-{number}" for number in range(count))


def transact(url: str, source: str, name: str, *numbers: int, partition: int = 0) -> None:
    """Append orders inside a transaction, which stays open."""
    rows = "\n".join(str(order(number, ROWPARTITION=partition)).replace("'", '"') for number in numbers)
    door = f"{url}/devserver/sources/{source}/rows"
    requests.post(door, data=rows, params={"transaction": name}, timeout=PATIENCE).raise_for_status()


def conclude(url: str, source: str, name: str, end: str, partitions: str = "") -> None:
    """Commit or abort a transaction; `partitions` get its marker although they hold none of its rows."""
    door = f"{url}/devserver/sources/{source}/transactions/{name}/{end}"
    requests.post(door, params={"partitions": partitions}, timeout=PATIENCE).raise_for_status()

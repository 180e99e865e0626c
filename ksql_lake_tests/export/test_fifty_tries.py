"""The same export, tried fifty times while everything goes wrong, against an independent comparison."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import Days, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.settings import load_settings

TRIES = 50
DAYS = Days(date(2025, 1, 6), date(2025, 1, 13))
FEED = {
    "name": "payments",
    "kind": "stream",
    "source": "PAYMENTS",
    "start_date": "2025-01-06",
}
STATEMENT = """CREATE STREAM PAYMENTS (ID BIGINT, AMOUNT DECIMAL(12, 2), NOTE STRING, TAGS MAP<STRING, DOUBLE>)
    WITH (KAFKA_TOPIC='payments', VALUE_FORMAT='JSON', PARTITIONS=3);"""
# Twins (every seventh row has an identical one), NULLs, and eight days.
ROWS = """SELECT 1736121600000 + (i % 8) * 86400000 + i // 8 AS ROWTIME, i - (i % 7 = 1)::INT AS ID,
    ((i - (i % 7 = 1)::INT) % 9973 / 100)::DECIMAL(12, 2) AS AMOUNT,
    CASE WHEN i % 5 = 0 THEN NULL ELSE 'note ' || (i % 11) END AS NOTE"""
FAULTS: list[dict[str, Any]] = [
    {"kind": "cut_row"},
    {"kind": "cut_chunk"},
    {"kind": "reset"},
    {"kind": "error"},
    {"kind": "hang"},
    {"kind": "no_final", "after_rows": None},
    {"kind": "not_ready", "after_rows": None},
    {"kind": "busy", "after_rows": None},
]
EXPORTER = """
import sys
from ksql_lake_tests.export.test_fifty_tries import export
print("ready", flush=True)
export(sys.argv[1], sys.argv[2])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of the source, as JSON lines that DuckDB wrote."""
    path = tmp_path_factory.mktemp("source") / "payments.jsonl"
    with duckdb.connect() as connection:
        rows = f"{ROWS} FROM range(8000) AS r(i)"
        connection.execute(f"COPY (SELECT * FROM ({rows})) TO '{path}' (FORMAT json)")
    return path


@pytest.fixture(scope="module")
def url(source: Path) -> Iterator[str]:
    """A server that has these rows."""
    (source.parent / "payments.sql").write_text(STATEMENT)
    with DevServer.start(data=source.parent) as server:
        yield server.url


def export(url: str, root: str) -> int:
    """Export the feed once, without retries of its own; give the rows that were new."""
    settings = load_settings(ksqldb_url=url, attempts=1, read_timeout=0.5)
    with KsqlClient(settings, sleep=lambda _seconds: None) as client:
        return export_feed(FEED_ADAPTER.validate_python(FEED), client, Lake(root), days=DAYS).new


def killed(url: str, root: Path, chance: random.Random) -> None:
    """Export in a process of its own and kill it at some moment."""
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORTER, url, str(root)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(chance.uniform(0, 0.6))
    process.kill()
    process.wait()
    process.stdout.close()


def test_fifty_tries_land_every_row_once(url: str, source: Path, tmp_path: Path) -> None:
    """Cut, refused, stalled and killed fifty times, the lake ends with exactly the source's rows."""
    chance = random.Random(20250115)
    outcomes: Counter[str] = Counter()
    for number in range(TRIES):
        if number % 5 == 4:
            killed(url, tmp_path, chance)
            outcomes["killed"] += 1
            continue
        fault = {**FAULTS[number % len(FAULTS)], "times": 1}
        fault.setdefault("after_rows", chance.randrange(8000))
        requests.put(
            f"{url}/devserver/faults", data=msgspec.json.encode([fault]), timeout=10
        ).raise_for_status()
        with suppress(KsqlLakeError):
            export(url, str(tmp_path))
            outcomes["landed"] += 1
            continue
        outcomes[fault["kind"]] += 1
    requests.delete(f"{url}/devserver/faults", timeout=10).raise_for_status()
    assert outcomes["killed"] == TRIES // 5
    assert sum(outcomes[str(fault["kind"])] for fault in FAULTS) >= TRIES // 2, outcomes

    export(url, str(tmp_path))
    # What the last killed process staged is cleared by the commit after the next one.
    assert export(url, str(tmp_path)) == 0

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = "epoch_ms(ROWTIME) AS ROWTIME, ID, AMOUNT, NOTE"
    ours = f"SELECT {columns} FROM read_parquet('{tmp_path}/streams/payments/*/*/*/*.parquet')"
    theirs = f"SELECT ROWTIME, ID, AMOUNT::DECIMAL(12, 2), NOTE FROM read_json('{source}')"
    assert connection.execute(f"SELECT count(*) FROM ({ours})").fetchall() == [(8000,)]
    for first, second in ((ours, theirs), (theirs, ours)):
        assert connection.execute(f"({first}) EXCEPT ALL ({second})").fetchall() == []
    assert examine(Lake(tmp_path).storage, FeedLayout("stream", "payments")).sound

"""What a fault loop works on: a stream with transactions and two tables over another, and what is true."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import requests

from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.settings import Settings

_TODAY = datetime.now(UTC).date()
_MIDNIGHT = int(datetime.combine(_TODAY, datetime.min.time(), UTC).timestamp() * 1000)
LOOKBACK = 3
"""Days that are read again each time: a loop may go on over midnight."""
PARTITIONS = 4
GROUPS = 7
STATEMENTS = (
    f"CREATE STREAM EVENTS (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='events', VALUE_FORMAT='JSON', "
    f"PARTITIONS={PARTITIONS});\n"
    f"CREATE STREAM ORDERS (K STRING KEY, G STRING) WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', "
    f"PARTITIONS={PARTITIONS});\n"
    "CREATE TABLE TOTALS AS SELECT K, COUNT(*) AS N FROM ORDERS GROUP BY K;\n"
    "CREATE TABLE GROUPS AS SELECT G, COUNT(*) AS N FROM ORDERS GROUP BY G;\n"
)
TABLES = {"totals": "K", "groups": "G"}
STREAMS = ("events", "events_pushed")


def write_statements(folder: Path) -> Path:
    """Write what the service begins with, and give the folder."""
    folder.mkdir()
    (folder / "1_faults.sql").write_text(STATEMENTS)
    return folder


def feeds() -> list[Feed]:
    """A stream by pull and by push, and the two tables; where there can be proof it is demanded."""
    stream: dict[str, object] = {
        "kind": "stream",
        "source": "EVENTS",
        "start_date": _TODAY.isoformat(),
        "evidence": "proven",
    }
    stream["lookback_days"] = LOOKBACK
    found: list[dict[str, object]] = [
        {**stream, "name": "events"},
        # The ends of a plain stream's log are unknown to a push query, so it has no proof.
        {**stream, "name": "events_pushed", "extraction": "push", "evidence": None},
        *(
            {"name": name, "kind": "table", "source": name.upper(), "retention": 100, "evidence": "proven"}
            for name in TABLES
        ),
    ]
    return [FEED_ADAPTER.validate_python(feed) for feed in found]


def settings(urls: list[str], root: Path) -> Settings:
    """The exporter's settings: waits are short, so that a round is short."""
    return Settings(
        ksqldb_url=urls[0],
        lake_root=str(root),
        attempts=5,
        read_timeout=6.0,
        stall_timeout=6.0,
        table_wait=6.0,
        settle_time=0.5,
        quiet_seconds=0.5,
    )


class Truth:
    """Everything that was sent, and what of it counts.

    Args:
        seed: Of everything random.
        urls: The nodes; rows go to any that takes them.
    """

    def __init__(self, seed: int, urls: list[str]) -> None:
        self._random = Random(seed)
        self._urls = urls
        self._lock = threading.Lock()
        self._number = 0
        self.events: set[int] = set()
        self.orders: Counter[tuple[str, str]] = Counter()
        self._open: dict[str, list[int]] = {}

    def snapshot(self) -> tuple[set[int], dict[str, dict[str, int]]]:
        """The ids of committed events, and what each table holds, key by key."""
        with self._lock:
            tables: dict[str, Counter[str]] = {name: Counter() for name in TABLES}
            for (key, group), count in self.orders.items():
                tables["totals"][key] += count
                tables["groups"][group] += count
            return set(self.events), {name: dict(counts) for name, counts in tables.items()}

    def produce(self, size: int) -> None:
        """Send events and orders outside of transactions."""
        ids = self._numbers(size)
        self._send("EVENTS", [self._event(number) for number in ids], None)
        orders = [(f"key-{number % 97}", f"group-{number % GROUPS}") for number in self._numbers(size)]
        with self._lock:
            self.events |= set(ids)
        lines = [{"K": key, "G": group, "ROWTIME": _MIDNIGHT} for key, group in orders]
        self._send("ORDERS", lines, None)
        with self._lock:
            self.orders.update(orders)

    def begin(self, size: int) -> str:
        """Send events in a transaction that stays open; returns its name."""
        ids = self._numbers(size)
        name = f"t{ids[0]}"
        self._send("EVENTS", [self._event(number) for number in ids], name)
        self._open[name] = ids
        return name

    def end(self, name: str, *, commit: bool) -> None:
        """Commit or abort a transaction."""
        ids = self._open.pop(name)
        self._post(f"/devserver/sources/EVENTS/transactions/{name}/{'commit' if commit else 'abort'}", b"", {})
        if commit:
            with self._lock:
                self.events |= set(ids)

    def _numbers(self, size: int) -> list[int]:
        with self._lock:
            self._number += size
            return list(range(self._number - size, self._number))

    def _event(self, number: int) -> dict[str, object]:
        return {"ID": number, "NOTE": f"note {number}", "ROWTIME": _MIDNIGHT + number}

    def _send(self, source: str, rows: list[dict[str, object]], transaction: str | None) -> None:
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        query = {"transaction": transaction} if transaction else {}
        self._post(f"/devserver/sources/{source}/rows", lines, query)

    def _post(self, path: str, body: bytes, query: dict[str, str]) -> None:
        """Send to a node that runs: rows are sent between the hits, never while a node is away."""
        answer = requests.post(self._urls[0] + path, data=body, params=query, timeout=60)
        answer.raise_for_status()

"""What a loop works on: a server with a stream and its derived stream, and what was ever written to them."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any

import requests

from ksql_lake.devserver.process import DevCluster
from ksql_lake.feeds.model import FEED_ADAPTER, Feed

PATIENCE = 60
ARGUMENTS = [
    "--setting", "ksql.query.push.v2.registry.installed=true",
    "--setting", "ksql.query.push.v2.new.latest.delay.ms=0",
    "--token-seconds", "0.2", "--phase", "starting=0.1",
]  # fmt: skip
SOURCE = "CREATE STREAM S (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON', PARTITIONS=3);"
KEY = "STRUCT(P := ROWPARTITION, O := ROWOFFSET)"
DERIVED = (
    f"CREATE STREAM D WITH (KEY_FORMAT='JSON') AS SELECT {KEY} AS K, ID, NOTE, ROWPARTITION AS P, "
    f"ROWOFFSET AS O FROM S PARTITION BY {KEY} EMIT CHANGES;"
)
_DAY = 86_400_000
TODAY = int(datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC).timestamp() * 1000)
FIRST = datetime.fromtimestamp((TODAY - 4 * _DAY) / 1000, UTC).date()


def feed() -> Feed:
    """The feed that reads the derived stream."""
    return FEED_ADAPTER.validate_python(
        {
            "name": "events",
            "kind": "stream",
            "source": "D",
            "start_date": FIRST,
            "extraction": "continue",
            "positions": {"partition": "P", "offset": "O"},
            "columns": ["ID", "NOTE"],
        }
    )


class World:
    """The server, and everything that was written.

    Args:
        cluster: One node that can be killed.
        random: What chooses.

    Attributes:
        written: The ids of all rows.
        strangers: How many of them were written into the derived stream, and not through its query.
    """

    def __init__(self, cluster: DevCluster, random: Random) -> None:
        self.cluster = cluster
        self.url = cluster.urls[0]
        self.written: set[int] = set()
        self.strangers = 0
        self._random = random

    def ksql(self, text: str) -> list[dict[str, Any]]:
        """Run statements."""
        body = {"ksql": text, "streamsProperties": {"auto.offset.reset": "earliest"}}
        answer = requests.post(f"{self.url}/ksql", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def produce(self, most: int) -> int:
        """Write rows, most of today and some late ones; returns how many."""
        count = self._random.randint(0, most)
        first = len(self.written)
        rows = [
            {
                "ID": number,
                "NOTE": f"n{number % 7}",
                "ROWTIME": TODAY + number - (self._random.randint(1, 3) * _DAY if not number % 11 else 0),
            }
            for number in range(first, first + count)
        ]
        for begin in range(0, count, 400):
            self.cluster.append("S", *rows[begin : begin + 400])
        self.written |= set(range(first, first + count))
        return count

    def insert(self) -> None:
        """Write one row into the derived stream, past its query."""
        number = len(self.written)
        self.ksql(f"INSERT INTO D (K, ID, NOTE) VALUES (STRUCT(P := 9, O := {number}), {number}, 'stranger');")
        self.written.add(number)
        self.strangers += 1

    def remake(self, *, source: bool) -> None:
        """Recreate the derived stream, or both streams."""
        self.ksql("DROP STREAM D DELETE TOPIC;")
        if source:
            self.ksql("DROP STREAM S DELETE TOPIC;")
            self.ksql(SOURCE)
        self.ksql(DERIVED)

    def restart(self) -> None:
        """Kill the node and wait until it is back."""
        self.cluster.kill_node(1)
        self.cluster.start_node(1)
        self.settle()

    def settle(self) -> None:
        """Wait until the node answers."""
        while True:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/info", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)

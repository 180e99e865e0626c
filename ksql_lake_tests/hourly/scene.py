"""What the exports of a simulated month read: a stream that gets rows hour by hour, some of them a day late.

Every row has a number of its own, so that a reader sees which are there and how often.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import requests

from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake.settings import Settings

FIRST = date(2025, 1, 6)
SOURCE = "HOURLY_EVENTS"
STATEMENT = (
    f"CREATE STREAM {SOURCE} (ID BIGINT, NOTE STRING) "
    "WITH (KAFKA_TOPIC='hourly', VALUE_FORMAT='JSON', PARTITIONS=2);"
)
DERIVED = f"{SOURCE}_LAKE"
DERIVED_STATEMENT = (
    f"CREATE STREAM {DERIVED} WITH (KEY_FORMAT='JSON') AS SELECT *, ROWPARTITION AS RP, ROWOFFSET AS RO FROM "
    f"{SOURCE} PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
)
SERVER = [
    *("--setting", "ksql.query.push.v2.registry.installed=true"),
    *("--setting", "ksql.query.push.v2.new.latest.delay.ms=0"),
    *("--token-seconds", "0.1"),
]
"""How the server is started."""
_PATIENCE = 60.0


def feed(extraction: str) -> StreamFeed:
    """The feed of the stream, or of the one derived from it where it is continued."""
    keys: dict[str, object] = {"source": SOURCE}
    if extraction == "continue":
        positions = {"partition": "RP", "offset": "RO"}
        keys = {"source": DERIVED, "columns": ["ID", "NOTE"], "positions": positions}
    made = FEED_ADAPTER.validate_python(
        {
            "name": "hourly_events",
            "kind": "stream",
            "extraction": extraction,
            "start_date": FIRST.isoformat(),
            **keys,
        }
    )
    assert isinstance(made, StreamFeed)
    return made


def settings(url: str, root: Path) -> Settings:
    """The settings of the exports."""
    return Settings(ksqldb_url=url, lake_root=str(root), quiet_seconds=0.5, read_timeout=60.0)


class Producer:
    """Sends the rows of one part of a day after the other to a server.

    Args:
        url: The server.
        rows: Rows of each part.
        seed: Of everything random.
    """

    def __init__(self, url: str, rows: int, seed: int) -> None:
        self.made = 0
        self._url, self._rows, self._random = url, rows, Random(seed)

    def send(self, begin: datetime, length: timedelta) -> None:
        """Send rows of the time from `begin` on, of which every twentieth is a day older."""
        lines = []
        for _ in range(self._rows):
            late = timedelta(days=1) if self._random.random() < 0.05 and begin.date() > FIRST else timedelta(0)
            moment = begin + self._random.random() * length - late
            row = {
                "ROWTIME": int(moment.timestamp() * 1000),
                "ID": self.made,
                "NOTE": f"note {self._random.randrange(50)}",
            }
            lines.append(json.dumps(row))
            self.made += 1
        answer = requests.post(
            f"{self._url}/devserver/sources/{SOURCE}/rows", data="\n".join(lines), timeout=_PATIENCE
        )
        answer.raise_for_status()


def midnight(day: int) -> datetime:
    """The beginning of a simulated day, the first one being 0."""
    return datetime.combine(FIRST + timedelta(days=day), datetime.min.time(), UTC)

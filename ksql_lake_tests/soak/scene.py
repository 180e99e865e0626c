"""What a soak works on: a stream that grows, late rows and twins included, and a table derived from it.

Every value of a row follows from its number, so that a reader knows what may be there.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed, TableFeed
from ksql_lake.settings import Settings

DAYS = 5
"""Days that get rows: today and those before."""
NOTES = 50
STREAM, TABLE = "SOAK_EVENTS", "SOAK_TOTALS"
_STATEMENTS = (
    f"CREATE STREAM {STREAM} (ID BIGINT, NOTE STRING, AMOUNT DECIMAL(10, 2)) "
    "WITH (KAFKA_TOPIC='soak', VALUE_FORMAT='JSON', PARTITIONS=2);\n"
    f"CREATE TABLE {TABLE} AS SELECT NOTE, COUNT(*) AS N FROM {STREAM} GROUP BY NOTE;\n"
)


def write_statements(folder: Path) -> Path:
    """Write what the server begins with, and give the folder."""
    folder.mkdir()
    (folder / "1_soak.sql").write_text(_STATEMENTS)
    return folder


def feeds(today: date) -> tuple[StreamFeed, TableFeed]:
    """The two feeds; every export looks at all days, because late rows may come to each of them."""
    stream = FEED_ADAPTER.validate_python(
        {
            "name": "soak_events",
            "kind": "stream",
            "source": STREAM,
            "start_date": (today - timedelta(days=DAYS - 1)).isoformat(),
            "lookback_days": DAYS,
        }
    )
    table = FEED_ADAPTER.validate_python(
        {"name": "soak_totals", "kind": "table", "source": TABLE, "retention": 3}
    )
    assert isinstance(stream, StreamFeed)
    assert isinstance(table, TableFeed)
    return stream, table


def settings(url: str, root: Path) -> Settings:
    """The settings of every process of the soak."""
    return Settings(ksqldb_url=url, lake_root=str(root), attempts=6, read_timeout=20.0)


def may_be_twice(number: int) -> bool:
    """Whether two identical rows of this number may be sent."""
    return number % 10 == 0


class Producer:
    """Makes rows and remembers how often each was made.

    Args:
        seed: Of everything random.
        today: The newest day.
    """

    def __init__(self, seed: int, today: date) -> None:
        self.made: Counter[int] = Counter()
        self._random = Random(seed)
        self._midnight = datetime.combine(today, datetime.min.time(), UTC)
        self._days: dict[int, int] = {}

    def batch(self, size: int) -> bytes:
        """Return new rows as JSON lines: most of today, some late, some identical to earlier ones."""
        lines = []
        for _ in range(size):
            number = len(self._days)
            self._days[number] = 0 if self._random.random() < 0.7 else self._random.randrange(DAYS)
            lines.append(self._line(number))
        once = [number for number in range(0, len(self._days), 10) if self.made[number] == 1]
        lines += [self._line(number) for number in self._random.sample(once, len(once) // 3)]
        self._random.shuffle(lines)
        return "\n".join(lines).encode()

    def note_counts(self) -> dict[str, int]:
        """What the table must hold."""
        counts: Counter[str] = Counter()
        for number, times in self.made.items():
            counts[f"note {number % NOTES}"] += times
        return dict(counts)

    def _line(self, number: int) -> str:
        self.made[number] += 1
        time = self._midnight - timedelta(days=self._days[number]) + timedelta(milliseconds=number)
        row = {
            "ROWTIME": int(time.timestamp() * 1000),
            "ID": number,
            "NOTE": f"note {number % NOTES}",
            "AMOUNT": f"{number % 100_000}.25",
        }
        return json.dumps(row)

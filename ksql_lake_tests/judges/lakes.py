"""Random lakes with one planted fault each, or none: what the oracle knows, and the judges have to find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.export import Days, export_feed
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.days import day_of, day_start
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.stream_server import StreamServer
from ksql_lake_tests.judges.zones import daytime_zone

MINUTE = 60_000
COLUMNS = {"ID": "BIGINT", "K": "STRING", "N": "INTEGER", "X": "DOUBLE", "B": "BOOLEAN", "T": "STRING"}
ALL_JUDGES = frozenset({"certify", "doctor", "report", "checks"})


@dataclass
class Subject:
    """A lake to be judged.

    Attributes:
        feed: Its one feed.
        lake: The lake.
        server: The source.
        days: The days that were exported; all of them are over.
        planted: What was done to it, for people; empty for a sound one.
        expected: The judges that have to call it.
    """

    feed: StreamFeed
    lake: Lake
    server: StreamServer
    days: Days
    planted: str = ""
    expected: frozenset[str] = frozenset()

    @contextmanager
    def client(self) -> Iterator[KsqlClient]:
        """A client of the source."""
        with KsqlClient(load_settings(ksqldb_url=self.server.url, attempts=1)) as made:
            yield made

    def export(self, days: Days) -> None:
        """Export some days."""
        with self.client() as client:
            export_feed(self.feed, client, self.lake, days=days)


@contextmanager
def subject(random: Random, root: Path, fault: str) -> Iterator[Subject]:
    """Make a lake with a fault (a name of `FAULTS`), or a sound one (an empty name)."""
    zone = daytime_zone()
    today = day_of(datetime.now(UTC), zone)
    days = Days(today - timedelta(days=random.randint(2, 4)), today - timedelta(days=1))
    keyed = fault == "null_key" or random.random() < 0.4
    feed = StreamFeed.model_validate(
        {
            "name": "s",
            "kind": "stream",
            "source": "S",
            "start_date": days.first,
            "timezone": zone.key,
            "identity": {"by": "key", "columns": ["K"]} if keyed else {"by": "row"},
            "compression": random.choice(["zstd", "snappy", "none"]),
            "columns": None if random.random() < 0.7 else ["ID", "K", "X"],
        }
    )
    with StreamServer(list(COLUMNS.items())) as server:
        made = Subject(feed, Lake(root), server, days)
        _fill(made, random)
        if fault == "null_key":
            _as_if_null_were_a_key(made, random)
        else:
            _export_somehow(made, random)
        if fault and fault != "null_key":
            FAULTS[fault](made, random)
        yield made


def _fill(made: Subject, random: Random) -> None:
    """Fill the source with rows on every day, some of them alike, some keys NULL."""
    number = 0
    for back in range(len(made.days)):
        start = day_start(made.days.first + timedelta(days=back), made.feed.zone)
        for _ in range(random.randint(2, 30)):
            row = _row(number, random)
            time = start + random.randrange(24 * 60) * MINUTE
            copies = 2 if made.feed.identity.by == "row" and random.random() < 0.1 else 1
            made.server.rows += [(time, row)] * copies
            number += 1
    random.shuffle(made.server.rows)


def _row(number: int, random: Random) -> list[object]:
    key = None if random.random() < 0.1 else f"k{number}"
    texts = ["", "a", "ä", "same", 'quote"d', None]
    flag = random.choice([True, False, None])
    return [number, key, random.randint(-9, 9), random.choice([0.5, 1e300, None]), flag, random.choice(texts)]


def _export_somehow(made: Subject, random: Random) -> None:
    """Export in one go, day by day, or again and again with rows that come late."""
    match random.choice(["whole", "daily", "late"]):
        case "whole":
            made.export(made.days)
        case "daily":
            for back in range(len(made.days)):
                day = made.days.first + timedelta(days=back)
                made.export(Days(day, day))
        case _:
            whole = made.server.rows
            made.server.rows = whole[: len(whole) // 2]
            made.export(made.days)
            made.server.rows = whole
            made.export(made.days)
    if random.random() < 0.3:
        made.export(made.days)


def _as_if_null_were_a_key(made: Subject, random: Random) -> None:
    """Export as a release did that took NULL for a key like any other, and so kept one such row a day."""
    day = made.days.first + timedelta(days=random.randrange(len(made.days)))
    start = day_start(day, made.feed.zone)
    for number in range(random.randint(2, 9)):
        made.server.rows.append((start + number * MINUTE, [1000 + number, None, number, None, None, None]))
    identity = made.feed.identity.model_copy(update={"null_keys": "equal"})
    today, made.feed = made.feed, made.feed.model_copy(update={"identity": identity})
    made.export(made.days)
    made.feed = today
    made.planted, made.expected = f"rows without a key dropped on {day}", frozenset({"certify"})


def _some_file(made: Subject, random: Random) -> Path:
    entry = random.choice(list(made.lake.feed(made.feed).state().files()))
    return Path(made.lake.root, made.lake.feed(made.feed).layout.data(entry.path))


def _rewrite(made: Subject, path: Path, table: pa.Table, what: str) -> None:
    before = path.stat().st_size
    pq.write_table(table, path, compression="gzip")
    # Report and checks look at sizes and footers, not at every byte.
    seen = path.stat().st_size != before
    made.planted = f"{what} in {path.name}"
    made.expected = ALL_JUDGES if seen else ALL_JUDGES - {"report", "checks"}


def _read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


def _row_less(made: Subject, random: Random) -> None:
    path = _some_file(made, random)
    table = _read(path)
    gone = random.randrange(table.num_rows)
    _rewrite(made, path, pa.concat_tables([table.slice(0, gone), table.slice(gone + 1)]), f"row {gone} less")


def _row_twice(made: Subject, random: Random) -> None:
    path = _some_file(made, random)
    table = _read(path)
    again = random.randrange(table.num_rows)
    _rewrite(made, path, pa.concat_tables([table, table.slice(again, 1)]), f"row {again} twice")


def _value_changed(made: Subject, random: Random) -> None:
    path = _some_file(made, random)
    table = _read(path)
    row = random.randrange(table.num_rows)
    numbers = table.column("ID").to_pylist()
    numbers[row] += random.choice([-1, 1]) * random.randint(1, 10**9)
    at = table.schema.get_field_index("ID")
    changed = table.set_column(at, table.schema.field("ID"), pa.array(numbers, pa.int64()))
    _rewrite(made, path, changed, f"value of row {row} changed")


def _committed(change: Callable[[list[tuple[int, Any]], Random], str]) -> Callable[[Subject, Random], None]:
    """Plant a fault that was committed in good order: files are as their manifests say, not as the source."""

    def plant(made: Subject, random: Random) -> None:
        # The source is given the other change, so the lake is what is wrong beside it.
        what = change(made.server.rows, random)
        made.planted, made.expected = f"{what} (committed)", frozenset({"certify"})

    return plant


def _source_has_more(rows: list[tuple[int, Any]], random: Random) -> str:
    time, values = random.choice(rows)
    rows.append((time, [10**6 + random.randrange(1000), *values[1:]]))
    return "a row less"


def _source_has_less(rows: list[tuple[int, Any]], random: Random) -> str:
    rows.pop(random.randrange(len(rows)))
    return "a row more"


def _source_differs(rows: list[tuple[int, Any]], random: Random) -> str:
    at = random.randrange(len(rows))
    time, values = rows[at]
    rows[at] = (time, [values[0] + 10**6, *values[1:]])
    return "a value changed"


def _hours_swapped(rows: list[tuple[int, Any]], random: Random) -> str:
    at = random.randrange(len(rows))
    time, values = rows[at]
    rows[at] = (time - time % MINUTE + random.randint(1, 999), values)
    return "a time changed"


def _clock_ahead(made: Subject, random: Random) -> None:
    """Date the last commit as a machine did whose clock was days ahead, by a release that asked no server."""
    log = made.lake.feed(made.feed).log
    head = log.load().sequence
    manifest = log.manifest(head)
    assert manifest.read is not None
    ahead = timedelta(hours=random.randint(26, 24 * 30))
    read_at = (datetime.now(UTC) + ahead).isoformat(timespec="milliseconds")
    read = msgspec.structs.replace(manifest.read, read_at=read_at, clock="", clock_ahead=0.0)
    dated = msgspec.structs.replace(manifest, read=read)
    path = Path(made.lake.root, log.layout.manifest(head))
    temporary = path.with_suffix(".new")
    temporary.write_bytes(dated.encode())
    temporary.replace(path)
    for derived in (log.layout.checkpoint, log.layout.summary):
        Path(made.lake.root, derived).unlink(missing_ok=True)
    log.recover()
    covered = [date.fromisoformat(count.partition) for count in manifest.counts]
    made.days = Days(covered[0], covered[-1])
    made.planted, made.expected = f"a clock {ahead} ahead", ALL_JUDGES


FAULTS: dict[str, Callable[[Subject, Random], None]] = {
    "row_less": _row_less,
    "row_twice": _row_twice,
    "value_changed": _value_changed,
    "clock_ahead": _clock_ahead,
    "committed_less": _committed(_source_has_more),
    "committed_more": _committed(_source_has_less),
    "committed_change": _committed(_source_differs),
    "committed_time": _committed(_hours_swapped),
    "null_key": lambda made, random: None,  # noqa: ARG005 - planted while the lake is made
}

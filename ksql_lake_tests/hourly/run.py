"""A simulated month: rows come, an export follows, small files are merged, hour after hour."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BufferedReader
from pathlib import Path

import duckdb

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, export_feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake_tests.hourly.figures import Figures, Turn
from ksql_lake_tests.hourly.scene import (
    DERIVED_STATEMENT,
    SERVER,
    STATEMENT,
    Producer,
    feed,
    midnight,
    settings,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run.

    Attributes:
        days: Simulated days.
        exports: Exports a day, evenly spread.
        rows: Rows that come before each.
        extraction: How the stream is read.
        compact: Whether what `ksql-lake compact --open` does is done after each export.
        seed: Of the rows.
    """

    days: int = 30
    exports: int = 24
    rows: int = 40
    extraction: str = "pull"
    compact: bool = True
    seed: int = 1


class _Counting(LocalStorage):
    """A storage that counts the data files it is asked for."""

    opened = 0

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:
        """Open a file."""
        self.opened += key.endswith(".parquet")
        return super().open(key, whole=whole)

    @contextmanager
    def local_copies(self, keys: Collection[str]) -> Iterator[Mapping[str, str]]:
        """Yield the files' paths, to be opened by others."""
        self.opened += len(keys)
        with super().local_copies(keys) as paths:
            yield paths


class Month:
    """One run in a folder of its own.

    Args:
        root: An empty folder for the lake.
        options: What to do.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.root, self.options = root, options
        self.feed = feed(options.extraction)
        self.storage = _Counting(root)
        self.lake = Lake(root)
        self.lake.storage = self.storage
        self.figures = Figures()

    def execute(self) -> Figures:
        """Run, judge, and give the figures."""
        options, figures = self.options, self.figures
        length = timedelta(days=1) / options.exports
        with DevServer.start(arguments=SERVER) as server, KsqlClient(settings(server.url, self.root)) as client:
            client.execute(STATEMENT)
            client.execute(DERIVED_STATEMENT)
            producer = Producer(server.url, options.rows, options.seed)
            for day in range(options.days):
                turns = []
                for part in range(options.exports):
                    begin = midnight(day) + part * length
                    producer.send(begin, length)
                    turns.append(self._turn(client, begin + length))
                figures.days.append(turns)
                figures.metadata.append(_size(self.root / "metadata"))
                figures.derived.append(_size(self.root / "metadata", "*.json", leave_out="commits"))
        state = self.lake.feed(self.feed).state()
        figures.closed = [len(state.files_of(midnight(day).date().isoformat())) for day in range(options.days)]
        figures.judge(compacted=options.compact)
        figures.findings += self._verdict(producer.made)
        return figures

    def _turn(self, client: KsqlClient, now: datetime) -> Turn:
        lake = self.lake.feed(self.feed)
        before, opened = lake.state().sequence, self.storage.opened
        began = time.perf_counter()
        today = (now - timedelta(seconds=1)).date()
        first = max(today - timedelta(days=1), self.feed.start_date)
        result = export_feed(self.feed, client, self.lake, days=Days(first, today))
        if self.options.compact:
            list(lake.compact(now=now, open_files=OPEN_FILES))
        seconds = time.perf_counter() - began
        state = self.lake.feed(self.feed).state()
        numbers = range(before + 1, state.sequence + 1)
        return Turn(
            seconds=seconds,
            received=result.received,
            added=sum(part.new for part in result.partitions),
            opened=self.storage.opened - opened,
            commits=len(numbers),
            manifests=sum(self.storage.size(lake.layout.manifest(number)) or 0 for number in numbers),
            files=max(len(part.files) for part in state.partitions.values()),
        )

    def _verdict(self, made: int) -> Iterator[str]:
        """Hold every row that was made against what any reader finds, and have the doctor look at it."""
        pattern = f"{self.root}/streams/{self.feed.name}/**/*.parquet"
        query = 'SELECT "ID", count(*) FROM read_parquet(?, hive_partitioning = false) GROUP BY 1'
        with duckdb.connect() as connection:
            held = Counter(dict(connection.execute(query, [pattern]).fetchall()))
        expected = Counter(range(made))
        if missing := expected - held:
            yield f"{missing.total()} rows are missing, e.g. {list(missing)[:5]}"
        if double := held - expected:
            yield f"{double.total()} rows are there twice, e.g. {list(double)[:5]}"
        lake = self.lake.feed(self.feed)
        for finding in examine(lake.storage, lake.layout).findings:
            yield f"{finding.key}: {finding.problem.value} ({finding.detail})"


def _size(folder: Path, pattern: str = "*", *, leave_out: str = "") -> int:
    found = (path for path in folder.rglob(pattern) if path.is_file() and path.parent.name != leave_out)
    return sum(path.stat().st_size for path in found)

"""One soak: who runs when, who is killed, and what the lake is held to in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import duckdb
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import export_feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor.examination import examine
from ksql_lake_tests.soak.child import PATIENCE, Child
from ksql_lake_tests.soak.figures import Figures
from ksql_lake_tests.soak.scene import STREAM, Producer, feeds, settings, write_statements

_FAULTS = ("cut_row", "cut_chunk", "reset", "error", "no_final")


@dataclass(frozen=True)
class Options:
    """The options of a soak.

    Attributes:
        seconds: How long it goes on.
        rounds: How many rounds at most; None leaves it to the time.
        seed: Of producer, kills and faults.
        batch: Rows a round adds.
        kills: Share of the short processes that are killed.
        quiet: Rounds of the long-running process after the last row and kill, by which growth is judged.
    """

    seconds: float
    rounds: int | None = None
    seed: int = 1
    batch: int = 100
    kills: float = 0.6
    quiet: int = 90


class Soak:
    """A soak in a folder of its own.

    Args:
        folder: An empty folder.
        options: What to do.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.root = folder / "lake"
        self.random = Random(options.seed)
        self.today = datetime.now(UTC).date()
        self.producer = Producer(options.seed, self.today)
        self.figures = Figures()
        self._lasting = 2.0

    def execute(self) -> Figures:
        """Run, judge, and give the figures."""
        began = time.monotonic()
        with DevServer.start(data=write_statements(self.folder / "server")) as server:
            self._produce(server.url)
            serving, watching = self._child("serve", server.url), self._child("watch", server.url)
            try:
                rounds = 0
                while time.monotonic() - began < self.options.seconds and rounds != self.options.rounds:
                    self._round(server.url)
                    rounds += 1
                    for child in (serving, watching):
                        self._hear(child)
                self._rest(serving)
            finally:
                for child in (serving, watching):
                    code = child.stop()
                    self._hear(child)
                    if code:
                        self.figures.findings["failed"].append(f"{child.task} ended with {code}: {self._log()}")
            requests.delete(f"{server.url}/devserver/faults", timeout=PATIENCE).raise_for_status()
            for kind, text in self._verdict(server.url):
                self.figures.findings[kind].append(text)
        self.figures.judge_growth()
        self.figures.rows = self.producer.made.total()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _rest(self, serving: Child) -> None:
        """Let the long-running process go on with nothing new to land: what grows now is no data."""
        enough = len(self.figures.sizes) + self.options.quiet
        self.figures.loud = len(self.figures.sizes)
        while len(self.figures.sizes) < enough and serving.code is None:
            time.sleep(0.1)
            self._hear(serving)

    def _round(self, url: str) -> None:
        """New rows, now and then a fault of the server, and a process that may be killed."""
        self._produce(url)
        if self.random.random() < 0.3:
            fault = {"kind": self.random.choice(_FAULTS), "after_rows": self.random.randrange(50), "times": 1}
            requests.put(f"{url}/devserver/faults", json=[fault], timeout=PATIENCE).raise_for_status()
            self.figures.counts["server faults"] += 1
        task = "upkeep" if self.random.random() < 0.3 else "export"
        child = self._child(task, url)
        child.wait_ready()
        self.figures.counts[f"{task}s started"] += 1
        began = time.monotonic()
        if self.random.random() < self.options.kills and not child.wait(self.random.random() * self._lasting):
            child.kill()
            self.figures.counts[f"{task}s killed"] += 1
        elif not child.wait(PATIENCE):
            child.kill()
            self.figures.findings["failed"].append(f"{task} did not end within {PATIENCE:g} s")
        elif child.code:
            self.figures.findings["failed"].append(f"{task} ended with {child.code}: {self._log()}")
        else:
            self._lasting = 0.8 * self._lasting + 0.2 * (time.monotonic() - began)
        self._hear(child)

    def _produce(self, url: str) -> None:
        rows = self.producer.batch(self.options.batch)
        answer = requests.post(f"{url}/devserver/sources/{STREAM}/rows", data=rows, timeout=PATIENCE)
        answer.raise_for_status()
        self.figures.counts["batches"] += 1

    def _child(self, task: str, url: str) -> Child:
        return Child(task, [url, str(self.root), self.today.isoformat()], self.folder / "children.log")

    def _log(self) -> str:
        return (self.folder / "children.log").read_text(errors="replace")[-1500:]

    def _hear(self, child: Child) -> None:
        figures = self.figures
        while child.messages:
            match child.messages.popleft():
                case {"what": "size", "rss": int(rss), "files": int(files), "threads": int(threads)}:
                    figures.sizes.append((rss, files, threads))
                case {"what": "watched", "figures": dict(seen)}:
                    figures.counts.update(seen)
                case {"what": "torn" | "double" | "missing" | "failed" as kind, "text": str(text)}:
                    figures.findings[kind].append(f"{child.task}: {text}")
                case {"what": str(what)}:
                    figures.counts[what] += 1

    def _verdict(self, url: str) -> Iterator[tuple[str, str]]:
        """Export what is left, hold the lake against what was made, and have the doctor look at it."""
        lake, (stream, table) = Lake(self.root), feeds(self.today)
        with KsqlClient(settings(url, self.root)) as client:
            for feed in (stream, table):
                # Twice: the second commit clears what a killed process staged for the first one's number.
                for _ in range(2):
                    export_feed(feed, client, lake)
        held = Counter(dict(_grouped(self.root / "streams" / stream.name, "ID")))
        if missing := self.producer.made - held:
            yield "missing", f"{missing.total()} rows, e.g. {list(missing)[:5]}"
        if double := held - self.producer.made:
            yield "double", f"{double.total()} rows, e.g. {list(double)[:5]}"
        newest = lake.feed(table).state().partition_keys()[-1]
        totals = lake.feed(table).dataset(partitions=[newest]).to_table().to_pylist()
        if {row["NOTE"]: row["N"] for row in totals} != self.producer.note_counts():
            yield "missing", f"version {newest} is not the table"
        for feed in (stream, table):
            one = lake.feed(feed)
            self.figures.counts["commits"] += one.state().sequence
            for finding in examine(one.storage, one.layout).findings:
                yield "unsound", f"{finding.key}: {finding.problem.value} ({finding.detail})"


def _grouped(folder: Path, column: str) -> list[tuple[int, int]]:
    """Rows per value, counted by DuckDB from the files as they lie there."""
    pattern = f"{folder}/**/*.parquet"
    query = f'SELECT "{column}", count(*) FROM read_parquet(?, hive_partitioning = false) GROUP BY 1'
    with duckdb.connect() as connection:
        return connection.execute(query, [pattern]).fetchall()

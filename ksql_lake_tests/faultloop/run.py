"""The conductor of a fault loop: rows, an export under fire, and what the lake holds afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ksql_lake.devserver.process import DevCluster
from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import export_feed
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import version_number
from ksql_lake_tests.faultloop.hits import Hits
from ksql_lake_tests.faultloop.scene import STREAMS, TABLES, Truth, feeds, settings, write_statements

ARGUMENTS = [
    "--session-seconds", "1", "--phase", "restoring=0.4", "--phase", "starting=0.3", "--phase", "locating=0.3",
    "--phase", "stopping=1.5",
]  # fmt: skip


@dataclass
class Figures:
    """What a loop found.

    Attributes:
        findings: Rows lost, doubled or uncommitted, versions short, feeds that did not come back.
        landed: Rounds in which at least one feed landed.
        errors: How often a feed failed, by the error's type.
        hits: How often each hit and each switch came.
        last_error: What each feed failed with last.
    """

    rounds: int = 0
    landed: int = 0
    versions: int = 0
    rows: int = 0
    findings: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    last_error: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The figures as text."""
        return [
            f"{self.rounds} rounds, {self.landed} landed something, {self.versions} versions, {self.rows} rows",
            f"failures: {dict(self.errors.most_common())}",
            f"hits: {dict(self.hits.most_common())}",
            f"findings: {len(self.findings)}",
            *self.findings,
        ]


class FaultLoop:
    """One loop over one lake.

    Args:
        root: An empty folder.
        rounds: How many.
        seed: Of rows, hits and switches.
        only: Names of the switches that may flip; None means all.
        lag_reporting: Nodes say "not here" with a status instead of in a body.
    """

    def __init__(
        self,
        root: Path,
        *,
        rounds: int,
        seed: int,
        only: tuple[str, ...] | None = None,
        lag_reporting: bool = False,
    ) -> None:
        self._root = root
        self._rounds = rounds
        self._random = Random(seed)
        self._only = only
        self._arguments = [*ARGUMENTS, *(["--lag-reporting"] if lag_reporting else [])]
        self._feeds = feeds()
        self.figures = Figures()

    def execute(self) -> Figures:
        """Run it."""
        data = write_statements(self._root / "data")
        with DevCluster.start(data=data, arguments=self._arguments) as cluster:
            truth = Truth(self._random.randrange(1 << 30), cluster.urls)
            hits = Hits(cluster, self._random, self._only)
            for _ in range(self._rounds):
                self._round(cluster, truth, hits)
            self._come_back(cluster, truth)
        return self.figures

    def _round(self, cluster: DevCluster, truth: Truth, hits: Hits) -> None:
        # Before the rows: a query that is held back keeps what it has read.
        self.figures.hits.update(hits.flip())
        truth.produce(self._random.randint(20, 200))
        transaction = truth.begin(self._random.randint(1, 20))
        if self._random.random() < 0.8:  # else it stays open for the first seconds of the export
            truth.end(transaction, commit=self._random.random() < 0.5)
            transaction = ""
        before = truth.snapshot()
        exporter = threading.Thread(target=self._export, args=(cluster.urls, before, truth))
        exporter.start()
        self.figures.hits[hits.hit().split()[0]] += 1
        hits.calm(holding=True)  # the others last until they are used up
        if transaction:
            truth.end(transaction, commit=self._random.random() < 0.5)
        exporter.join()
        hits.calm()
        self.figures.rounds += 1

    def _export(
        self, urls: list[str], before: tuple[set[int], dict[str, dict[str, int]]], truth: Truth
    ) -> None:
        """Export every feed once, all at the same time, and look at what each has landed."""
        with ThreadPoolExecutor(len(self._feeds)) as pool:
            landed = list(pool.map(lambda feed: self._exported(feed, urls), self._feeds))
        self.figures.landed += any(landed)
        for feed, done in zip(self._feeds, landed, strict=True):
            if done:
                self._judge(feed, before, truth)

    def _exported(self, feed: Feed, urls: list[str]) -> bool:
        try:
            with KsqlClient(settings(urls, self._root / "lake")) as client:
                export_feed(feed, client, Lake(self._root / "lake"))
        except KsqlLakeError as error:
            self.figures.errors[f"{feed.name}: {type(error).__name__}"] += 1
            self.figures.last_error[feed.name] = str(error)
            return False
        return True

    def _judge(self, feed: Feed, before: tuple[set[int], dict[str, dict[str, int]]], truth: Truth) -> None:
        events, tables = before
        lake = Lake(self._root / "lake").feed(feed)
        if feed.name in STREAMS:
            found = lake.dataset().to_table(columns=["ID"])["ID"].to_pylist()
            after = truth.snapshot()[0]
            self._find(feed, "lost", events - set(found))
            self._find(feed, "uncommitted", set(found) - after)
            self._find(feed, "doubled", {number for number, times in Counter(found).items() if times > 1})
            self.figures.rows = max(self.figures.rows, len(found))
        else:
            key = TABLES[feed.name]
            newest = max(lake.state().partitions, key=version_number)
            version = lake.dataset(partitions=[newest]).to_table(columns=[key, "N"])
            held = dict(zip(version[key].to_pylist(), version["N"].to_pylist(), strict=True))
            most = truth.snapshot()[1][feed.name]
            least = tables[feed.name]
            self._find(feed, "short", {name for name, count in least.items() if held.get(name, 0) < count})
            self._find(feed, "too many", {name for name, count in held.items() if count > most.get(name, 0)})
            self._find(feed, "doubled", set() if len(held) == version.num_rows else {version.num_rows})
            self.figures.versions += 1

    def _find(self, feed: Feed, what: str, found: set[int] | set[str]) -> None:
        if found:
            some = ", ".join(map(str, sorted(found, key=str)[:3]))
            self.figures.findings.append(
                f"round {self.figures.rounds + 1}: {feed.name}: {len(found)} {what}, e.g. {some}"
            )

    def _come_back(self, cluster: DevCluster, truth: Truth) -> None:
        """Once the faults stop every feed lands within two exports."""
        before = truth.snapshot()
        missing = [feed for feed in self._feeds if not self._exported(feed, cluster.urls)]
        missing = [feed for feed in missing if not self._exported(feed, cluster.urls)]
        for feed in self._feeds:
            if feed in missing:
                why = self.figures.last_error[feed.name]
                self.figures.findings.append(f"{feed.name} does not land although the faults stopped: {why}")
            else:
                self._judge(feed, before, truth)

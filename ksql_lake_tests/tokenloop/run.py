"""The conductor of a token loop: rows, a hit, an export under fire, and what the lake holds afterwards."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from ksql_lake.devserver.process import DevCluster
from ksql_lake.ksqldb.tokens import SCALABLE
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.continued import Continued
from ksql_lake.lake.commit.manifest import decode_manifest
from ksql_lake_tests.tokenloop.exporting import Export
from ksql_lake_tests.tokenloop.world import ARGUMENTS, DERIVED, SOURCE, World, feed

SWITCHES: tuple[dict[str, object], ...] = (
    {"kind": "not_scalable"},
    {"kind": "catch_ups_full"},
    {"kind": "repeated_batch", "rows": 30},
    {"kind": "overlapping_batch", "rows": 5},
    {"kind": "short_batch", "rows": 3},
    {"kind": "skipped_batch", "rows": 5},
    {"kind": "cut_row", "after_rows": 15},
    {"kind": "cut_chunk", "after_rows": 600},
    {"kind": "reset", "after_rows": 40},
    {"kind": "failure", "after_rows": 2},
    {"kind": "busy"},
    {"kind": "drop"},
)
EXPECTED = ("ServerUnavailableError", "IncompleteResponseError", "QueryFailedError", "ServerBusyError")
"""What an export under fire may end with: each can be tried again."""


@dataclass
class Figures:
    """What a loop found.

    Attributes:
        findings: Rows lost, doubled or unknown, errors that cannot be tried again, and readings without a name.
        how: How often rows landed in which way.
        fell_back: How often which reason was given.
        errors: How often an export failed, by the error's type.
        hits: How often each hit came.
    """

    rounds: int = 0
    rows: int = 0
    findings: list[str] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)
    fell_back: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """The figures as text."""
        return [
            f"{self.rounds} rounds, {self.rows} rows",
            f"read: {dict(self.how.most_common())}",
            f"failures: {dict(self.errors.most_common())}",
            f"hits: {dict(self.hits.most_common())}",
            *(f"fell back {count} times: {why}" for why, count in self.fell_back.most_common()),
            f"findings: {len(self.findings)}",
            *self.findings,
        ]


def _way(told: dict[str, Any]) -> str:
    """How rows landed."""
    if told["fell_back"]:
        return "fell back"
    if told["pulled"]:
        return "pulled"
    return "tokens" if str(told["query"]).startswith(SCALABLE) else "door"


class TokenLoop:
    """One loop over one lake.

    Args:
        root: An empty folder.
        rounds: How many.
        seed: Of rows and hits.
        only: Names of the hits that may come; None means all.
        loud: Print each round.
    """

    def __init__(
        self,
        root: Path,
        *,
        rounds: int,
        seed: int,
        only: tuple[str, ...] | None = None,
        loud: bool = False,
    ) -> None:
        self._root = root / "lake"
        self._rounds = rounds
        self._random = Random(seed)
        self._loud = loud
        self._remade = False
        self.figures = Figures()
        named: dict[str, Callable[[World], None]] = {
            "calm": lambda _world: None,
            "switch": self._switch,
            "kill client": self._kill_client,
            "kill server": self._kill_server,
            "produce": self._produce,
            "doubled": lambda world: world.cluster.change_log("D", repeat={self._random.randrange(3): 7}),
            "gap": lambda world: world.cluster.change_log("S", gap={self._random.randrange(3): 2}),
            "trim": self._trim,
            "insert": lambda world: world.insert(),
            "remade stream": lambda world: world.remake(source=False),
            "remade source": self._remake_source,
            "tampered": self._tamper,
            "pulled": lambda _world: None,
        }
        self._hits = {name: hit for name, hit in named.items() if only is None or name in only}
        self._export: Export | None = None

    def execute(self) -> Figures:
        """Run it."""
        with DevCluster.start(arguments=ARGUMENTS) as cluster:
            world = World(cluster, self._random)
            world.ksql(SOURCE)
            world.ksql(DERIVED)
            for _ in range(self._rounds):
                self._round(world)
            self._come_back(world)
        return self.figures

    def _round(self, world: World) -> None:
        self.figures.rounds += 1
        name = self._random.choice(list(self._hits))
        self.figures.hits[name] += 1
        began = time.monotonic()
        if name == "remade source" or (name == "remade stream" and world.strangers):
            world.strangers = 0
            self._landed(world, self._run(world))  # what is in it goes with it
        early = name in ("switch", "doubled", "gap", "trim", "remade stream", "remade source", "tampered")
        # Rows that go with their source before they could be read do not count as lost.
        if early and name != "remade source" and self._random.random() < 0.5:
            world.produce(1200)
            self._hits[name](world)
        else:
            if early:
                self._hits[name](world)
            world.produce(1200)
        before = set(world.written)
        self._export = Export.start(self._root, world.url, pulled=name == "pulled")
        if not early:
            self._hits[name](world)
        told = self._export.end()
        world.settle()
        world.cluster.set_faults()
        self._take(world, told, before)
        if self._loud:
            print(self.figures.rounds, name, told, f"{time.monotonic() - began:.1f} s", flush=True)  # noqa: T201

    def _take(self, world: World, told: dict[str, Any], before: set[int]) -> None:
        error = told.get("error", "")
        if error == "TopicRecreatedError" and self._remade:
            self.figures.errors[error] += 1
            self._remade = False
            told = self._run(world, new_topic=True)
            error = told.get("error", "")
        if error:
            self.figures.errors[error] += 1
            if error not in EXPECTED:
                self._find(f"{error}: {told['text']}")
            return
        if told:
            self._judge(world, told, before)

    def _judge(self, world: World, told: dict[str, Any], before: set[int]) -> None:
        lake = Lake(self._root).feed(feed())
        held = lake.dataset().to_table(columns=["ID"])["ID"].to_pylist() if lake.state().partitions else []
        found = Counter(held)
        way = _way(told)
        # What the derived stream does not hold yet no pull query can bring.
        lost = before - set(found) if way in ("tokens", "door") else set()
        doubled = [number for number, times in found.items() if times > 1]
        unknown = set(found) - world.written
        for what, some in (("lost", sorted(lost)), ("doubled", sorted(doubled)), ("unknown", sorted(unknown))):
            if some:
                self._find(f"{len(some)} {what}, e.g. {some[:3]}: {told}")
        self._remade = self._remade and way not in ("tokens", "door")
        self.figures.rows = len(found)
        self.figures.how[f"{way}, {told['level']}"] += 1
        if told["fell_back"]:
            self.figures.fell_back[re.sub(r"[\d,]+|\[[^\]]*\]|_[0-9a-f-]{8,}", "N", told["fell_back"])] += 1

    def _come_back(self, world: World) -> None:
        """Once the hits stop, the second export reads from tokens, and all is there."""
        for _ in range(3):
            world.produce(50)
            before = set(world.written)
            told = self._run(world)
            self._take(world, told, before)
        if not str(told.get("query")).startswith(SCALABLE):
            self._find(f"does not come back to tokens: {told}")

    def _run(self, world: World, *, new_topic: bool = False) -> dict[str, Any]:
        return Export.start(self._root, world.url, new_topic=new_topic).end()

    def _landed(self, world: World, told: dict[str, Any]) -> None:
        """Go on until what is there has landed."""
        while "new" not in told:
            told = self._run(world, new_topic=told.get("error") == "TopicRecreatedError")
        self._judge(world, told, set(world.written))

    def _find(self, text: str) -> None:
        self.figures.findings.append(f"round {self.figures.rounds}: {text}")
        if self._loud:
            print("FOUND", self.figures.findings[-1], flush=True)  # noqa: T201

    def _switch(self, world: World) -> None:
        chosen = dict(self._random.choice(SWITCHES))
        if self._random.random() < 0.5 and str(chosen["kind"]).endswith("batch"):
            chosen["after_rows"] = self._random.randint(0, 700)
        chosen["times"] = self._random.choice((1, 2, 20))
        self.figures.hits[f"switch {chosen['kind']}"] += 1
        world.cluster.set_faults(chosen, node=1)

    def _kill_client(self, _world: World) -> None:
        time.sleep(self._random.uniform(0, 0.6))
        if self._export is not None:
            self._export.kill()

    def _kill_server(self, world: World) -> None:
        time.sleep(self._random.uniform(0, 0.5))
        world.restart()

    def _produce(self, world: World) -> None:
        world.produce(600)

    def _remake_source(self, world: World) -> None:
        self._remade = True
        world.remake(source=True)

    def _trim(self, world: World) -> None:
        """Let retention take from the derived stream what was read, often with the record before a mark."""
        marks = self._marks()
        if marks is not None and not marks.out:
            world.cluster.change_log("D", trim={number: mark.next for number, mark in enumerate(marks.sink)})

    def _tamper(self, _world: World) -> None:
        """Change the newest marks, behind a digest of the manifest that fits."""
        lake = Lake(self._root).feed(feed())
        sequence = lake.state().sequence
        if not sequence:
            return
        path = self._root / lake.layout.manifest(sequence)
        manifest = decode_manifest(path.read_bytes(), path=str(path))
        if manifest.continued is None:
            return
        changed = self._changed(manifest.continued)
        path.chmod(0o600)
        path.write_bytes(msgspec.structs.replace(manifest, continued=changed).encode())
        (self._root / lake.layout.checkpoint).unlink(missing_ok=True)

    def _changed(self, marks: Continued) -> Continued:
        """Return wrong marks of the source without a new digest, or wrong marks of the stream with one."""
        if self._random.random() < 0.5:
            number, mark = self._random.choice(list(marks.source.items()))
            wrong = msgspec.structs.replace(mark, next=mark.next + 3, ahead=[])
            return msgspec.structs.replace(marks, source={**marks.source, number: wrong})
        step = self._random.choice((-5, -1, 1, 5))
        sink = [msgspec.structs.replace(mark, next=max(0, mark.next + step)) for mark in marks.sink]
        return msgspec.structs.replace(marks, sink=sink).sealed()

    def _marks(self) -> Continued | None:
        return Lake(self._root).feed(feed()).state().continued

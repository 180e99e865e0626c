"""A crash run: the parent that starts a reader and writers, kills and stops them, and judges the lake.

It must have no threads of its own until the last process is forked. It kills only what it started, and every
wait has an end.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ksql_lake.lake.layout import FeedLayout
from ksql_lake_tests.lake.crashing.board import Board
from ksql_lake_tests.lake.crashing.figures import AT_RANDOM, Figures
from ksql_lake_tests.lake.crashing.source import Source
from ksql_lake_tests.lake.crashing.traps import POINTS, STORE_POINTS, Trap, any_trap
from ksql_lake_tests.lake.crashing.verdict import judge
from ksql_lake_tests.lake.crashing.watcher import watch
from ksql_lake_tests.lake.crashing.writers import FEEDS, Opening, Writer, fork, open_feed
from ksql_lake_tests.stores.places import Place

for _name in (
    "ksql_lake.lake.storage.object_storage",
    "pandas",
    "numpy.random",
    "pyarrow.pandas_compat",
    "concurrent.futures.thread",
    "_strptime",
):
    # Loaded on first use by what writers do; loaded here once, not in every one of hundreds of processes.
    importlib.import_module(_name)

_TICKS = 240
_LOOK_SECONDS = 0.002
_ARMED_SECONDS = 2.5
"""How long an armed writer may live before it is killed where it happens to be."""
_ASLEEP_AT_ONCE = 3
_END_SECONDS = 20.0
_COPY_SECONDS = 4.0
"""SeaweedFS tries a killed writer's copy again after 1 s and 2.5 s, if its source was removed meanwhile."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to do.

    Attributes:
        kills: How many processes to kill.
        seed: Of everything random (what is scheduled when is not).
        writers: How many writers are awake at a time.
        seconds: After this many the run ends with as many kills as it has.
        until_found: Whether to end at the first finding of the reader or a writer.
        points: Only these points are armed; empty means all in turn.
    """

    kills: int
    seed: int = 1
    writers: int = 3
    seconds: float = 120.0
    until_found: bool = False
    points: tuple[str, ...] = ()


@dataclass(slots=True)
class _Child:
    """A writer process.

    Attributes:
        trap: Its trap, if it has one.
        label: What its death counts as.
        due: When to kill it wherever it is.
        wake: When to continue it, while it is stopped.
    """

    trap: Trap | None
    label: str
    due: float
    wake: float | None = None


class Run:
    """One crash run over one lake.

    Args:
        root: The lake's folder or address; empty or absent.
        options: What to do.
        opening: How writers open a feed.
    """

    def __init__(self, root: str | Path, options: Options, *, opening: Opening = open_feed) -> None:
        self.root = str(root)
        self.options = options
        self.random = Random(options.seed)
        self.source = Source(options.seed, ticks=_TICKS)
        self.board = Board()
        self.points = POINTS if Place(self.root).local else STORE_POINTS
        self.figures = Figures(rows=len(self.source.identity), points=self.points)
        self.writer = Writer(self.root, self.source, self.board, opening)
        # What takes a millisecond on a disk takes several in a store.
        self.patience = 1.0 if Place(self.root).local else 4.0
        self._children: dict[int, _Child] = {}
        self._acknowledged: list[dict[str, Any]] = []
        self._started = 0

    def execute(self) -> Figures:
        """Run, judge, and give the figures."""
        began = time.monotonic()
        reader = fork(lambda: watch(self.root, FEEDS, self.source, self.board))
        try:
            while self._goes_on(time.monotonic() - began):
                self._look()
                time.sleep(_LOOK_SECONDS)
        finally:
            self._end(reader)
        if not Place(self.root).local:
            time.sleep(_COPY_SECONDS)
        for kind, text in judge(self.root, self.source, self._acknowledged, tick=self.board.tick):
            self.figures.findings[kind].append(text)
        self.figures.commits = sum(
            len(Place(self.root).keys(FeedLayout(feed.kind, feed.name).commits)) for feed in FEEDS
        )
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _goes_on(self, seconds: float) -> bool:
        if self.options.until_found and not self.figures.clean:
            return False
        return self.figures.kills.total() < self.options.kills and seconds < self.options.seconds

    def _look(self) -> None:
        """One turn: hear messages, bury the dead, wake and kill whose time has come, start new ones."""
        self._hear()
        self._wait()
        now = time.monotonic()
        for pid, child in self._children.items():
            if child.wake is not None and now >= child.wake:
                child.wake = None
                child.due = now + self.patience * self.random.uniform(0.05, 0.6)
                os.kill(pid, signal.SIGCONT)
            elif child.wake is None and now >= child.due:
                child.label = AT_RANDOM
                os.kill(pid, signal.SIGKILL)
        asleep = sum(child.wake is not None for child in self._children.values())
        for _ in range(self.options.writers - (len(self._children) - asleep)):
            self._start(asleep < _ASLEEP_AT_ONCE)
        self.board.tick = min(self.source.last, _TICKS * self.figures.kills.total() // self.options.kills)

    def _start(self, may_sleep: bool) -> None:
        """Start a writer: every second one with a deadly trap, of the others every second one falls asleep."""
        self._started += 1
        now, trap, label = time.monotonic(), None, AT_RANDOM
        due = now + self.patience * self.random.uniform(0.05, 0.8)
        points = self.options.points or self.points
        if self._started % 2:
            label = points[self._started // 2 % len(points)]
            trap, due = any_trap(self.random, [label]), now + self.patience * _ARMED_SECONDS
        elif may_sleep and self.random.random() < 0.5:
            trap, due = any_trap(self.random, self.points, stop=True), now + self.patience * _ARMED_SECONDS
        seed = self.random.randrange(1 << 30)
        pid = fork(lambda: self.writer.work(seed, trap))
        self._children[pid] = _Child(trap, label, due)

    def _wait(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is None:
                raise RuntimeError(f"the reader ended early: {status:#x}")
            if os.WIFSTOPPED(status):
                self.figures.stops += 1
                child.wake = time.monotonic() + self.random.uniform(0.05, 1.2)
                continue
            del self._children[pid]
            if os.WIFSIGNALED(status):
                self.figures.kills[child.label] += 1
            elif os.WEXITSTATUS(status):
                self.figures.findings["failed"].append(f"a writer ended with {os.WEXITSTATUS(status)}")

    def _hear(self) -> None:
        figures = self.figures
        for message in self.board.heard():
            match message:
                case {"what": "export" | "version"}:
                    self._acknowledged.append(message)
                case {"what": "numbers", "lost": int(lost)}:
                    figures.lost += lost
                case {"what": "conflict"}:
                    figures.conflicts += 1
                case {"what": "watched", "figures": dict(read)}:
                    figures.read.update(read)
                case {"what": str(kind), "text": str(text)}:
                    figures.findings[kind].append(f"{message.get('feed', '')}: {text}")
                case _:
                    figures.findings["failed"].append(f"an unknown message: {message}")

    def _end(self, reader: int) -> None:
        """Kill the writers, let the reader finish, and hear the last messages."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid, child in self._children.items():
            os.waitpid(pid, 0)
            self.figures.kills[child.label if child.wake else AT_RANDOM] += 1
        self._children.clear()
        self.board.end()
        last = time.monotonic() + _END_SECONDS
        while os.waitpid(reader, os.WNOHANG)[0] == 0:
            self._hear()
            if time.monotonic() > last:
                os.kill(reader, signal.SIGKILL)
                self.figures.findings["failed"].append("the reader did not end")
            time.sleep(_LOOK_SECONDS)
        self._hear()

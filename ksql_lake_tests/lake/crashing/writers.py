"""A writer of a crash run: exports windows of the source, merges days and removes versions until it is killed.

It works on four feeds: `events`, which is only appended to; `merged`, whose days are also compacted, as closed
ones and as open ones; `continued`, which is read on from the marks of its last commit, and compacted too; and
the table `users`, whose old versions are removed. About every second time it takes the feed's lock. It reports
each confirmed commit to the parent, which then expects it in the lake.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pyarrow as pa

from ksql_lake.errors import ConflictError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import Commit, FeedLake, Lake, ReadFacts, Staging
from ksql_lake.lake.commit.continued import Continuation, Continued, SinkMark, SourceMark
from ksql_lake.lake.commit.log import StepHook, no_step
from ksql_lake.lake.commit.marks import Pushed
from ksql_lake_tests.lake.crashing.board import Board
from ksql_lake_tests.lake.crashing.source import DAYS, PER_TICK, Source, snapshot, window
from ksql_lake_tests.lake.crashing.traps import Trap
from ksql_lake_tests.lake.landing import EVENTS, FIRST, USERS, stream_feed, table_feed

EVENTS_FEED = stream_feed()
MERGED_FEED = stream_feed(name="merged")
CONTINUED_FEED = stream_feed(name="continued")
USERS_FEED = table_feed(retention=3)
FEEDS: tuple[Feed, ...] = (EVENTS_FEED, MERGED_FEED, CONTINUED_FEED, USERS_FEED)

Opening = Callable[[str | Path, Feed, StepHook], FeedLake]
"""How a writer opens a feed: the product's way, or with one of its guards taken out."""

_ROUNDS = 200
_PARENT_DEATH_SIGNAL = 1
_LOCK_SECONDS = 0.3
_BATCH_ROWS = 200
_LATER = datetime(2025, 2, 1, 12, tzinfo=UTC)
_EARLY = datetime.combine(FIRST, datetime.min.time(), UTC)
_READ_AT = _LATER.isoformat(timespec="milliseconds")
_CLEARING = {
    "remove",
    *(f"{side} {call}" for side in ("before", "after") for call in ("unlink", "rmdir", "delete")),
}


def open_feed(root: str | Path, feed: Feed, on_step: StepHook) -> FeedLake:
    """Open a feed's lake as everyone does."""
    return Lake(root, on_step=on_step).feed(feed)


@dataclass(frozen=True, slots=True)
class Writer:
    """What every writer process of a run works with."""

    root: str | Path
    source: Source
    board: Board
    opening: Opening = open_feed

    def work(self, seed: int, trap: Trap | None) -> None:
        """Work until the run is over; a trap may spring at any moment."""
        logging.disable()
        random, steps = Random(seed), Counter[str]()
        spring = trap.arm() if trap else no_step

        def on_step(name: str) -> None:
            steps[name] += 1
            spring(name)

        clearing = 0.6 if trap and trap.point in _CLEARING else 0.25
        for _ in range(_ROUNDS):
            if self.board.over:
                return
            (feed,) = random.choices(FEEDS, weights=(4, 4, 3, 2))
            lake = self.opening(self.root, feed, on_step)
            try:
                with self._lock(lake, random):
                    if feed is EVENTS_FEED or random.random() > clearing:
                        self._export(lake, random, on_step)
                    else:
                        self._clear(lake, random)
            except ConflictError as error:
                self.board.say(what="conflict", text=error.message)
            except Exception:  # noqa: BLE001 - whatever else a writer meets is what the run is to find
                self.board.say(what="failed", feed=feed.name, text=traceback.format_exc()[-3_000:])
            self.board.say(what="numbers", lost=steps["commit"] - steps["committed"])
            steps.clear()

    def _lock(self, lake: FeedLake, random: Random) -> AbstractContextManager[None]:
        return lake.exclusive(wait=_LOCK_SECONDS) if random.random() < 0.5 else nullcontext()

    def _export(self, lake: FeedLake, random: Random, on_step: StepHook) -> None:
        tick = self.board.tick
        if lake.feed is USERS_FEED:
            export_table(lake, tick, on_step=on_step, say=self.board.say)
            return
        if lake.feed is CONTINUED_FEED and random.random() < 0.8:
            export_on(lake, self.source, tick, on_step=on_step, say=self.board.say)
            return
        first = random.randrange(DAYS)
        days = first, min(first + random.randrange(DAYS), DAYS - 1)
        export_days(lake, self.source, tick, days, on_step=on_step, say=self.board.say)

    def _clear(self, lake: FeedLake, random: Random) -> None:
        if lake.feed is USERS_FEED:
            lake.apply_retention()
        elif random.random() < 0.5:
            merge(lake)
        else:
            merge_open(lake)


def no_word(**_message: object) -> None:
    """Send no message."""


def export_days(
    lake: FeedLake,
    source: Source,
    tick: int,
    days: tuple[int, int],
    *,
    on_step: StepHook = no_step,
    say: Callable[..., None] = no_word,
) -> None:
    """Export days of the source as they are at a tick, and say so once it is committed."""
    dates = window(*days)
    facts = ReadFacts(
        source="EVENTS",
        statement="SELECT * FROM EVENTS;",
        read_at=_READ_AT,
        first_day=dates[0].isoformat(),
        last_day=dates[1].isoformat(),
    )
    with lake.stage(EVENTS, read=facts, days=dates) as staging:
        commit = _land(staging, source.rows(tick, *days), on_step)
    say(what="export", feed=lake.feed.name, commit=commit.sequence, tick=tick, days=days)


def export_on(
    lake: FeedLake,
    source: Source,
    tick: int,
    *,
    on_step: StepHook = no_step,
    say: Callable[..., None] = no_word,
) -> None:
    """Export what is new at a tick from the last commit's marks on, or everything where they hold no longer."""
    state, end = lake.state(), (tick + 1) * PER_TICK
    held = state.continued
    fresh = held is not None and not held.out
    first = held.source[0].next if held is not None and fresh else 0
    end = max(first, end)
    dates = window(0, DAYS - 1)
    facts = ReadFacts(
        source="EVENTS",
        statement="SELECT * FROM EVENTS EMIT CHANGES;",
        read_at=_READ_AT,
        first_day=dates[0].isoformat(),
        last_day=dates[1].isoformat(),
    )
    marks = Continued(query="CSAS_EVENTS_1", sink=[SinkMark(end)], source={0: SourceMark(0, end, end - 1)})
    pushed = Pushed(continuation=Continuation(marks.sealed(), state.reading, fresh))
    with lake.stage(EVENTS, read=facts, days=dates) as staging:
        commit = _land(staging, source.born_between(first, end), on_step, pushed=pushed)
    say(what="export", feed=lake.feed.name, commit=commit.sequence, tick=tick, days=(0, DAYS - 1))


def export_table(
    lake: FeedLake, tick: int, *, on_step: StepHook = no_step, say: Callable[..., None] = no_word
) -> None:
    """Export the table as it is at a tick as the next version, and say so once it is committed."""
    facts = ReadFacts(source="USERS", statement="SELECT * FROM USERS;", read_at=_READ_AT)
    with lake.stage(USERS, read=facts) as staging:
        commit = _land(staging, snapshot(tick), on_step)
    version = commit.manifest.added[0].partition
    say(what="version", feed=lake.feed.name, commit=commit.sequence, version=version, tick=tick)


def merge(lake: FeedLake) -> None:
    """Merge the files of every day that has several."""
    for _ in lake.compact(older_than=0, now=_LATER):
        pass


def merge_open(lake: FeedLake) -> None:
    """Merge small files of days that have not ended."""
    for _ in lake.compact(now=_EARLY, open_files=2):
        pass


def _land(staging: Staging, rows: pa.Table, on_step: StepHook, *, pushed: Pushed | None = None) -> Commit:
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        staging.write(batch)
        on_step("write")
    return staging.commit(pushed=pushed)


def fork(task: Callable[[], None]) -> int:
    """Run a task in a process of its own, which ends with this one, and give its pid; without threads only."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    status = 1
    try:
        task()
        status = 0
    finally:
        # Neither the parent's buffers nor its exit handlers are the child's business.
        os._exit(status)

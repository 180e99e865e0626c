"""Power failures at every moment of an export, a merge, a retention, and of recovery from a kill.

For each moment the lake is rebuilt as the disk may hold it, and must then be what it promises: whole files that
a commit holds, no row too often, nothing lost that was acknowledged, and a next export that completes exactly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.commit.log import StepHook, no_step
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.doctor.findings import Problem
from ksql_lake.lake.layout import version_number
from ksql_lake_tests.lake.crashing.guards import POWER_GUARDS
from ksql_lake_tests.lake.crashing.power import Image, Recorder
from ksql_lake_tests.lake.crashing.source import Counts, Source, snapshot
from ksql_lake_tests.lake.crashing.traps import trap
from ksql_lake_tests.lake.crashing.writers import (
    EVENTS_FEED,
    USERS_FEED,
    Opening,
    export_days,
    export_table,
    merge,
    open_feed,
)

_TICKS = 40
_LUCKY = 8
"""How many of the trees that hold a part of what was not synced are looked at per outage."""


class Killed(BaseException):
    """Stands for a process that ends here."""


@dataclass(slots=True)
class Result:
    """What came of an outage at every moment.

    Attributes:
        moments: System calls after which the power failed.
        trees: Different trees that could be left then.
        broken: The promises that were not kept, with the moment.
    """

    moments: int = 0
    trees: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """A lake at work.

    Attributes:
        root: The lake.
        source: Its source.
        opening: How it is opened.
        tick: What was acknowledged last: everything the source had at this tick, -1 for nothing.
        commit: The last commit that was acknowledged.
    """

    root: Path
    source: Source
    opening: Opening
    tick: int = -1
    commit: int = 0

    def export(self, tick: int, *, on_step: StepHook = no_step) -> None:
        export_days(self.opening(self.root, EVENTS_FEED, on_step), self.source, tick, (0, 1))
        self.tick = tick

    def snapshot(self, tick: int) -> None:
        export_table(self.opening(self.root, USERS_FEED, no_step), tick)
        self.commit = Lake(self.root).feed(USERS_FEED).state().sequence

    def merge(self) -> None:
        merge(self.opening(self.root, EVENTS_FEED, no_step))

    def killed_export(self, tick: int, point: str, nth: int) -> None:
        """Export until the process is killed at a point; what it would have said is never heard."""

        def die() -> None:
            raise Killed(point)

        with trap(point, nth, die) as on_step:
            try:
                export_days(self.opening(self.root, EVENTS_FEED, on_step), self.source, tick, (0, 1))
            except Killed:
                return
        raise RuntimeError(f"it was not killed at {point}")


def _nothing(_work: _Work) -> None:
    """Begin with no lake at all."""


def _two_exports(work: _Work) -> None:
    work.export(9)
    work.export(14)


def _three_versions(work: _Work) -> None:
    for tick in range(4):
        work.snapshot(tick)


def _killed_after_linking(work: _Work) -> None:
    work.killed_export(9, "after link", 0)
    work.export(14)


def _killed_while_publishing(work: _Work) -> None:
    work.killed_export(24, "after rename", 1)
    work.export(29)


def _retention(work: _Work) -> None:
    work.opening(work.root, USERS_FEED, no_step).apply_retention()
    work.snapshot(4)


OUTAGES: dict[str, tuple[Feed, Callable[[_Work], None], Callable[[_Work], None]]] = {
    "the first export": (EVENTS_FEED, _nothing, lambda work: work.export(9)),
    "a later export": (EVENTS_FEED, _two_exports, lambda work: work.export(29)),
    "a merge": (EVENTS_FEED, _two_exports, _Work.merge),
    "a retention": (USERS_FEED, _three_versions, _retention),
    "an export after one killed at its commit": (EVENTS_FEED, _nothing, _killed_after_linking),
    "an export after one killed while publishing": (EVENTS_FEED, _two_exports, _killed_while_publishing),
}
"""For each: the feed, what happens before and is all on disk, and what the power fails in."""


def cut_power(outage: str, *, seed: int = 1, without: str | None = None) -> dict[str, Any]:
    """Let the power fail at every moment of an outage, and give what came of it.

    Args:
        outage: One of `OUTAGES`.
        seed: Of what is lost where it may go either way.
        without: The guard to take out, one of `POWER_GUARDS`.
    """
    feed, prepare, act = OUTAGES[outage]
    result, random = Result(), Random(seed)
    with tempfile.TemporaryDirectory(prefix="ksql-lake-power-") as folder:
        for name in ("lake", "side"):
            Path(folder, name).mkdir()
        source = Source(seed, ticks=_TICKS)
        work = _Work(Path(folder, "lake"), source, POWER_GUARDS[without] if without else open_feed)
        prepare(work)
        recorder = Recorder(work.root, Path(folder, "side"))
        strict: dict[str, tuple[Image, int, int, int]] = {}
        lucky: dict[str, tuple[Image, int, int, int]] = {}

        def seen() -> None:
            for found, image in ((strict, recorder.strict()), (lucky, recorder.lucky(random))):
                known = found.setdefault(str(image), (image, recorder.moment, work.tick, work.commit))
                # The same tree later on: what was acknowledged meanwhile must be in it too.
                found[str(image)] = (*known[:2], work.tick, work.commit)

        with recorder.recording(seen):
            act(work)
        seen()
        chosen = [*strict.values(), *random.sample(list(lucky.values()), min(_LUCKY, len(lucky)))]
        result.moments, result.trees = recorder.moment, len(chosen)
        for number, (image, moment, tick, commit) in enumerate(chosen):
            after = _Work(Path(folder, str(number)), source, open_feed, tick, commit)
            recorder.rebuild(image, after.root)
            result.broken += [f"after call {moment}: {text}" for text in _broken(after, feed)]
    return asdict(result)


def _broken(work: _Work, feed: Feed) -> Iterator[str]:
    lake = Lake(work.root).feed(feed)
    try:
        yield from _visible(work, feed, lake.state())
        state = lake.recover()
        if state.sequence < work.commit:
            yield f"commit {work.commit} was acknowledged, the last one is {state.sequence}"
        if feed is EVENTS_FEED:
            there = _counts(work, feed)
            yield from _excess(work, there)
            if work.tick >= 0 and (there < work.source.counts(work.tick, 0, 1)).any():
                yield "acknowledged rows are lost"
            work.export(_TICKS - 1)
            if not np.array_equal(_counts(work, feed), work.source.counts(_TICKS - 1, 0, 1)):
                yield "the next export does not complete the rows"
        else:
            work.snapshot(8)
            yield from _versions(work)
        findings = examine(lake.storage, lake.layout).findings
        # Staging for the number that this last export took waits for the next one.
        yield from (str(finding) for finding in findings if finding.problem is not Problem.STAGING_LEFT)
    except (KsqlLakeError, OSError, ValueError) as error:
        yield f"the lake is not usable: {error}"


def _visible(work: _Work, feed: Feed, state: FeedState) -> Iterator[str]:
    """What a reader finds before anyone has recovered anything."""
    log = Lake(work.root).feed(feed).log
    manifests = [log.manifest(number) for number in range(1, state.sequence + 1)]
    entries = {entry.path: entry for manifest in manifests for entry in manifest.added}
    for path in (work.root / log.layout.dataset).rglob("*.parquet"):
        entry = entries.get(path.relative_to(work.root / log.layout.dataset).as_posix())
        if entry is None:
            yield f"{path.name} is visible, but no commit holds it"
        elif path.stat().st_size != entry.bytes:
            yield f"{path.name} is torn"


def _counts(work: _Work, feed: Feed) -> Counts:
    files = sorted((work.root / f"{feed.kind}s" / feed.name).rglob("*.parquet"))
    values = [pq.ParquetFile(path).read(columns=["ID"]).column("ID").to_numpy() for path in files]
    together = np.concatenate(values) if values else np.zeros(0, dtype=np.int64)
    counts: Counts = np.bincount(together, minlength=len(work.source.identity))
    return counts


def _excess(work: _Work, there: Counts) -> Iterator[str]:
    if (there > work.source.counts(_TICKS - 1, 0, 1)).any():
        yield "rows are doubled"


def _versions(work: _Work) -> Iterator[str]:
    folders = sorted((work.root / "tables" / USERS_FEED.name).glob("version=v*"))
    numbers = sorted(version_number(folder.name.removeprefix("version=")) for folder in folders)
    if numbers != list(range(numbers[0], numbers[-1] + 1)):
        yield f"versions {numbers}"
    for folder in folders:
        tables = [pq.ParquetFile(file).read() for file in folder.glob("*.parquet")]
        rows: pa.Table = pa.concat_tables(tables) if tables else snapshot(0).slice(0, 0)
        if not rows.num_rows or not rows.sort_by("ID").equals(
            snapshot(int(rows["NAME"][0].as_py().split()[1]))
        ):
            yield f"{folder.name} is not whole"

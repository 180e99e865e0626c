"""One export on a disk that fails in the middle of it, and what was promised for that case.

The lake is filled, the disk fails at one point of the next export and recovers, and then the promises are
checked one by one: a `WriteError` that says where and what to do, nothing half visible, nothing lost, and a
next export that completes exactly.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ksql_lake.errors import KsqlLakeError, WriteError
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.doctor.examination import examine
from ksql_lake_tests.lake.crashing.faults import FAULTS, Disk, Missing
from ksql_lake_tests.lake.crashing.guards import DISK_GUARDS
from ksql_lake_tests.lake.crashing.source import DAYS, NEVER, Source
from ksql_lake_tests.lake.crashing.traps import set_trap
from ksql_lake_tests.lake.crashing.verdict import differing_rows
from ksql_lake_tests.lake.crashing.writers import EVENTS_FEED, export_days, open_feed

START = "start"
"""The point before an export's first step; the others are those of `traps`."""

_BEFORE, _AFTER = 9, 29
_FREE = re.compile(r"\([\d,]+ MB free(, no inodes free)? on its disk\)")


@dataclass(slots=True)
class Outcome:
    """What came of a scene.

    Attributes:
        missing: What the fault would have needed; the scene was not played.
        struck: Whether the disk failed at all: an export may not pass the point that often.
        committed: Whether the export had passed its commit point.
        error: Name of the error's class; empty without one.
        text: The error as people read it.
        broken: The promises that were not kept.
    """

    missing: str = ""
    struck: bool = False
    committed: bool = False
    error: str = ""
    text: str = ""
    broken: list[str] = field(default_factory=list)


def play(
    fault: str, arguments: list[Any], *, point: str = START, nth: int = 0, without: str | None = None
) -> dict[str, Any]:
    """Play one scene in this process, which is of no use afterwards, and give its outcome.

    Args:
        fault: One of `FAULTS`.
        arguments: Its arguments.
        point: Where in the export it strikes.
        nth: How often the point is passed before.
        without: The guard to take out of the export, one of `DISK_GUARDS`.
    """
    # Not pytest's folder: an ordinary user could not enter that one.
    with tempfile.TemporaryDirectory(prefix="ksql-lake-disk-") as folder:
        root = Path(folder)
        try:
            with FAULTS[fault](root, *arguments) as disk:
                return asdict(_play(root, disk, point, nth, without))
        except Missing as missing:
            return asdict(Outcome(missing=str(missing)))


def _play(root: Path, disk: Disk, point: str, nth: int, without: str | None) -> Outcome:
    source, outcome = Source(1, ticks=_AFTER + 1), Outcome()
    export_days(Lake(root).feed(EVENTS_FEED), source, _BEFORE, (0, DAYS - 1))
    before, visible = Lake(root).feed(EVENTS_FEED).state(), _visible(root)

    def strike() -> None:
        outcome.struck = True
        disk.strike()

    hook = set_trap(point, nth, strike)
    opening = DISK_GUARDS[without] if without else open_feed
    lake = opening(root, EVENTS_FEED, hook)
    hook(START)
    try:
        export_days(lake, source, _AFTER, (0, DAYS - 1), on_step=hook)
    except (KsqlLakeError, OSError) as error:
        outcome.error, outcome.text = type(error).__name__, str(error)
    if outcome.struck:
        disk.lift()
        outcome.broken += _promises(root, source, outcome, before, visible)
    return outcome


def _promises(
    root: Path, source: Source, outcome: Outcome, before: FeedState, visible: dict[str, str]
) -> Iterator[str]:
    try:
        if outcome.error != WriteError.__name__:
            yield f"a WriteError, not {outcome.error or 'none at all'}"
        else:
            if str(root) not in outcome.text:
                yield "the error says where"
            if _FREE.search(outcome.text) is None:
                yield "the error says how much is free"
        lake = Lake(root).feed(EVENTS_FEED)
        outcome.committed = lake.state().sequence > before.sequence
        yield from _visible_promises(root, source, outcome, visible)
        for tick in (_AFTER, NEVER):
            export_days(Lake(root).feed(EVENTS_FEED), source, tick, (0, DAYS - 1))
        if outcome.committed:
            _, again = (lake.log.manifest(before.sequence + number) for number in (1, 2))
            if again.added:
                yield "what was committed is not exported again"
        for kind, text in differing_rows(root, EVENTS_FEED, source, _AFTER):
            yield f"{kind}: {text}"
        yield from (f"sound: {finding}" for finding in examine(lake.storage, lake.layout).findings)
        if list((root / lake.layout.staging).iterdir()):
            yield "staging is gone after two exports"
    except (KsqlLakeError, OSError) as error:
        yield f"the lake is usable: {error}"


def _visible_promises(root: Path, source: Source, outcome: Outcome, visible: dict[str, str]) -> Iterator[str]:
    now = _visible(root)
    if visible.items() - now.items():
        yield "what was visible stays as it is"
    if not outcome.committed and now != visible:
        yield "nothing is visible before the commit"
    counts = np.zeros_like(source.identity)
    for path in now:
        try:
            np.add.at(counts, pq.read_table(root / path, columns=["ID"]).column("ID").to_numpy(), 1)
        except (OSError, ValueError) as error:
            yield f"a visible file is whole: {error}"
    for day in range(DAYS):
        inside = source.day == day
        days = (source.counts(tick, day, day)[inside] for tick in (_BEFORE, _AFTER))
        if not any(np.array_equal(counts[inside], expected) for expected in days):
            yield f"day {day} is there as a whole or not at all"


def _visible(root: Path) -> dict[str, str]:
    """What a reader finds: path and digest of every file of the feed."""
    folder = root / "streams"
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }

"""Runs targets on mutated bytes and notes everything that is not an answer or an error of ours.

A find is an exception outside our tree, an example that takes longer than `PATIENCE` seconds, or one that makes
the process grow by more than `GROWTH` bytes. Equal finds (same target, exception and place) are counted once.
"""

from __future__ import annotations

import resource
import signal
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType

from ksql_lake.errors import KsqlLakeError
from ksql_lake_tests.fuzzing.mutation import Mutation, mutated

PATIENCE = 30.0
"""Seconds an example may take; all of them take milliseconds."""
GROWTH = 400_000_000
"""Bytes an example may add to the largest size the process ever had."""


@dataclass(frozen=True)
class Target:
    """A reader of bytes.

    Attributes:
        name: What the command line calls it.
        corpus: Bytes that it accepts, to be mutated.
        run: Reads bytes; may raise errors of ours, and nothing else.
        mutate: How to make hostile bytes of good ones.
        cost: How much dearer an example is than one of the cheapest targets; fewer are run.
    """

    name: str
    corpus: Sequence[bytes]
    run: Callable[[bytes], None]
    mutate: Mutation = mutated
    cost: int = 1


@dataclass(frozen=True)
class Find:
    """Something that must not happen, and the bytes that make it happen."""

    target: str
    what: str
    data: bytes


@dataclass
class Figures:
    """What a run of one target did."""

    target: str
    examples: int = 0
    refused: int = 0
    slowest: float = 0.0
    finds: dict[str, Find] = field(default_factory=dict)

    def add(self, other: Figures) -> None:
        """Take in another run of the target."""
        self.examples += other.examples
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.finds = {**other.finds, **self.finds}


class HangError(BaseException):
    """An example takes too long."""


def fuzz(target: Target, *, examples: int, seed: int) -> Figures:
    """Run one target.

    Args:
        target: What to feed.
        examples: How many mutated inputs, before the target's cost is taken off.
        seed: Repeats a run.
    """
    random = Random(seed ^ zlib.crc32(target.name.encode()))
    figures = Figures(target.name)
    for data in [*target.corpus, *_examples(target, max(20, examples // target.cost), random)]:
        try_one(target, data, figures)
    return figures


def _examples(target: Target, count: int, random: Random) -> Iterator[bytes]:
    for _ in range(count):
        yield target.mutate(random.choice(target.corpus), random)


def try_one(target: Target, data: bytes, figures: Figures) -> None:
    """Feed one input and note what comes of it."""
    figures.examples += 1
    before, began = _largest_size(), time.monotonic()
    what = ""
    try:
        with _patience():
            target.run(data)
    except KsqlLakeError as error:
        figures.refused += 1
        # An error must be readable: rendering it is part of the promise, in UTF-8 and on one screen.
        rendered = str(error).encode()
        if len(rendered) > 20_000:
            what = f"{type(error).__name__}: a text of {len(rendered)} bytes"
    except HangError:
        what = f"takes longer than {PATIENCE:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a find
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {place.filename.rsplit('/', 1)[-1]}:{place.name}: {str(error)[:150]}"
    figures.slowest = max(figures.slowest, time.monotonic() - began)
    if not what and _largest_size() - before > GROWTH:
        what = f"grows by {(_largest_size() - before) // 1_000_000} MB"
    if what:
        figures.finds.setdefault(what.split(": ")[0], Find(target.name, what, data))


def _largest_size() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _patience() -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

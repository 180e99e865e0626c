"""Where a writer dies or falls asleep: a step of the commit protocol, or beside a system call or a request.

A trap belongs to one process and is armed once. The process sends itself `SIGKILL` or `SIGSTOP`, so nothing
after that point runs; the trap "in a write" lets the kernel do it in the middle of writing a file.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import obstore

from ksql_lake.lake.commit.log import StepHook

STEPS = ("write", "commit", "committed", "publish", "remove", "derive", "clear")
"""`write` is a writer's own, between two batches; the others are those of `ksql_lake.lake.commit.log`."""

CALLS: dict[str, tuple[str, ...]] = {
    "fsync": ("fsync",),
    "link": ("link",),
    "rename": ("rename", "replace"),
    "unlink": ("unlink",),
    "rmdir": ("rmdir",),
    "mkdir": ("mkdir",),
}
"""System calls by the functions of `os` that make them; pathlib and shutil call these too."""

REQUESTS: dict[str, tuple[str, ...]] = {
    "put": ("put",),
    "copy": ("copy",),
    "delete": ("delete",),
    "list": ("list", "list_with_delimiter"),
    "get": ("get",),
}
"""Requests to an object store by the functions of its client library that make them."""

IN_A_WRITE = "in a write"


def points_of(calls: Iterable[str]) -> tuple[str, ...]:
    """Return all points at which a process may be caught."""
    return (*STEPS, *(f"{side} {call}" for call in calls for side in ("before", "after")), IN_A_WRITE)


POINTS = points_of(CALLS)
STORE_POINTS = points_of(REQUESTS)

_DEEP = {"fsync": 24, "mkdir": 8, "unlink": 6, "rename": 5, "rmdir": 3, "put": 8, "list": 8, "get": 4}
_FILE_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Trap:
    """One armed point.

    Attributes:
        point: One of `POINTS`.
        nth: How many times it is passed before; the file size in bytes for "in a write".
        stop: Whether the process is only stopped there, until another process continues it.
    """

    point: str
    nth: int
    stop: bool = False

    def arm(self) -> StepHook:
        """Set the trap in this process for good; give the hook to call with the name of each step."""
        if self.point == IN_A_WRITE:
            # Python ignores this signal; by default the kernel kills the process in the middle of the write.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.nth, self.nth))
        fatal = signal.SIGSTOP if self.stop else signal.SIGKILL
        return set_trap(self.point, self.nth, lambda: os.kill(os.getpid(), fatal))


@contextmanager
def trap(point: str, nth: int, action: Callable[[], None]) -> Iterator[StepHook]:
    """Set a trap while the block lasts."""
    real = {name: getattr(os, name) for names in CALLS.values() for name in names}
    try:
        yield set_trap(point, nth, action)
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def set_trap(point: str, nth: int, action: Callable[[], None]) -> StepHook:
    """Do something once, when a point is passed for the nth time (from 0); give the hook for steps."""
    passes = itertools.count()  # several threads may sync at once, and each number comes once

    def touch() -> None:
        if next(passes) == nth:
            action()

    side, _, call = point.partition(" ")
    for module, names in ((os, CALLS.get(call, ())), (obstore, REQUESTS.get(call, ()))):
        for name in names:
            setattr(module, name, _trapped(getattr(module, name), touch, before=side == "before"))
    return lambda step: touch() if step == point else None


def any_trap(random: Random, points: Sequence[str] = POINTS, *, stop: bool = False) -> Trap:
    """Choose a trap at any of the points."""
    point = random.choice([point for point in points if point != IN_A_WRITE] if stop else points)
    if point == IN_A_WRITE:
        return Trap(point, random.randrange(100, _FILE_BYTES))
    deep = _DEEP.get(point.rsplit(" ", 1)[-1], 2)
    return Trap(point, random.randrange(deep), stop)


def _trapped(call: Callable[..., Any], touch: Callable[[], None], *, before: bool) -> Callable[..., Any]:
    def trapped(*args: Any, **keys: Any) -> Any:
        if before:
            touch()
        result = call(*args, **keys)
        if not before:
            touch()
        return result

    return trapped

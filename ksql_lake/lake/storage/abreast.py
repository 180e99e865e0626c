"""Run many small pieces of work, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8
"""A disk serves several syncs with one flush; more threads make it no faster."""


def abreast(
    work: Callable[[Item], Result], items: Sequence[Item], *, threads: int = THREADS, rest: bool = True
) -> list[Result]:
    """Do the work of every item, several at a time, and return the results in order.

    Args:
        work: Called with each item.
        items: The items.
        threads: How many at a time.
        rest: Whether the other items are still done when one has failed; if not, items that have not begun are
            left out.

    Raises:
        BaseException: The error of the first item that failed; by then no work is running.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), "ksql-lake-abreast") as pool:
        if not rest:
            return list(pool.map(work, items))
        futures = [pool.submit(work, item) for item in items]
    return [future.result() for future in futures]

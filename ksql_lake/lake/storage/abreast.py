"""Run many small pieces of work a few at a time; all are done when the call returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8
"""A disk answers several syncs with one flush; with more threads the answers do not come sooner."""


def abreast(
    work: Callable[[Item], Result], items: Sequence[Item], *, threads: int = THREADS, rest: bool = True
) -> list[Result]:
    """Do the work of every item, several at a time; give the results in order.

    Args:
        work: What is done with an item.
        items: The items.
        threads: How many at a time.
        rest: Whether all others are done when one has failed; if not, those that have not begun are left out.

    Raises:
        BaseException: What the first item that failed raised; nothing runs any more.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), "ksql-lake-abreast") as pool:
        if not rest:
            return list(pool.map(work, items))
        futures = [pool.submit(work, item) for item in items]
    return [future.result() for future in futures]

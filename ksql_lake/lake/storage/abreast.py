"""Run many small pieces of work, a few at a time."""

from __future__ import annotations

from collections import deque
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
        rest: Whether the other items are still done when one has failed; if not, or after an interrupt, items
            that have not begun are left out.

    Raises:
        BaseException: The error of the first item that failed; by then no work is running.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    results: dict[int, Result] = {}
    failed: dict[int, BaseException] = {}
    # One iterator for all threads: a future per item takes longer than many a small piece of work.
    waiting = iter(range(len(items)))

    def take() -> None:
        for number in waiting:
            if failed and not rest:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:  # noqa: BLE001 - raised below, in order
                failed[number] = error

    with ThreadPoolExecutor(min(threads, len(items)), "ksql-lake-abreast") as pool:
        try:
            for taker in [pool.submit(take) for _ in range(min(threads, len(items)))]:
                taker.result()
        except BaseException:
            deque(waiting, maxlen=0)  # an interrupt: what has not begun is left out
            raise
    if failed:
        raise failed[min(failed)]
    return [results[number] for number in range(len(items))]

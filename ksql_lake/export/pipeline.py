"""Run work on many items in threads, with results in order and a bounded number of items under way."""

# The first error in the order of the items is raised after the results before it. When a consumer stops, the
# work stops.

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    items: Iterable[Item], work: Callable[[Item], Result], *, threads: int
) -> Generator[Result, None, None]:
    """Yield what `work` returns for each item; as many items run as there are threads, and one more waits.

    Items are taken in the caller's thread.

    Raises:
        Exception: Whatever the items or the work raised, after the results before it.
    """
    source, ending = iter(items), None
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "ksql-lake-stage") as pool:
        try:
            while ending is None:
                try:
                    under_way.append(pool.submit(work, next(source)))
                except Exception as error:  # noqa: BLE001 - raised again below, in its place among the results
                    ending = error
                while under_way and (ending or len(under_way) > threads or under_way[0].done()):
                    yield under_way.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if not isinstance(ending, StopIteration):
        raise ending

"""Work on many items at once, in threads, with the results in the items' order and a bounded number under way.

A thread takes an item and works on it, so that what it has fetched is still in its processor's cache; items are
taken by one thread at a time. The first error wins, in the order of the items: what came before it is given
out, then it is raised. A consumer that stops early stops the work too. Nothing here knows what the items are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Line(Generic[Item, Result]):
    """Items on their way through some threads."""

    def __init__(self, items: Iterable[Item], work: Callable[[Item], Result], room: int) -> None:
        self.results: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        self.room = threading.Semaphore(room)
        self.over = False
        self._source = iter(items)
        self._work = work
        self._taking = threading.Lock()

    def run(self) -> None:
        """Take items and work on them until there are no more, or nobody wants them."""
        while True:
            self.room.acquire()
            result: Future[Result] = Future()
            with self._taking:
                if self.over:
                    return
                self.results.put(result)
                try:
                    item = next(self._source)
                except BaseException as error:  # noqa: BLE001 - raised again by the consumer, in its place
                    self.over = True
                    result.set_exception(_EndError() if isinstance(error, StopIteration) else error)
                    return
            try:
                result.set_result(self._work(item))
            except BaseException as error:  # noqa: BLE001 - likewise
                result.set_exception(error)


class _EndError(Exception):
    """There are no more items."""


def side_by_side(
    items: Iterable[Item], work: Callable[[Item], Result], *, threads: int
) -> Generator[Result, None, None]:
    """Give what `work` makes of each item; as many as there are threads at once, one more waiting.

    Raises:
        BaseException: Whatever the items or the work raised, after the results before it.
    """
    line = _Line(items, work, threads + 1)
    for _ in range(threads):
        threading.Thread(target=line.run, name="ksql-lake-stage", daemon=True).start()
    try:
        while True:
            try:
                result = line.results.get().result()
            except _EndError:
                return
            line.room.release()
            yield result
    finally:
        # The threads are not waited for: one may sit in a read that only closing the connection ends.
        line.over = True
        for _ in range(threads):
            line.room.release()

"""Stages that overlap: an iterator runs ahead in a thread of its own, a bounded number of items at most.

The first error wins: it is raised where the items are consumed, after the items that came before it. A consumer
that stops early stops the thread too. Nothing here knows what the items are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.05
"""How soon a thread that waits for room notices that nobody wants more."""


@dataclass(frozen=True, slots=True)
class _End:
    """The end of the items, and the error that caused it, if one."""

    error: BaseException | None = None


class _Runner(Generic[Item]):
    """An iterable on its way through a queue."""

    def __init__(self, items: Iterable[Item], depth: int) -> None:
        self.items = items
        self.queue: queue.Queue[Item | _End] = queue.Queue(depth)
        self.unwanted = threading.Event()
        self.thread = threading.Thread(target=self._run, name="ksql-lake-stage", daemon=True)

    def _run(self) -> None:
        end = _End()
        try:
            for item in self.items:
                if not self._put(item):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer, in its place among the items
            end = _End(error)
        if not self._put(end) and isinstance(self.items, Generator):
            self.items.close()

    def _put(self, item: Item | _End) -> bool:
        while not self.unwanted.is_set():
            try:
                self.queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


def running_ahead(items: Iterable[Item], *, depth: int) -> Generator[Item, None, None]:
    """Give the items of an iterable that is advanced in another thread, at most `depth` items ahead.

    Raises:
        BaseException: Whatever the iterable raised, after the items before it.
    """
    runner = _Runner(items, depth)
    runner.thread.start()
    try:
        while not isinstance(item := runner.queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        # The thread is not waited for: it may sit in a read that only closing the connection ends.
        runner.unwanted.set()

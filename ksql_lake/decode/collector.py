"""Python's garbage collector, held still while a block of rows is parsed.

A block makes ten thousands of tuples and lists, none of them in a cycle; looking for cycles among them costs as
much as parsing. It refuses to switch on a collector that someone else has switched off.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the collector off inside; nested and concurrent uses share one pause, which the last one ends."""
    global _inside, _was_enabled  # noqa: PLW0603 - the collector is one per process, so is its pause
    with _lock:
        if _inside == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _was_enabled:
                gc.enable()

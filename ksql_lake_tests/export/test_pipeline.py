"""Stages that overlap."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.pipeline import running_ahead


@given(items=st.lists(st.integers(), max_size=50), depth=st.integers(1, 5))
def test_items_come_in_order_and_whole(items: list[int], depth: int) -> None:
    """Whatever the depth, every item comes once and in order."""
    assert list(running_ahead(running_ahead(items, depth=depth), depth=depth)) == items


def test_an_error_comes_after_the_items_before_it() -> None:
    """What was read before an error is delivered, then the error itself."""

    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("first")

    stage = running_ahead(failing(), depth=4)

    assert [next(stage), next(stage)] == [1, 2]
    with pytest.raises(KeyError, match="first"):
        next(stage)


def test_no_more_than_the_depth_is_read_ahead() -> None:
    """A slow consumer holds the reader back: memory stays bounded."""
    read = 0
    waiting = threading.Event()

    def counting() -> Iterator[int]:
        nonlocal read
        for number in range(1000):
            read += 1
            if read == 4:
                waiting.set()
            yield number

    stage = running_ahead(counting(), depth=2)
    assert next(stage) == 0
    assert waiting.wait(10)

    # One item is consumed, two wait in the queue, one waits for room.
    assert read == 4
    stage.close()


def test_a_consumer_that_stops_stops_the_reader() -> None:
    """Leaving early ends the thread, although the items would go on for ever."""

    def endless() -> Iterator[int]:
        while True:
            yield 1

    stage = running_ahead(endless(), depth=1)
    next(stage)
    threads = [thread for thread in threading.enumerate() if thread.name == "ksql-lake-stage"]
    stage.close()
    for thread in threads:
        thread.join(10)

    assert threads
    assert not any(thread.is_alive() for thread in threads)

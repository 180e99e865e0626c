"""Work side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.pipeline import side_by_side


@given(items=st.lists(st.integers(), max_size=50), threads=st.integers(1, 5))
def test_results_come_in_order_and_whole(items: list[int], threads: int) -> None:
    """However many threads there are, every item is worked on once, and the results keep the order."""
    assert list(side_by_side(items, lambda item: (item, -item), threads=threads)) == [(n, -n) for n in items]


def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    """What was read before an error is delivered, then the error itself."""

    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("first")

    results = side_by_side(failing(), lambda item: -item, threads=2)

    assert [next(results), next(results)] == [-1, -2]
    with pytest.raises(KeyError, match="first"):
        next(results)


def test_the_first_error_in_the_order_of_the_items_wins() -> None:
    """An item that fails late wins over a later one that failed at once, and over the end of the items."""
    second_failed = threading.Event()

    def work(item: int) -> int:
        if item == 2:
            assert second_failed.wait(10)
        if item > 1:
            second_failed.set() if item == 3 else None
            raise KeyError(f"item {item}")
        return item

    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError("the items")

    results = side_by_side(items(), work, threads=2)

    assert next(results) == 1
    with pytest.raises(KeyError, match="item 2"):
        next(results)


def test_no_more_is_under_way_than_there_are_threads_and_one() -> None:
    """A slow stage holds the items back: memory stays bounded."""
    taken = 0
    go_on = threading.Event()

    def counting() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            if taken == 2:
                go_on.set()
            yield number

    def work(item: int) -> int:
        assert go_on.wait(10)
        return item

    results = side_by_side(counting(), work, threads=2)
    assert next(results) == 0

    assert taken <= 4
    results.close()


def test_a_consumer_that_stops_stops_the_work() -> None:
    """Leaving early ends the threads, although the items would go on for ever."""

    def endless() -> Iterator[int]:
        while True:
            yield 1

    results = side_by_side(endless(), lambda item: item, threads=2)
    next(results)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ksql-lake-stage")]
    results.close()
    for thread in threads:
        thread.join(10)

    assert threads
    assert not any(thread.is_alive() for thread in threads)

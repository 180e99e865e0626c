"""Small pieces of work side by side."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from ksql_lake.lake.storage.abreast import abreast


def test_results_come_in_the_order_of_the_items() -> None:
    """Whatever ends first, the results stand where their items stood."""
    others_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            others_done.wait()
        elif number == 19:
            others_done.set()
        return number * number

    assert abreast(work, range(20)) == [number * number for number in range(20)]


def test_nothing_runs_any_more_when_an_error_comes_out() -> None:
    """The first failure in order is raised, after all other work has been done."""
    done: set[int] = set()

    def work(number: int) -> None:
        if number in {3, 7}:
            raise OSError(f"item {number}")
        done.add(number)

    with pytest.raises(OSError, match="item 3"):
        abreast(work, range(12))
    assert done == set(range(12)) - {3, 7}


def test_what_has_not_begun_is_left_out_where_the_rest_is_of_no_use() -> None:
    """A store that does not answer is not asked a thousand times: the first failure ends the work."""
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        raise OSError(f"item {number}")

    with pytest.raises(OSError, match="item 0"):
        abreast(work, range(1000), threads=2, rest=False)
    assert len(begun) < 1000


def test_an_interrupt_leaves_out_what_has_not_begun() -> None:
    """Ctrl-C is not held up by a thousand pieces of work."""
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        abreast(work, range(100_000), threads=2)
    assert len(begun) < 100_000


def test_one_item_needs_no_thread() -> None:
    """An export of one day starts no thread for its one file."""
    assert abreast(lambda _: threading.current_thread(), ["day"]) == [threading.current_thread()]

"""The garbage collector is held still, and always let go again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from ksql_lake.decode.decoder import collector_paused


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    """Start with the collector on, and leave it on."""
    gc.enable()
    yield
    gc.enable()


def test_the_outermost_pause_ends_it() -> None:
    """Pauses nest: the collector stays off until the last one is over."""
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()

    assert gc.isenabled()


def test_an_error_ends_the_pause() -> None:
    """The collector runs again after an error inside."""
    with pytest.raises(ValueError, match="inside"), collector_paused():
        raise ValueError("inside")

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    """Who has switched the collector off finds it off afterwards."""
    gc.disable()

    with collector_paused():
        pass

    assert not gc.isenabled()


def test_threads_share_one_pause() -> None:
    """The collector is off while any thread needs it off, whoever began and whoever ends."""
    inside, leave = threading.Barrier(2), threading.Event()

    def other() -> None:
        with collector_paused():
            inside.wait()
            leave.wait()

    thread = threading.Thread(target=other)
    with collector_paused():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()

    assert gc.isenabled()

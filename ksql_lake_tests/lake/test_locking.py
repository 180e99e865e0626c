"""The lock that saves work: others wait, but not for ever."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from ksql_lake.lake import Lake
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.locking import exclusive
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

LAYOUT = FeedLayout("stream", "events")


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    """Two runs on one feed come one after the other, whether they hold the feed or only its layout."""
    lake, seen, began = Lake(tmp_path), list[str](), threading.Event()

    def second() -> None:
        began.set()
        with exclusive(lake.storage, LAYOUT):
            seen.append("second")

    thread = threading.Thread(target=second)
    with lake.feed(stream_feed()).exclusive():
        thread.start()
        began.wait()
        land_rows(lake, stream_feed(), [event(1)])
        seen.append("first")
    thread.join()

    assert seen == ["first", "second"]


def test_a_wait_is_logged_with_who_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits reads which process holds the feed and since when, and afterwards how long the wait was."""
    lake, told = Lake(tmp_path), threading.Event()

    def second() -> None:
        with lake.feed(stream_feed()).exclusive():
            pass

    def seen(_record: logging.LogRecord) -> bool:
        told.set()
        return True

    # What the waiting thread logs lets the holder go.
    caplog.handler.addFilter(seen)
    thread = threading.Thread(target=second)
    with caplog.at_level(logging.INFO, "ksql_lake"):
        with lake.feed(stream_feed()).exclusive():
            thread.start()
            told.wait()
        thread.join()

    waits, waited = (record.getMessage() for record in caplog.records)
    assert waits.startswith(f"events: waiting for the lock {tmp_path}/metadata/")
    assert f"held by process {os.getpid()} on {socket.gethostname()} since 20" in waits
    assert re.fullmatch(r"events: waited \d+ s for another run of the feed", waited)


def test_nothing_is_logged_or_left_where_nobody_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The note of who holds the lock goes with the lock."""
    lake = Lake(tmp_path)

    with caplog.at_level(logging.DEBUG, "ksql_lake"), lake.feed(stream_feed()).exclusive():
        held = [path.name for path in (tmp_path / LAYOUT.metadata).iterdir()]

    assert sorted(held) == ["lock", "lock.holder"]
    assert [path.name for path in (tmp_path / LAYOUT.metadata).iterdir()] in (["lock"], [])
    assert caplog.records == []


def test_work_goes_ahead_without_the_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that has waited long enough goes ahead, and says that it does."""
    lake = Lake(tmp_path)

    with (
        caplog.at_level(logging.WARNING, "ksql_lake"),
        exclusive(lake.storage, LAYOUT),
        exclusive(lake.storage, LAYOUT, wait=0),
    ):
        land_rows(lake, stream_feed(), [event(1)])

    assert lake.feed(stream_feed()).state().records == 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"working on events without the lock {tmp_path}/metadata/")

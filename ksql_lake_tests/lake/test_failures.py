"""The note of failed exports: written on a failure, bounded, gone after a success, never an error itself."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ksql_lake.errors import QueryFailedError, StatementError
from ksql_lake.lake import Failure, Failures, Lake
from ksql_lake.lake.commit.failed_exports import KEPT, read_failures, record_failure
from ksql_lake.lake.doctor.examination import examine
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

NOTE = "metadata/streams/events/failures.json"


def test_a_failure_is_kept_with_what_the_error_says(tmp_path: Path) -> None:
    """Time, type, message, hint and location of the error are read back as they were."""
    lake = Lake(tmp_path).feed(stream_feed())
    error = StatementError("EVENTS cannot be found", hint="Create it.", feed="events", server="http://h:1")

    record_failure(lake.storage, lake.layout, error, at=datetime(2025, 3, 1, 12, tzinfo=UTC))

    assert lake.failures() == Failures(
        count=1,
        newest=[
            Failure(
                at="2025-03-01T12:00:00.000+00:00",
                error="StatementError",
                message="EVENTS cannot be found",
                hint="Create it.",
                where={"feed": "events", "server": "http://h:1"},
            )
        ],
    )
    assert lake.failures().last == lake.failures().newest[0]


def test_the_note_is_bounded(tmp_path: Path) -> None:
    """All failures are counted, the newest are kept, and a page of an answer is cut."""
    lake = Lake(tmp_path).feed(stream_feed())

    for number in range(KEPT + 3):
        lake.record_failure(QueryFailedError(f"{number} " + "x" * 50_000))

    failures = lake.failures()
    assert failures.count == KEPT + 3
    assert [failure.message.split()[0] for failure in failures.newest] == [str(n) for n in range(3, KEPT + 3)]
    assert (tmp_path / NOTE).stat().st_size < KEPT * 2_500


def test_clearing_forgets_and_may_be_repeated(tmp_path: Path) -> None:
    """After a success there are no failures; clearing where there are none does nothing."""
    lake = Lake(tmp_path).feed(stream_feed())
    lake.clear_failures()
    lake.record_failure(QueryFailedError("boom"))

    lake.clear_failures()

    assert lake.failures() == Failures()
    assert not (tmp_path / NOTE).exists()


def test_a_failure_that_cannot_be_noted_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither noting nor clearing raises when the lake cannot be written; the log says why."""
    (tmp_path / "metadata").write_text("a file where the lake needs a folder")
    lake = Lake(tmp_path).feed(stream_feed())

    with caplog.at_level(logging.WARNING):
        lake.record_failure(QueryFailedError("boom"))
        lake.clear_failures()

    assert "the failed export of events could not be recorded: could not be written" in caplog.text


def test_a_note_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """When the note's own place is taken, nothing is left in staging for doctor to find."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])
    (tmp_path / NOTE / "in the way").mkdir(parents=True)

    lake.feed(feed).record_failure(QueryFailedError("boom"))

    assert lake.feed(feed).failures() == Failures()
    assert examine(lake.storage, lake.feed(feed).layout).findings == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"count": "many"}', b"[]"])
def test_a_damaged_note_counts_as_none(tmp_path: Path, content: bytes) -> None:
    """An edited or torn note is no failure and no error, and the next failure replaces it."""
    lake = Lake(tmp_path).feed(stream_feed())
    (tmp_path / NOTE).parent.mkdir(parents=True)
    (tmp_path / NOTE).write_bytes(content)

    assert read_failures(lake.storage, lake.layout) == Failures()
    lake.record_failure(QueryFailedError("boom"))
    assert json.loads((tmp_path / NOTE).read_bytes())["count"] == 1


def test_the_lake_is_sound_with_a_note_in_it(tmp_path: Path) -> None:
    """Doctor finds nothing wrong with a feed whose last export failed, and no staging is left by the note."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])

    lake.feed(feed).record_failure(QueryFailedError("boom"))

    assert examine(lake.storage, lake.feed(feed).layout).findings == []

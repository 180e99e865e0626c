"""Each status, produced by the thing that causes it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.errors import ServerUnavailableError
from ksql_lake.export import export_feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.report import MetadataReader, Status
from ksql_lake.report.attention import attention
from ksql_lake.report.lake_facts import QUIET
from ksql_lake.settings import load_settings
from ksql_lake_tests.lake.landing import EVENTS, event, land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import NOON, backdate, land_days, of_day, report_of, report_on

FIRST, TODAY = date(2025, 1, 17), date(2025, 1, 20)
FEED = stream_feed(start_date="2025-01-17")


def committed_at(lake: Lake) -> datetime:
    """When the last export of `FEED` was committed."""
    return datetime.fromisoformat(lake.feed(FEED).state().last_export)


def test_never_ran(tmp_path: Path) -> None:
    """Without any trace of an export the feed never ran, whether or not there is a lake."""
    for root in (tmp_path / "nowhere", tmp_path):
        found = report_on(root, FEED)

        assert (found.status, found.reason) == (Status.NEVER_RAN, "no export was tried yet")
        assert found.next_step == "ksql-lake export --stream events"
        assert (found.records, found.last_export, found.freshness.age_hours) == (0, None, None)
        assert found.coverage is not None
        assert (found.coverage.complete, found.coverage.open, found.coverage.missing) == (0, 1, 3)


def test_a_feed_that_begins_later(tmp_path: Path) -> None:
    """Before its start_date nothing can be exported, so no export is asked for."""
    found = report_on(tmp_path, stream_feed(start_date="2025-02-01"))

    assert (found.status, found.reason) == (Status.NEVER_RAN, "start_date 2025-02-01 is in the future")
    assert found.next_step == "Wait, or correct start_date in the feed file"


def test_feeds_that_begin_later_are_told_apart(tmp_path: Path) -> None:
    """They are one point of their own, however many others were never exported."""
    waiting = [stream_feed(name=f"later_{number}", start_date="2025-02-01") for number in range(2)]
    never = [stream_feed(name=f"never_{number}", start_date="2025-01-17") for number in range(5)]

    points = attention(report_of(tmp_path, *waiting, *never))

    assert [(point.text, point.next_step) for point in points] == [
        (
            "start_date 2025-02-01 is in the future: later_0, later_1",
            "Wait, or correct start_date in the feed file",
        ),
        (
            "no export was tried yet: never_0, never_1, never_2, never_3, never_4",
            "ksql-lake export --all",
        ),
    ]


def test_complete(tmp_path: Path) -> None:
    """Rows, in time, every ended day read after its end."""
    feed = stream_feed(start_date="2025-01-17", checks={"max_age_hours": 2})
    land_days(Lake(tmp_path), feed, of_day(FIRST, 3), days=(FIRST, TODAY))
    backdate(Lake(tmp_path), feed, NOON)

    found = report_on(tmp_path, feed)

    assert (found.status, found.reason, found.next_step) == (Status.HEALTHY, "3 days read after their end", "")


def test_a_table_is_complete_with_one_version(tmp_path: Path) -> None:
    """A table has no days to miss."""
    land_rows(Lake(tmp_path), table_feed(), [{"ID": 1, "NAME": "a"}])

    found = report_on(tmp_path, table_feed())

    assert (found.status, found.reason) == (Status.HEALTHY, "v1 is the newest version")
    assert found.coverage is None


def test_empty(tmp_path: Path) -> None:
    """Exported without a row is not the same as never exported."""
    land_days(Lake(tmp_path), FEED, [], days=(FIRST, TODAY))

    found = report_on(tmp_path, FEED)

    assert found.status is Status.EMPTY
    assert found.reason.startswith("exported 20")
    assert found.reason.endswith(" UTC, and there was no row")
    assert found.last_export is not None
    assert (found.last_export.read, found.last_export.new) == (0, 0)


def test_a_table_is_empty_when_its_newest_version_is(tmp_path: Path) -> None:
    """Rows of older versions do not hide that the newest one has none."""
    lake, feed = Lake(tmp_path), table_feed()
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    land_rows(lake, feed, [])

    found = report_on(tmp_path, feed)

    assert (found.status, found.reason) == (Status.EMPTY, "v2 has no rows")
    assert (found.records, found.current_records) == (1, 0)


def test_stale(tmp_path: Path) -> None:
    """Older than the target, by the time of the commit; at the target exactly it is still in time."""
    lake = Lake(tmp_path)
    feed = stream_feed(start_date="2025-01-17", checks={"max_age_hours": 26})
    land_days(lake, feed, of_day(FIRST, 3), days=(FIRST, TODAY))
    target = committed_at(lake) + timedelta(hours=26)

    on_time, late = (report_on(tmp_path, feed, now=now) for now in (target, target + timedelta(hours=2)))

    assert (on_time.freshness.age_hours, on_time.freshness.met) == (26, True)
    assert on_time.status is not Status.STALE
    assert (late.status, late.reason) == (Status.STALE, "last export 28 h ago, target 26 h")
    assert (late.freshness.target_hours, late.freshness.met) == (26, False)


def test_without_a_target_nothing_is_stale(tmp_path: Path) -> None:
    """However old the export is: the feed has no target."""
    land_rows(Lake(tmp_path), table_feed(), [{"ID": 1, "NAME": "a"}])

    found = report_on(tmp_path, table_feed(), now=datetime(2099, 1, 1, tzinfo=UTC))

    assert (found.status, found.freshness.met) == (Status.HEALTHY, None)


def test_incomplete_by_a_missing_day(tmp_path: Path) -> None:
    """A day between two exported ones that was never read."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, FIRST))
    land_days(lake, FEED, of_day(date(2025, 1, 19), 3), days=(date(2025, 1, 19), TODAY))

    found = report_on(tmp_path, FEED)

    assert (found.status, found.reason) == (Status.INCOMPLETE, "1 day never read: 2025-01-18")
    assert found.next_step == "ksql-lake export --stream events"


def test_incomplete_by_a_day_read_too_early(tmp_path: Path) -> None:
    """A day that was read before its end has a day's grace, then it counts."""
    lake, early = Lake(tmp_path), datetime(2025, 1, 18, 22, tzinfo=UTC)
    land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, date(2025, 1, 18)), read_at=early)

    day_after = report_on(tmp_path, FEED, now=datetime(2025, 1, 19, 23, 59, tzinfo=UTC))
    later = report_on(tmp_path, FEED, now=datetime(2025, 1, 20, 0, 0, tzinfo=UTC))

    assert day_after.status is Status.HEALTHY
    assert later.status is Status.INCOMPLETE
    assert later.reason == "1 day never read: 2025-01-19; 1 day not read to the end: 2025-01-18"


def test_failed_by_an_error(tmp_path: Path) -> None:
    """A real export without a server fails; the report has its error, and how often it came."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, TODAY))
    with KsqlClient(load_settings(attempts=1)) as client:
        for _ in range(2):
            with pytest.raises(ServerUnavailableError) as raised:
                export_feed(FEED, client, lake)

    found = report_on(tmp_path, FEED)

    assert found.status is Status.FAILING
    assert found.reason.startswith("2 failed exports, the last 20")
    assert found.reason.endswith(f" UTC: {raised.value.message}")
    assert found.next_step == raised.value.hint
    assert found.failures is not None
    assert (found.failures.count, found.failures.error) == (2, "ServerUnavailableError")
    assert found.records == 3, "what is there stays reported"


def test_failed_before_anything_landed(tmp_path: Path) -> None:
    """A first export that fails is a failure, not a feed that never ran."""
    Lake(tmp_path).feed(FEED).record_failure(ServerUnavailableError("cannot connect"))

    assert report_on(tmp_path, FEED).status is Status.FAILING


def test_a_success_ends_a_failure_even_when_the_note_stays(tmp_path: Path) -> None:
    """A note that could not be removed is outdated by the time of the next commit."""
    lake = Lake(tmp_path)
    lake.feed(FEED).record_failure(ServerUnavailableError("cannot connect"))
    land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, TODAY))

    found = report_on(tmp_path, FEED)

    assert (found.status, found.failures) == (Status.HEALTHY, None)


def test_failed_by_damage(tmp_path: Path) -> None:
    """A lake whose manifests cannot be folded is reported with its error; other feeds as ever."""
    lake = Lake(tmp_path)
    for _ in range(2):
        land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, TODAY))
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "a"}])
    (tmp_path / lake.feed(FEED).layout.manifest(1)).unlink()

    events, users = report_of(tmp_path, FEED, table_feed()).feeds

    assert (events.status, events.reason) == (Status.FAILING, "manifest 1 is missing")
    assert events.next_step == "ksql-lake doctor"
    assert users.status is Status.HEALTHY


KILLED = """
import os, sys
from datetime import date
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake_tests.lake.landing import EVENTS, stream_feed
read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-01-20T12:00:00+00:00")
lake = Lake(sys.argv[1]).feed(stream_feed(start_date="2025-01-17"))
with lake.exclusive(), lake.stage(EVENTS, read=read, days=(date(2025, 1, 17), date(2025, 1, 20))):
    os._exit(9)
"""


def test_failed_by_a_killed_process(tmp_path: Path) -> None:
    """A process that ended in the middle leaves its staging, and counts as killed when that has been quiet."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, TODAY))
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False).returncode == 9
    (staged,) = (tmp_path / lake.feed(FEED).layout.staging).iterdir()
    os.utime(staged, (NOON.timestamp(), NOON.timestamp()))

    at_once, later = (report_on(tmp_path, FEED, now=NOON + after) for after in (timedelta(minutes=1), QUIET))

    assert (at_once.status, at_once.running) == (Status.HEALTHY, True)
    assert at_once.remarks == ("an export is running",)
    assert (later.status, later.running) == (Status.FAILING, False)
    assert later.reason == "an export was killed; its last sign of life is from 2025-01-20 12:00 UTC"


def test_a_slow_export_that_holds_the_lock_is_alive(tmp_path: Path) -> None:
    """However long it writes nothing: while the lock is held, the export is running."""
    lake = Lake(tmp_path).feed(FEED)
    read = ReadFacts(source="EVENTS", statement="SELECT", read_at=NOON.isoformat())
    with lake.exclusive(), lake.stage(EVENTS, read=read, days=(FIRST, TODAY)):
        (found,) = MetadataReader(tmp_path).list_all_metadata(now=datetime(2099, 1, 1, tzinfo=UTC))
        assert found.attempt is not None
        assert found.attempt.alive
        running = report_on(tmp_path, FEED, now=datetime(2099, 1, 1, tzinfo=UTC))
        assert (running.status, running.reason) == (Status.NEVER_RAN, "its first export is running")


def test_a_disabled_feed_is_left_alone(tmp_path: Path) -> None:
    """Nothing is expected of a disabled feed; its data is still reported."""
    feed = stream_feed(start_date="2025-01-01", enabled=False, checks={"max_age_hours": 1})
    land_rows(Lake(tmp_path), feed, [event(1)])

    found = report_on(tmp_path, feed, now=datetime(2099, 1, 1, tzinfo=UTC))

    assert (found.status, found.records) == (Status.DISABLED, 1)
    assert found.status.calm


def test_a_reading_in_the_future_is_questioned(tmp_path: Path) -> None:
    """What a clock that is ahead closed is not complete: the report says which days, and what to do."""
    ahead = NOON + timedelta(days=3)
    land_days(Lake(tmp_path), FEED, of_day(FIRST, 3), days=(FIRST, TODAY), read_at=ahead)

    found = report_on(tmp_path, FEED)

    assert found.status is Status.INCOMPLETE
    assert found.coverage is not None
    assert found.coverage.complete == 0
    assert "is dated 2025-01-23T12:00:00.000+00:00, by a clock that is ahead" in found.reason
    assert found.next_step == f"Set the clock right, then: ksql-lake export --stream {FEED.name}"
    assert found.reason in found.remarks


def test_a_commit_in_the_future_keeps_no_feed_fresh(tmp_path: Path) -> None:
    """The server's clock dated the reading and ours, ahead by days, the commit: its age is not known."""
    lake, feed = Lake(tmp_path), stream_feed(start_date="2025-01-17", checks={"max_age_hours": 2})
    land_days(lake, feed, of_day(FIRST, 3), days=(FIRST, TODAY))
    at = datetime.fromisoformat(lake.feed(feed).state().last_export)

    fresh, ahead = (report_on(tmp_path, feed, now=at - timedelta(minutes=minutes)) for minutes in (30, 90))

    assert (fresh.freshness.met, ahead.freshness.met) == (True, False)
    assert (ahead.status, ahead.reason) == (
        Status.STALE,
        f"the last export is dated {lake.feed(feed).state().last_export}, by a clock that was ahead",
    )
    assert "export --stream events" in ahead.next_step
    feeds = [stream_feed(name=f"f{number}", checks={"max_age_hours": 2}) for number in range(5)]
    for each in feeds:
        land_days(lake, each, of_day(FIRST, 3), days=(FIRST, TODAY))
    told = [point.text for point in attention(report_of(tmp_path, *feeds)) if point.label == "stale"]
    assert [text.partition(": ")[0] for text in told] == [
        "the last export is older than the target, or dated in the future"
    ]

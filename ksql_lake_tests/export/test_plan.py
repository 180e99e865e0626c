"""What an export would read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ksql_lake.errors import ConfigError, VersionError
from ksql_lake.export import Days, ExportResult, export_feed, plan_export
from ksql_lake.export.export_plan import ExportPlan, closed_days_due, still_wanted
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.stream_server import StreamServer
from ksql_lake_tests.lake.landing import EVENTS, land_rows, stream_feed, table_feed

NOW = datetime(2025, 1, 20, 10, 30, tzinfo=UTC)


def _export(server: StreamServer, lake: Lake, feed: StreamFeed, days: Days | None = None) -> ExportResult:
    """Export with a client of its own."""
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        return export_feed(feed, client, lake, days=days)


def look(lake: Lake, feed: StreamFeed, first: str, last: str, *, at: str) -> None:
    """Record that these days were read at this time and held nothing."""
    days = (date.fromisoformat(first), date.fromisoformat(last))
    read = ReadFacts(source="EVENTS", statement="SELECT", read_at=f"{at}+00:00", first_day=first, last_day=last)
    with lake.feed(feed).stage(EVENTS, read=read, days=days) as staging:
        staging.commit()


def test_the_first_export_begins_at_the_start_date(tmp_path: Path) -> None:
    """Without a commit every day from start_date to today is read, in one window."""
    plan = plan_export(stream_feed(), Lake(tmp_path), now=NOW)

    assert plan.days == Days(date(2025, 1, 1), date(2025, 1, 20))
    assert plan.reason == "first export, from start_date"


def test_lookback_reads_closed_days_again(tmp_path: Path) -> None:
    """After a complete export the window is today and the days before it."""
    lake = Lake(tmp_path)
    look(lake, stream_feed(), "2025-01-01", "2025-01-20", at="2025-01-20T09:00:00")

    assert plan_export(stream_feed(), lake, now=NOW).days == Days(date(2025, 1, 19), date(2025, 1, 20))
    assert plan_export(stream_feed(lookback_days=5), lake, now=NOW).days == Days(
        date(2025, 1, 15), date(2025, 1, 20)
    )
    assert plan_export(stream_feed(lookback_days=0), lake, now=NOW).days == Days(
        date(2025, 1, 20), date(2025, 1, 20)
    )


def test_a_day_read_before_its_end_is_read_again(tmp_path: Path) -> None:
    """A pause of a week begins with the day that was still open when it was last read."""
    lake = Lake(tmp_path)
    look(lake, stream_feed(), "2025-01-01", "2025-01-13", at="2025-01-13T23:59:59.999")

    plan = plan_export(stream_feed(lookback_days=0), lake, now=NOW)

    assert plan.days == Days(date(2025, 1, 13), date(2025, 1, 20))
    assert plan.reason.startswith("2025-01-13 is the first day not read to its end")


def test_one_day_exported_by_hand_hides_no_gap(tmp_path: Path) -> None:
    """Unread days in between are read, and the lookback, although a newer day is in the lake."""
    lake, feed = Lake(tmp_path), stream_feed()
    look(lake, feed, "2025-01-01", "2025-01-05", at="2025-01-08T00:00:00")
    look(lake, feed, "2025-01-17", "2025-01-17", at="2025-01-19T00:00:00")

    assert plan_export(feed, lake, now=NOW).days == Days(date(2025, 1, 5), date(2025, 1, 20))


def test_the_running_day_read_apart_takes_no_lookback_away(tmp_path: Path) -> None:
    """Where days that have ended were to be read by another run, which failed, their lookback is still read."""
    lake, feed = Lake(tmp_path), stream_feed(lookback_days=2)
    look(lake, feed, "2025-01-01", "2025-01-19", at="2025-01-19T23:05:00")
    look(lake, feed, "2025-01-20", "2025-01-20", at="2025-01-20T00:05:00")

    assert plan_export(feed, lake, now=NOW).days == Days(date(2025, 1, 17), date(2025, 1, 20))
    assert closed_days_due(feed, lake, now=NOW) == Days(date(2025, 1, 17), date(2025, 1, 19))


def test_a_day_ends_where_its_time_zone_says(tmp_path: Path) -> None:
    """A Berlin day read at 23:30 UTC was read after its end."""
    feed = stream_feed(timezone="Europe/Berlin", lookback_days=0, start_date="2025-01-19")
    lake = Lake(tmp_path)
    look(lake, feed, "2025-01-19", "2025-01-19", at="2025-01-19T23:30:00")

    assert plan_export(feed, lake, now=datetime(2025, 1, 19, 23, 45, tzinfo=UTC)).days == Days(
        date(2025, 1, 20), date(2025, 1, 20)
    )


CORRECTED = {
    "source": ({"source": "EMPTY"}, {}, 8),
    "timezone": ({}, {"timezone": "Asia/Tokyo"}, 9),
    "server": ({}, {}, 8),
}
"""What is changed -> the keys before, those after, and how many of the nine rows are of its days then."""


@pytest.mark.parametrize("changed", CORRECTED)
def test_days_without_a_row_are_read_again_from_another_source(tmp_path: Path, changed: str) -> None:
    """Until the first row a day is read again if source, server or time zone is not the one that was asked."""
    before, after, expected = CORRECTED[changed]
    lake, keys = Lake(tmp_path), {"source": "S", "start_date": "2025-01-06", "lookback_days": 1}
    midnight = 1_736_121_600_000
    with StreamServer([("ID", "BIGINT")]) as empty, StreamServer([("ID", "BIGINT")]) as right:
        right.rows = [(midnight + (number - 1) * 14_400_000, [number]) for number in range(9)]
        if changed == "timezone":
            empty.rows = right.rows[:1]
        empty.cluster = "dev" if changed == "server" else right.cluster
        assert [_export(empty, lake, stream_feed(**keys | before)).new for _ in range(2)] == [0, 0]

        result = _export(right, lake, stream_feed(**keys | after))
        again = _export(right, lake, stream_feed(**keys | after))

    assert (result.new, again.new) == (expected, 0)
    assert result.plan.days is not None
    assert result.plan.days.first == date(2025, 1, 6)
    assert result.plan.reason.endswith("changed before the first row; every day is read again")
    assert again.plan.days != result.plan.days


def test_asked_days_of_another_source_open_the_others(tmp_path: Path) -> None:
    """A day asked for by name is read alone; the others that the old source answered are not read then."""
    lake = Lake(tmp_path)
    with StreamServer([("ID", "BIGINT")]) as server:
        _export(server, lake, stream_feed(source="EMPTY"))
        certified = set(lake.feed(stream_feed()).state().certified)
        asked = Days(date(2025, 1, 7), date(2025, 1, 7))
        _export(server, lake, stream_feed(source="S"), asked)

    state = lake.feed(stream_feed()).state()
    assert certified >= {"2025-01-06", "2025-01-07", "2025-01-08"}
    assert (set(state.looked), set(state.certified)) == ({"2025-01-07"}, {"2025-01-07"})


def test_asked_days_are_cut_at_the_start_date(tmp_path: Path) -> None:
    """A range is read from the feed's first day on; one wholly before it reads nothing."""
    lake, feed = Lake(tmp_path), stream_feed(start_date="2025-01-10")

    assert plan_export(feed, lake, days=Days(date(2025, 1, 1), date(2025, 1, 12)), now=NOW).days == Days(
        date(2025, 1, 10), date(2025, 1, 12)
    )
    nothing = plan_export(feed, lake, days=Days(date(2025, 1, 1), date(2025, 1, 2)), now=NOW)
    assert nothing.days is None
    assert nothing.partitions == []
    assert nothing.reason == "all of 2025-01-01 to 2025-01-02 is before start_date 2025-01-10"


def test_the_future_is_refused(tmp_path: Path) -> None:
    """A day that has not begun cannot be exported; the text says what day it is there."""
    with pytest.raises(ConfigError) as caught:
        plan_export(stream_feed(), Lake(tmp_path), days=Days(date(2025, 1, 21), date(2025, 1, 21)), now=NOW)

    assert str(caught.value) == (
        "feed events: 2025-01-21 has not begun yet (today is 2025-01-20 in UTC)\nUse days up to 2025-01-20."
    )
    not_yet = plan_export(stream_feed(start_date="2025-02-01"), Lake(tmp_path), now=NOW)
    assert not_yet.days is None


def test_a_table_has_exactly_one_open_version(tmp_path: Path) -> None:
    """Only the version after the newest one can be planned, and the refusal says which that is."""
    lake, feed = Lake(tmp_path), table_feed()
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])

    assert plan_export(feed, lake).partitions == ["v2"]
    assert plan_export(feed, lake, version=2).pinned
    with pytest.raises(VersionError, match="v1 exists already") as old:
        plan_export(feed, lake, version=1)
    assert "Materialise v2 instead" in str(old.value)
    with pytest.raises(VersionError, match="v7 is not open yet"):
        plan_export(feed, lake, version=7)
    with pytest.raises(ConfigError, match="a table is exported as a whole"):
        plan_export(feed, lake, days=Days(date(2025, 1, 1), date(2025, 1, 1)))


def test_a_reversed_range_is_refused() -> None:
    """A range that ends before it begins is a mistake, not an empty range."""
    with pytest.raises(ConfigError, match="ends before it begins"):
        Days(date(2025, 1, 2), date(2025, 1, 1))


def _left(lake: Lake, plan: ExportPlan) -> ExportPlan:
    """What is left of a plan by what the lake holds now."""
    return still_wanted(plan, lake.feed(plan.feed).state(), now=NOW)


def test_what_was_closed_since_the_plan_is_not_read_again(tmp_path: Path) -> None:
    """Another export read all of it first, so only the running day is left, which may have got rows since."""
    lake, feed = Lake(tmp_path), stream_feed(lookback_days=3)
    plan = plan_export(feed, lake, now=NOW)
    assert _left(lake, plan) is plan
    look(lake, feed, "2025-01-01", "2025-01-20", at="2025-01-20T10:29:00")

    left = _left(lake, plan)

    assert left.days == Days(date(2025, 1, 20), date(2025, 1, 20))
    assert (left.already[0], left.already[-1], len(left.already)) == ("2025-01-01", "2025-01-19", 19)
    assert (
        left.reason == "2025-01-01 to 2025-01-19 were read by another export (commit 1) while this one waited"
    )
    assert left.open_end


def test_an_export_that_began_later_has_read_the_running_day_too(tmp_path: Path) -> None:
    """What was asked for is in the lake, all of it; nothing is left to read."""
    lake, feed = Lake(tmp_path), stream_feed()
    plan = plan_export(feed, lake, now=NOW)
    look(lake, feed, "2025-01-01", "2025-01-20", at="2025-01-20T10:30:00.001")

    left = _left(lake, plan)

    assert (left.days, len(left.already), left.open_end) == (None, 20, False)


def test_days_read_before_the_plan_was_made_are_read_as_planned(tmp_path: Path) -> None:
    """A day that was closed long ago is read again on request, or for the lookback."""
    lake, feed = Lake(tmp_path), stream_feed(lookback_days=2)
    look(lake, feed, "2025-01-01", "2025-01-20", at="2025-01-20T09:00:00")
    asked = Days(date(2025, 1, 5), date(2025, 1, 6))
    plans = [plan_export(feed, lake, now=NOW), plan_export(feed, lake, days=asked, now=NOW)]

    assert [_left(lake, plan) for plan in plans] == plans
    assert [plan.days for plan in plans] == [Days(date(2025, 1, 18), date(2025, 1, 20)), asked]


def test_a_named_day_is_read_even_if_a_reading_that_began_before_has_just_closed_it(tmp_path: Path) -> None:
    """A late row may have come after that reading began; whoever names its day gets it."""
    lake, feed = Lake(tmp_path), stream_feed()
    asked = Days(date(2025, 1, 5), date(2025, 1, 6))
    plan = plan_export(feed, lake, days=asked, now=NOW)

    look(lake, feed, "2025-01-01", "2025-01-20", at="2025-01-20T10:29:59")
    assert _left(lake, plan) is plan

    look(lake, feed, "2025-01-05", "2025-01-05", at="2025-01-20T10:30:01")
    assert _left(lake, plan).days == Days(date(2025, 1, 6), date(2025, 1, 6))


def test_a_day_in_the_middle_does_not_tear_the_window_apart(tmp_path: Path) -> None:
    """One query reads days in a row; and what was read by a clock that is ahead counts as not read."""
    lake, feed = Lake(tmp_path), stream_feed()
    asked = Days(date(2025, 1, 5), date(2025, 1, 9))
    plan = plan_export(feed, lake, days=asked, now=NOW)
    look(lake, feed, "2025-01-07", "2025-01-07", at="2025-01-20T10:30:01")
    assert _left(lake, plan).days == asked

    look(lake, feed, "2025-01-05", "2025-01-07", at="2025-01-20T10:30:01")
    assert _left(lake, plan).days == Days(date(2025, 1, 8), date(2025, 1, 9))
    again = plan_export(feed, lake, days=asked, new_topic=True, now=NOW)
    look(lake, feed, "2025-01-05", "2025-01-09", at="2025-01-20T10:30:30")
    assert _left(lake, again) is again


def test_a_version_is_written_after_the_one_that_was_waited_for(tmp_path: Path) -> None:
    """A snapshot that began before this one was asked for is not the one asked for; a later one is."""
    lake, feed = Lake(tmp_path), table_feed()
    plan, pinned = plan_export(feed, lake, now=NOW), plan_export(feed, lake, version=1, now=NOW)
    land_rows(lake, feed, [], read_at="2025-01-20T10:29:59+00:00")

    assert (_left(lake, plan).version, _left(lake, plan).reason) == (2, "after v1")
    with pytest.raises(VersionError, match="v1 exists already"):
        _left(lake, pinned)

    land_rows(lake, feed, [], read_at="2025-01-20T10:30:01+00:00")
    assert (_left(lake, plan).version, _left(lake, plan).already) == (None, ("v2",))

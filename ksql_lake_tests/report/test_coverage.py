"""Complete, open and missing days, against the definition written out day by day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.lake.closing import day_end
from ksql_lake.lake.days import Days, day_of, day_ranges, day_start
from ksql_lake.report.analyzer import coverage, overdue_days
from ksql_lake_tests.lake.landing import stream_feed

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Pacific/Kiritimati", "Asia/Kathmandu")
START = date(2024, 3, 1)

moments = st.datetimes(datetime(2024, 2, 20), datetime(2024, 5, 20), timezones=st.just(UTC))  # noqa: DTZ001


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    now=moments,
    looked=st.dictionaries(st.dates(START, date(2024, 5, 1)), moments, max_size=60),
)
def test_each_day_is_what_the_definition_says(zone: str, now: datetime, looked: dict[date, datetime]) -> None:
    """Every day from the start to today has exactly one state, in any zone, whenever it was read."""
    feed = stream_feed(start_date=START, timezone=zone)

    found = coverage(
        feed, {f"{day}": at.isoformat(timespec="milliseconds") for day, at in looked.items()}, now=now
    )

    today = day_of(now, feed.zone)
    days = list(Days(START, today)) if today >= START else []
    states = {"complete": 0, "open": 0, "missing": 0}
    for day in days:
        states[_state(day, today, looked.get(day), day_end(day, feed.zone), now)] += 1
    assert (found.complete, found.open, found.missing) == tuple(states.values())
    listed = [day for ranges in (found.open_days, found.missing_days) for days in ranges for day in days]
    assert len(listed) == len(set(listed)) == found.open + found.missing
    assert all(
        now - datetime.fromtimestamp(day_start(day + timedelta(days=1), feed.zone) / 1000, UTC)
        > timedelta(hours=22)
        for day in overdue_days(found, now=now)
    )


def _state(day: date, today: date, read_at: datetime | None, end: int, now: datetime) -> str:
    if day == today:
        return "open"
    if read_at is None:
        return "missing"
    cut = read_at.replace(microsecond=read_at.microsecond // 1000 * 1000)
    if cut > now + timedelta(hours=1):
        return "open"  # a clock that was ahead closes nothing
    return "complete" if cut.timestamp() * 1000 >= end else "open"


@settings(deadline=None)
@given(st.sets(st.dates(date(2024, 1, 1), date(2024, 3, 1))))
def test_ranges_hold_the_days_and_nothing_else(days: set[date]) -> None:
    """Ranges are ascending, never touch each other, and give back exactly the days."""
    ranges = day_ranges(sorted(days))

    assert [day for found in ranges for day in found] == sorted(days)
    assert all(right.first - left.last > timedelta(days=1) for left, right in pairwise(ranges))


def test_a_feed_that_begins_tomorrow_has_no_days() -> None:
    """Before `start_date` nothing is open and nothing is missing."""
    found = coverage(stream_feed(start_date="2024-03-02"), {}, now=datetime(2024, 3, 1, 12, tzinfo=UTC))

    assert (found.complete, found.open, found.missing) == (0, 0, 0)

"""The one rule of when a day is over, closed, or lost to Kafka."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.expiry import days_at_risk
from ksql_lake.ksqldb.inventory import Retention
from ksql_lake.lake import FeedState, Lake, ReadFacts
from ksql_lake.lake.closing import (
    Clock,
    day_end,
    has_ended,
    questioned_days,
    read_to_end,
    unclosed,
    unread_rows,
)
from ksql_lake_tests.lake.landing import EVENTS, stream_feed

DAY = date(2025, 1, 15)
ZONES = ("UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Berlin", "Asia/Kolkata")
zones = st.sampled_from(ZONES).map(ZoneInfo)
moments = st.integers(0, 6 * 86_400_000).map(
    lambda passed: datetime(2025, 1, 13, tzinfo=UTC) + timedelta(milliseconds=passed)
)


@given(zone=zones, read_at=moments, later=st.timedeltas(timedelta(0), timedelta(days=9)))
def test_a_day_is_closed_by_a_reading_after_its_end(
    zone: ZoneInfo, read_at: datetime, later: timedelta
) -> None:
    """In every zone, from the millisecond on at which the day is over there, and only then."""
    read_at = read_at.replace(microsecond=read_at.microsecond // 1000 * 1000)
    looked = {str(DAY): read_at.isoformat(timespec="milliseconds")}

    closed = read_to_end(looked, DAY, zone, now=read_at + later)

    assert closed is (read_at.timestamp() * 1000 >= day_end(DAY, zone)) is has_ended(DAY, zone, read_at)


@given(zone=zones, ahead=st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_a_reading_dated_in_the_future_closes_nothing(zone: ZoneInfo, ahead: timedelta) -> None:
    """More than an hour beyond the present a reading is questioned, less is what clocks differ by."""
    now = datetime(2025, 1, 20, 12, tzinfo=UTC)
    looked = {str(DAY): (now + ahead).isoformat(timespec="milliseconds")}
    believed = ahead < timedelta(hours=1, milliseconds=1)

    assert read_to_end(looked, DAY, zone, now=now) is believed
    assert questioned_days(looked, now=now) == ([] if believed else [DAY])


@pytest.mark.parametrize("zone", ZONES)
def test_what_stands_for_a_disputed_reading_is_before_the_days_end(zone: str) -> None:
    """A day noted as read but not closed is open in every zone there is."""
    looked = {str(DAY): unclosed(str(DAY))}

    assert not read_to_end(looked, DAY, ZoneInfo(zone), now=datetime(2026, 1, 1, tzinfo=UTC))


@given(
    zone=zones,
    keeps=st.timedeltas(timedelta(hours=1), timedelta(days=5)),
    read_at=moments | st.none(),
    now=moments.map(lambda at: at + timedelta(days=7)),
)
def test_report_and_alarm_judge_by_the_same_rule(
    zone: ZoneInfo, keeps: timedelta, read_at: datetime | None, now: datetime
) -> None:
    """Whatever the report calls fading or lost the alarm does too, and what neither names is safe."""
    looked = {} if read_at is None else {str(DAY): read_at.isoformat(timespec="milliseconds")}
    feed = stream_feed(start_date=DAY, timezone=zone.key)
    state = FeedState(kind="stream", sequence=1, looked=looked)
    retention = Retention(keeps / timedelta(hours=1), known=True, text="")

    unread = unread_rows(looked, DAY, zone, keeps=keeps, now=now)

    alarmed = {risk.day: risk.fate for risk in days_at_risk(feed, state, retention, now=now)}
    told = None if unread is None or unread.fate == "deliverable" else unread.fate
    assert alarmed.get(DAY) == told


def look(lake: Lake, first: date, last: date, at: str, *, clock: Clock = "") -> FeedState:
    """Read days that hold no rows, by a clock that says it is `at`."""
    read = ReadFacts(
        source="EVENTS",
        statement="SELECT",
        read_at=at,
        first_day=str(first),
        last_day=str(last),
        clock=clock,
    )
    with lake.feed(FEED).stage(EVENTS, read=read, days=(first, last)) as staging:
        return staging.commit().state


FEED = stream_feed(start_date=DAY)


def test_a_later_reading_opens_what_a_fast_clock_closed(tmp_path: Path) -> None:
    """Days closed three days ahead of time are read once more as soon as a reading shows what time it is."""
    lake = Lake(tmp_path)
    look(lake, DAY, DAY, "2025-01-16T00:10:00.000+00:00")
    fast = look(lake, DAY, DAY + timedelta(days=3), "2025-01-19T01:00:00.000+00:00")
    assert set(fast.certified) == {"2025-01-15", "2025-01-16", "2025-01-17", "2025-01-18"}
    second = DAY + timedelta(days=1)
    honest = look(lake, second, second, "2025-01-16T01:00:00.000+00:00")

    now = datetime(2025, 1, 30, tzinfo=UTC)
    days = [DAY + timedelta(days=after) for after in range(4)]
    assert not any(read_to_end(honest.looked, day, FEED.zone, now=now) for day in days)
    assert dict(honest.certified) == {}


def test_a_disputed_reading_is_noted_and_closes_nothing(tmp_path: Path) -> None:
    """Its days count as looked at, those closed before stay so, and none gets a certificate."""
    lake = Lake(tmp_path)
    look(lake, DAY, DAY, "2025-01-16T00:10:00.000+00:00", clock="server")

    state = look(lake, DAY, DAY + timedelta(days=1), "2025-01-19T00:00:00.000+00:00", clock="disputed")

    assert dict(state.looked) == {
        "2025-01-15": "2025-01-16T00:10:00.000+00:00",
        "2025-01-16": "2025-01-16T00:00:00.000+00:00",
    }
    assert dict(state.certified) == {"2025-01-15": 1}

"""Event times to calendar days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.errors import LakeError
from ksql_lake.lake.days import day_start
from ksql_lake.lake.rows.event_days import DaySplitter, event_times
from ksql_lake_tests.quick import examples

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]


def test_a_berlin_day_in_march_has_23_hours() -> None:
    """A day ends where the next begins, at every clock change."""
    berlin = ZoneInfo("Europe/Berlin")

    def hours(day: date) -> float:
        return (day_start(day + timedelta(days=1), berlin) - day_start(day, berlin)) / 3_600_000

    assert hours(date(2025, 3, 30)) == 23
    assert hours(date(2025, 10, 26)) == 25
    assert hours(date(2025, 6, 1)) == 24


def test_a_day_without_midnight_begins_after_the_gap() -> None:
    """Where the clock skips midnight the day begins with its first instant."""
    sao_paulo = ZoneInfo("America/Sao_Paulo")

    start = day_start(date(2018, 11, 4), sao_paulo)

    assert datetime.fromtimestamp(start / 1000, sao_paulo).isoformat() == "2018-11-04T01:00:00-02:00"
    assert datetime.fromtimestamp(start / 1000 - 1, sao_paulo).date() == date(2018, 11, 3)


@settings(max_examples=examples(200))
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    first=st.dates(min_value=date(1990, 1, 1), max_value=date(2035, 1, 1)),
    count=st.integers(min_value=1, max_value=40),
    data=st.data(),
)
def test_split_agrees_with_the_calendar(zone: ZoneInfo, first: date, count: int, data: st.DataObject) -> None:
    """Every row goes to its calendar day, none is lost or doubled, and each day keeps its order."""
    last = first + timedelta(days=count - 1)
    low, high = day_start(first, zone), day_start(last + timedelta(days=1), zone)
    events = data.draw(st.lists(st.integers(min_value=low, max_value=high - 1), max_size=60))
    batch = pa.RecordBatch.from_pydict({"n": pa.array(range(len(events)), pa.int64())})

    ordered, parts = DaySplitter(first, last, zone).split(batch, np.array(events, dtype=np.int64))

    seen = []
    for part in parts:
        numbers = ordered.column("n").to_pylist()[part.rows]
        assert numbers == sorted(numbers)
        times = [events[number] for number in numbers]
        assert (part.min_event, part.max_event) == (min(times), max(times))
        for time in times:
            instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
            assert instant.astimezone(zone).date().isoformat() == part.day
        seen += numbers
    assert sorted(seen) == list(range(len(events)))
    assert len({part.day for part in parts}) == len(parts)


def test_a_row_outside_the_window_is_refused() -> None:
    """A row the server was not asked for is an error that shows its event time."""
    splitter = DaySplitter(date(2025, 1, 15), date(2025, 1, 16), ZoneInfo("UTC"))
    outside = day_start(date(2025, 1, 17), ZoneInfo("UTC"))

    with pytest.raises(LakeError) as caught:
        splitter.split(pa.RecordBatch.from_pydict({"n": [1]}), np.array([outside], dtype=np.int64))

    assert str(caught.value) == (
        "window 2025-01-15 to 2025-01-16: the server sent a row with event time 1737072000000 (epoch ms), "
        "outside the requested days\n"
        "Nothing was kept. Is the feed's `event_time` column in epoch milliseconds?"
    )


def test_rowtime_decides_where_the_event_time_is_null() -> None:
    """A row without event time belongs to the day of its ROWTIME."""
    batch = pa.RecordBatch.from_pydict(
        {
            "ROWTIME": pa.array([10, 20, 30], pa.timestamp("ms", "UTC")),
            "AT": pa.array([1, None, 3], pa.int64()),
        }
    )

    assert event_times(batch, "AT").tolist() == [1, 20, 3]
    assert event_times(batch, "ROWTIME").tolist() == [10, 20, 30]

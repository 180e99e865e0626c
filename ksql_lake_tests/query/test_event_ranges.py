"""Ranges of event times where rows are easily lost: below a millisecond, and in days of another zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ksql_lake import connect, read_stream
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed
from ksql_lake_tests.query.test_reading import ENGINES, listed

NOON = datetime(2025, 1, 15, 12, tzinfo=UTC)


def ids(rows: Any) -> list[int]:
    """Return the sorted `ID` of rows."""
    return sorted(row["ID"] for row in listed(rows))


@pytest.mark.parametrize("unit", ["us", "ns"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_range_is_exact_below_a_millisecond(tmp_path: Path, unit: str, engine: str) -> None:
    """Event times in a finer unit are compared in that unit, by Python and by `NAME__between` alike."""
    feed, lake = stream_feed(event_time="TS", event_time_unit=unit), Lake(tmp_path / "lake")
    FeedStore(tmp_path / "feeds").add(feed)
    factor = {"us": 1, "ns": 1000}[unit]
    base = int(NOON.timestamp()) * 1_000_000
    rows = [{"ROWTIME": NOON, "TS": (base + 100 * number) * factor, "ID": number} for number in range(20)]
    for part in (rows[:10], rows[10:]):
        land_rows(lake, feed, part, schema=parse_schema("`ROWTIME` TIMESTAMP, `TS` BIGINT, `ID` BIGINT"))
    where: dict[str, Any] = {"root": lake.root, "feeds": tmp_path / "feeds"}

    for low, high in ((5, 15), (10, 19), (0, 1)):
        ends = [NOON + timedelta(microseconds=100 * number) for number in (low, high)]
        found = read_stream("events", from_time=ends[0], to_time=ends[1], as_=engine, **where)
        asked = ", ".join(f"'{end.isoformat()}'" for end in ends)
        between = connect(**where).sql(f'SELECT "ID" FROM events__between({asked})')

        assert ids(found) == sorted(row[0] for row in between.fetchall()) == list(range(low, high))


def test_a_nanosecond_counts(tmp_path: Path) -> None:
    """An instant of numpy between two rows of one microsecond tells them apart."""
    feed, lake = stream_feed(event_time="TS", event_time_unit="ns"), Lake(tmp_path / "lake")
    FeedStore(tmp_path / "feeds").add(feed)
    base = int(NOON.timestamp()) * 1_000_000_000
    rows = [{"ROWTIME": NOON, "TS": base + number, "ID": number} for number in range(3)]
    land_rows(lake, feed, rows, schema=parse_schema("`ROWTIME` TIMESTAMP, `TS` BIGINT, `ID` BIGINT"))

    found = read_stream(
        "events", from_time=np.datetime64(base + 1, "ns"), root=lake.root, feeds=tmp_path / "feeds"
    )

    assert ids(found) == [1, 2]


@pytest.mark.parametrize("file", ["whole", "lost", "edited"])
def test_days_are_those_of_the_first_rows(tmp_path: Path, file: str) -> None:
    """Without the feed's file, and with another zone in it, a range has the same rows as before."""
    feed, lake, feeds = stream_feed(timezone="Asia/Tokyo"), Lake(tmp_path / "lake"), tmp_path / "feeds"
    rows = [{**event(0), "ROWTIME": NOON + timedelta(hours=hour), "ID": hour} for hour in range(-16, 24)]
    land_rows(lake, feed, rows, days=4, origin=Origin())
    if file != "lost":
        FeedStore(feeds).add(feed if file == "whole" else stream_feed(timezone="America/Los_Angeles"))
    where: dict[str, Any] = {"root": lake.root, "feeds": feeds, "allow_open": True}

    # 15:00 UTC is midnight in Tokyo.
    assert ids(read_stream("events", from_time="2025-01-15T15:00Z", to_time="2025-01-15T18:00Z", **where)) == [
        *(3, 4, 5)
    ]
    day = "2025-01-16"
    assert ids(read_stream("events", day, day, **where)) == list(range(3, 24))
    assert ids(read_stream("events", from_time=day, to_time=day, **where)) == list(range(3, 24))


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
def test_instants_need_no_zone(tmp_path: Path, zone: str) -> None:
    """A lake that pinned no zone, read without its feed's file, loses no row of a range of instants."""
    feed, lake = stream_feed(timezone=zone), Lake(tmp_path / "lake")
    rows = [{**event(0), "ROWTIME": NOON + timedelta(hours=hour), "ID": hour} for hour in range(-4, 24)]
    land_rows(lake, feed, rows, days=4)

    for hour in range(-4, 24):
        begin = NOON + timedelta(hours=hour)
        found = read_stream(
            "events",
            from_time=begin,
            to_time=begin + timedelta(minutes=1),
            allow_open=True,
            root=lake.root,
            feeds=tmp_path / "feeds",
        )
        assert ids(found) == [hour]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_commit_before_the_first_row_has_no_rows(tmp_path: Path, engine: str) -> None:
    """A day was read and empty then: no rows, in the columns that came later, and no error."""
    feed, lake = stream_feed(), Lake(tmp_path / "lake")
    FeedStore(tmp_path / "feeds").add(feed)
    land_rows(lake, feed, [])
    land_rows(lake, feed, [event(1)])
    where: dict[str, Any] = {"root": lake.root, "feeds": tmp_path / "feeds", "as_": engine}

    assert listed(read_stream("events", commit=1, **where)) == []
    assert listed(read_stream("events", commit=1, from_time="2025-01-15", columns=["NOTE"], **where)) == []
    assert ids(read_stream("events", commit=2, from_time="2025-01-15", **where)) == [1]

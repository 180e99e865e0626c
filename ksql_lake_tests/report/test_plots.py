"""Plots: every mark inside its box, every day drawn once."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.report import FeedReport, Report, Status
from ksql_lake.report.analyzer import coverage
from ksql_lake.report.feed_model import DayPoint, ExportPoint, Freshness, VersionPoint
from ksql_lake.report.plots import (
    CELL,
    DAYS_SHOWN,
    EXPORTS_SHOWN,
    STRIPS_SHOWN,
    VERSIONS_SHOWN,
    WEEKS_SHOWN,
    Bars,
    CalendarStrip,
    calendar,
    export_durations,
    late_rows,
    records_per_day,
    version_growth,
)
from ksql_lake_tests.lake.landing import stream_feed

START = date(2024, 1, 1)
AT = datetime(2025, 1, 1, tzinfo=UTC)
BARE = FeedReport(
    name="x", kind="stream", source="X", description="", enabled=True, status=Status.HEALTHY, reason="",
    next_step="", running=False, records=0, current_records=0, bytes=0, files=0, partitions=0,
    first_partition=None, last_partition=None, min_event_time=None, max_event_time=None, last_export=None,
    evidence=None,
    freshness=Freshness(None, None, None), failures=None, coverage=None, late_rows=0, parquet_ratio=None,
    json_ratio=None, days=(), versions=(), exports=(), history_from=None, remarks=(),
)  # fmt: skip

counts = st.integers(0, 10**15)
days = st.dictionaries(st.dates(START, date(2026, 12, 31)), st.tuples(counts, counts), max_size=200).map(
    lambda found: tuple(DayPoint(day, rows, 1, late) for day, (rows, late) in sorted(found.items()))
)
exports = st.lists(st.tuples(counts, st.none() | st.floats(0, 1e7)), max_size=EXPORTS_SHOWN + 5).map(
    lambda found: tuple(
        ExportPoint(n, AT, seconds, rows, 0, 0, 0, 0) for n, (rows, seconds) in enumerate(found)
    )
)
versions = st.lists(st.tuples(counts, st.booleans()), max_size=VERSIONS_SHOWN + 5).map(
    lambda found: tuple(VersionPoint(n + 1, rows, 1, AT, kept) for n, (rows, kept) in enumerate(found))
)


def inside(plot: Bars | None, *, at_most: int) -> None:
    """Assert that all bars stand on the ground, in their own place, inside the box."""
    if plot is None:
        return
    assert 0 < plot.slots <= at_most
    assert len({bar.x for bar in plot.bars}) == len(plot.bars)
    for bar in plot.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= plot.width
        assert 0 < bar.height <= plot.height
        assert abs(bar.y + bar.height - plot.height) < 0.02


@settings(deadline=None)
@given(days=days, exports=exports, versions=versions)
def test_bars_stay_in_their_box(
    days: tuple[DayPoint, ...], exports: tuple[ExportPoint, ...], versions: tuple[VersionPoint, ...]
) -> None:
    """Whatever the numbers, none at all included, bars stay inside and are no more than fit."""
    feed = replace(BARE, days=days, exports=exports, versions=versions)

    inside(records_per_day(feed), at_most=DAYS_SHOWN)
    inside(late_rows(feed), at_most=DAYS_SHOWN)
    inside(version_growth(feed), at_most=VERSIONS_SHOWN)
    inside(export_durations(feed), at_most=EXPORTS_SHOWN)
    assert (records_per_day(feed) is None) == (not days)
    assert (version_growth(feed) is None) == (not versions)


def test_bars_are_as_high_as_their_numbers(report: Report) -> None:
    """Heights are proportional, and the top is the largest."""
    plot = records_per_day(next(feed for feed in report.feeds if feed.name == "whole"))

    assert plot is not None
    assert [(bar.height, bar.title) for bar in plot.bars] == [
        (100, "2025-01-15: 7 rows, 3 of them late"),
        (71.43, "2025-01-16: 5 rows"),
        (85.71, "2025-01-17: 6 rows"),
    ]
    assert (plot.top, plot.first, plot.last) == ("7 rows", "2025-01-15", "2025-01-17")


def test_removed_versions_are_paler(report: Report) -> None:
    """What retention removed looks and reads differently."""
    plot = version_growth(next(feed for feed in report.feeds if feed.name == "users"))

    assert plot is not None
    assert [(bar.meaning, bar.title.split(": ")[1]) for bar in plot.bars] == [
        ("gone", "1,000 rows, 100.0 kB (removed since)"),
        ("main", "1,200 rows, 120.0 kB"),
        ("main", "1,500 rows, 150.0 kB"),
    ]


def drawn(path: str, strip: CalendarStrip) -> list[date]:
    """The days of a path."""
    places = re.findall(r"M(\d+) (\d+)h7v7h-7z", path)
    assert "".join(f"M{x} {y}h7v7h-7z" for x, y in places) == path
    assert all(int(x) < strip.width and int(y) < strip.height for x, y in places)
    return [strip.first + timedelta(weeks=int(x) // CELL, days=int(y) // CELL) for x, y in places]


@pytest.mark.slow
@settings(deadline=None)
@given(
    start=st.dates(date(2015, 1, 1), date(2026, 6, 1)),
    looked=st.sets(st.dates(date(2024, 1, 1), date(2026, 6, 1)), max_size=200),
    filled=st.sets(st.dates(date(2024, 1, 1), date(2026, 6, 1)), max_size=50),
)
def test_every_day_is_drawn_once(start: date, looked: set[date], filled: set[date]) -> None:
    """Each day of the newest strips is in one path, in its own place, with its own meaning."""
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)
    read = {f"{day}": "2026-05-20T00:00:00.000+00:00" for day in looked}
    covered = coverage(stream_feed(start_date=start), read, now=now)
    feed = replace(BARE, coverage=covered, days=tuple(DayPoint(day, 5, 1, 0) for day in sorted(filled)))

    strips = calendar(feed)

    assert len(strips) <= STRIPS_SHOWN
    meanings: dict[date, str] = {}
    for strip in strips:
        assert strip.weeks <= WEEKS_SHOWN
        assert strip.first.weekday() == 0
        assert all(0 <= left < 100 for _, left in strip.months)
        for meaning, path in (
            ("filled", strip.filled),
            ("bare", strip.bare),
            *((run.state, run.path) for run in strip.runs),
        ):
            for day in drawn(path, strip):
                assert day not in meanings
                meanings[day] = meaning
    if start <= now.date():
        first = max(start, strips[0].first)
        assert sorted(meanings) == [first + timedelta(days=n) for n in range((now.date() - first).days + 1)]
    for day, meaning in meanings.items():
        expected = "filled" if day in filled else "bare"
        if day == now.date():
            expected = "open"
        elif day not in looked:
            expected = "missing"
        assert meaning == expected

"""A lake with one feed of every status, and its report; all times and sizes in it are constant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from ksql_lake.errors import QueryFailedError
from ksql_lake.feeds import TableFeed
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.failed_exports import record_failure
from ksql_lake.report import Report
from ksql_lake.report.lake_model import OtherData
from ksql_lake_tests.lake.landing import land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import backdate, land_days, of_day, report_of

D15, D16, D17 = date(2025, 1, 15), date(2025, 1, 16), date(2025, 1, 17)
NIGHT = datetime(2025, 1, 18, 1, tzinfo=UTC)
NOW = datetime(2025, 1, 18, 3, tzinfo=UTC)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report at 03:00 on a lake that was exported at 01:00 and 02:00."""
    root = tmp_path_factory.mktemp("every_status")
    lake = Lake(root)
    whole, stale, gaps, empty, failed, never = (
        stream_feed(name=name, source=name.upper(), start_date="2025-01-15", checks={"max_age_hours": hours})
        for name, hours in (("whole", 2), ("stale", 1), ("gaps", 26), ("empty", 4), ("failed", 4), ("never", 4))
    )
    rows = [*of_day(D15, 4), *of_day(D16, 5), *of_day(D17, 6)]
    for feed in (whole, stale, failed):
        land_days(lake, feed, rows, days=(D15, D17), read_at=NIGHT, response_bytes=1500)
    land_days(lake, whole, of_day(D15, 7), days=(D15, D17), read_at=NIGHT + timedelta(hours=1))
    land_days(lake, gaps, rows[:4], days=(D15, D15), read_at=NIGHT)
    land_days(lake, empty, [], days=(D15, D17), read_at=NIGHT)
    landed = NIGHT + timedelta(seconds=2.5)
    backdate(lake, whole, landed, landed + timedelta(hours=1))
    for feed in (stale, gaps, empty, failed):
        backdate(lake, feed, landed)
    failure = QueryFailedError("the query failed: <b>boom</b> | _x_", hint="Look at it.")
    record_failure(lake.storage, lake.feed(failed).layout, failure, at=NIGHT + timedelta(hours=1))
    users, off = _table(lake), table_feed(name="off", source="OFF", enabled=False)
    made = report_of(root, whole, stale, gaps, empty, failed, never, off, users, now=NOW)
    return _constant_sizes(made)


def _table(lake: Lake) -> TableFeed:
    users, landed = table_feed(retention=2), NIGHT + timedelta(seconds=1)
    for count in (1000, 1200, 1500):
        land_rows(lake, users, [{"ID": number, "NAME": "n"} for number in range(count)])
    lake.feed(users).apply_retention()
    backdate(lake, users, *(landed + timedelta(minutes=number) for number in range(4)))
    return users


def _constant_sizes(made: Report) -> Report:
    """The size of a Parquet file changes with the release that wrote it, and the folder with every run."""
    feeds = tuple(
        replace(
            feed,
            bytes=feed.records * 100,
            parquet_ratio=feed.parquet_ratio and 2.0,
            json_ratio=feed.json_ratio and 8.0,
            days=tuple(replace(day, bytes=day.records * 100) for day in feed.days),
            versions=tuple(replace(version, bytes=version.records * 100) for version in feed.versions),
        )
        for feed in made.feeds
    )
    totals = replace(made.totals, bytes=sum(feed.bytes for feed in feeds))
    return replace(made, feeds=feeds, totals=totals, lake="/lake")


@pytest.fixture
def troubled(report: Report) -> Report:
    """The same with data that no feed owns."""
    return replace(report, others=(OtherData("lost", "table", 3, 300, "there is no feed file for it"),))

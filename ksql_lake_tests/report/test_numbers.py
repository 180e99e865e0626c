"""The numbers of a report, exact, on real small lakes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.lake import Lake
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.days import Days
from ksql_lake.report import MetadataAnalyzer, MetadataReader
from ksql_lake.report.feed_model import DayPoint
from ksql_lake.report.lake_model import OtherData
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import NOON, feeds_of, land_days, of_day, report_of, report_on, tree

D15, D16, D17, D20 = date(2025, 1, 15), date(2025, 1, 16), date(2025, 1, 17), date(2025, 1, 20)
FEED = stream_feed(start_date="2025-01-15")


def test_a_stream(tmp_path: Path) -> None:
    """Rows, files, sizes, days, event times, the last export and late rows are those that landed."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, [*of_day(D15, 5), *of_day(D17, 2)], days=(D15, D17), response_bytes=4000)
    commit = land_days(lake, FEED, [*of_day(D15, 8), *of_day(D17, 2)], days=(D15, D17))

    found = report_on(tmp_path, FEED)

    sizes = {
        day: sum(path.stat().st_size for path in tmp_path.glob(f"streams/events/*/*/day={day.day}/*.parquet"))
        for day in (D15, D17)
    }
    assert (found.records, found.current_records, found.files, found.partitions) == (10, 10, 3, 2)
    assert found.bytes == sum(sizes.values())
    assert found.days == (DayPoint(D15, 8, sizes[D15], late=3), DayPoint(D17, 2, sizes[D17], late=0))
    assert (found.first_partition, found.last_partition) == ("2025-01-15", "2025-01-17")
    assert found.min_event_time == datetime(2025, 1, 15, tzinfo=UTC)
    assert found.max_event_time == datetime(2025, 1, 17, 0, 0, 1, tzinfo=UTC)
    assert found.late_rows == 3
    assert found.last_export is not None
    last = found.last_export
    assert (last.commit, last.read, last.new, last.already_there, last.late) == (2, 10, 3, 7, 3)
    assert last.at.isoformat(timespec="milliseconds") == commit.manifest.committed_at
    assert [export.commit for export in found.exports] == [1, 2]
    assert found.history_from is not None
    assert found.history_from < last.at
    assert found.coverage is not None
    assert (found.coverage.complete, found.coverage.open, found.coverage.missing) == (3, 1, 2)
    assert found.coverage.open_days == (Days(D20, D20),)
    assert found.coverage.missing_days == (Days(date(2025, 1, 18), date(2025, 1, 19)),)


def test_the_duration_is_from_the_reading_to_the_commit(tmp_path: Path) -> None:
    """Seconds are the commit's time less the time the reading began; a clock set back gives none."""
    began = datetime.now(UTC) - timedelta(seconds=90)
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(D15, 1), days=(D15, D15), read_at=began)
    land_days(lake, FEED, [], days=(D15, D15), read_at=datetime(2999, 1, 1, tzinfo=UTC))

    first, second = report_on(tmp_path, FEED).exports

    assert first.seconds is not None
    assert first.seconds == pytest.approx((first.at - began).total_seconds(), abs=0.002)
    assert first.seconds >= 90
    assert second.seconds is None


def test_the_ratio_to_json_takes_exports_that_were_all_new(tmp_path: Path) -> None:
    """Response bytes of an export that mostly read old rows say nothing about the size of the new ones."""
    lake = Lake(tmp_path)
    first = land_days(lake, FEED, of_day(D15, 500), days=(D15, D15), response_bytes=100_000)
    land_days(lake, FEED, of_day(D15, 501), days=(D15, D15), response_bytes=100_200)

    found = report_on(tmp_path, FEED)

    assert found.json_ratio == 100_000 / first.manifest.added[0].bytes


def test_the_compression_ratio_comes_from_footers(tmp_path: Path) -> None:
    """Compression that saves shows as a ratio over one; no codec shows as one; without files there is none."""
    lake = Lake(tmp_path)
    zstd = stream_feed(name="a", start_date="2025-01-15", compression="zstd")
    none = stream_feed(name="b", start_date="2025-01-15", compression="none")
    nothing = stream_feed(name="c", start_date="2025-01-15")
    for feed in (zstd, none):
        land_days(lake, feed, of_day(D15, 5000), days=(D15, D15))

    ratios = [found.parquet_ratio for found in report_of(tmp_path, zstd, none, nothing).feeds]

    assert ratios[0] is not None
    assert ratios[0] > 1.5
    assert ratios[1:] == [1.0, None]


def test_a_table_grows_by_version(tmp_path: Path) -> None:
    """Each version ever committed is listed, and which of them retention has removed."""
    lake, feed = Lake(tmp_path), table_feed(retention=2)
    for count in (2, 3, 5):
        land_rows(lake, feed, [{"ID": number, "NAME": "n"} for number in range(count)])
    lake.feed(feed).apply_retention()

    found = report_on(tmp_path, feed)

    assert [(point.version, point.records, point.kept) for point in found.versions] == [
        (1, 2, False),
        (2, 3, True),
        (3, 5, True),
    ]
    assert (found.current_records, found.records, found.partitions, found.files) == (5, 8, 2, 2)
    assert (found.first_partition, found.last_partition, found.days) == ("v2", "v3", ())
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))


def test_old_history_is_left_unread_and_said_so(tmp_path: Path) -> None:
    """The state is whole however little of the history is read; the report says from where on it counted."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, [*of_day(D15, 2), *of_day(D17, 1)], days=(D15, D17))
    land_days(lake, FEED, of_day(D15, 4), days=(D15, D17))
    land_days(lake, FEED, of_day(D15, 5), days=(D15, D17))
    reader = MetadataReader(tmp_path, history=1)

    (found,) = MetadataAnalyzer(reader, feeds_of(FEED), now=NOON).generate_report().feeds

    assert (found.records, found.late_rows, len(found.exports)) == (6, 1, 1)
    assert found.remarks == ("late rows, removed versions and the ratio to JSON are counted from commit 3 on",)


def test_totals_are_sums_over_active_feeds(tmp_path: Path) -> None:
    """The sums leave out data without an active feed, which is listed with the reason."""
    lake, table = Lake(tmp_path), table_feed()
    away, forgotten = stream_feed(name="away"), stream_feed(name="forgotten")
    land_days(lake, FEED, [*of_day(D15, 5), *of_day(D16, 2)], days=(D15, D17))
    land_rows(lake, table, [{"ID": 1, "NAME": "a"}])
    for other in (away, forgotten):
        land_rows(lake, other, [event(1)])

    report = report_of(tmp_path, FEED, table, archived=[away])

    events, users = report.feeds
    totals = report.totals
    assert [feed.name for feed in report.feeds] == ["events", "users"]
    assert (totals.feeds, totals.records, totals.files, totals.partitions) == (2, 8, 3, 3)
    assert totals.bytes == events.bytes + users.bytes
    assert (totals.complete_days, totals.open_days, totals.missing_days) == (3, 1, 2)
    assert {status.value: count for status, count in totals.statuses.items()} == {
        "incomplete": 1,
        "healthy": 1,
    }
    sizes = [lake.feed(other).state().bytes for other in (away, forgotten)]
    assert report.others == (
        OtherData("away", "stream", 1, sizes[0], "its feed is archived"),
        OtherData("forgotten", "stream", 1, sizes[1], "there is no feed file for it"),
    )


def test_metadata_is_listed_without_feed_files(tmp_path: Path) -> None:
    """`list_all_metadata` gives state, history and `_metadata.json` of everything in the lake."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(D15, 5), days=(D15, D17))
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "a"}])

    events, users = MetadataReader(tmp_path).list_all_metadata()

    assert [(one.layout.kind, one.name) for one in (events, users)] == [
        ("stream", "events"),
        ("table", "users"),
    ]
    assert events.state == lake.feed(FEED).state()
    assert events.summary is not None
    assert (events.summary.commit, events.summary.records, events.summary.bytes) == (1, 5, events.state.bytes)
    assert [export.read for export in events.history.exports] == [5]
    assert list(users.history.versions) == [1]


def test_a_report_changes_nothing(tmp_path: Path) -> None:
    """Not a byte and not a time of any file in the lake is different afterwards."""
    lake = Lake(tmp_path)
    land_days(lake, FEED, of_day(D15, 5), days=(D15, D17))
    with lake.feed(FEED).exclusive():
        pass
    before = tree(tmp_path)

    report_of(tmp_path, FEED)

    assert tree(tmp_path) == before


def test_a_lake_whose_path_holds_wildcards_is_read(tmp_path: Path) -> None:
    """Brackets, stars and quotes in the lake's path are characters like any other."""
    root = tmp_path / "la[k]e *?' {x}"
    land_days(Lake(root), FEED, of_day(D15, 5), days=(D15, D17))

    report = report_of(root, FEED)

    assert (report.cross_check.sampled, report.cross_check.summaries) == (1, 1)
    assert report.cross_check.disagreements == ()


def test_an_edited_time_zone_completes_no_day(tmp_path: Path) -> None:
    """Days are open or complete by the time zone in which the lake has them, whatever the feed file says."""
    lake, midnight = Lake(tmp_path), "2025-01-18T00:00:00.000+00:00"
    west, east = stream_feed(timezone="Etc/GMT+12"), stream_feed(timezone="Pacific/Kiritimati")
    land_rows(lake, west, [event(12 * 3600, day=2)], origin=Origin(topic="events"), read_at=midnight)

    found = report_on(tmp_path, east).coverage

    assert found is not None
    assert (found.timezone, found.complete) == ("Etc/GMT+12", 2)
    assert date(2025, 1, 17) in {day for days in found.open_days for day in days}

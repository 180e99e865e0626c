"""Merging the files of closed days, and small ones of days that are still written to."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import PartitionState
from ksql_lake.lake.compaction_plan import OPEN_FILES, ripe
from ksql_lake.lake.doctor import Problem, Remedy
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.files.statistics import NanColumns
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import EVENTS, event, held_rows, land_rows, stream_feed

LATER = datetime(2025, 2, 1, 12, tzinfo=UTC)


def files(lake: Lake) -> list[str]:
    """Parquet files by day."""
    return sorted(path.parent.name for path in Path(lake.root, "streams/events").rglob("*.parquet"))


def test_a_closed_day_becomes_one_file_with_the_same_rows(tmp_path: Path) -> None:
    """Many small files become one; rows, checksum, certificate and row identity stay as they were."""
    lake, feed = Lake(tmp_path), stream_feed()
    for number in range(5):
        land_rows(lake, feed, [event(number, day=0), event(number, day=1), event(7)])
    before, rows = lake.feed(feed).state(), held_rows(lake, feed)
    assert files(lake) == ["day=15"] * 5 + ["day=16"] * 5
    plan = lake.feed(feed).plan_compaction(now=LATER)
    assert (plan.days, plan.files) == (("2025-01-15", "2025-01-16"), 10)

    done = list(lake.feed(feed).compact(now=LATER))

    assert [(day.files_before, day.files_after) for day in done] == [(5, 1), (5, 1)]
    assert files(lake) == ["day=15", "day=16"]
    assert held_rows(lake, feed) == rows
    after = lake.feed(feed).state()
    for day in after.partition_keys():
        assert after.partitions[day].checksum == before.partitions[day].checksum
    assert land_rows(lake, feed, [event(3), event(7)]).manifest.operation == "look"
    assert list(lake.feed(feed).compact(now=LATER)) == []


def test_open_and_recent_days_are_left_alone(tmp_path: Path) -> None:
    """Only days that ended long enough ago are merged."""
    lake, feed = Lake(tmp_path), stream_feed()
    for number in range(2):
        land_rows(lake, feed, [event(number, day=0), event(number, day=2)])

    assert lake.feed(feed).plan_compaction(older_than=1, now=datetime(2025, 1, 17, 5, tzinfo=UTC)).days == (
        "2025-01-15",
    )
    assert lake.feed(feed).plan_compaction(older_than=0, now=datetime(2025, 1, 15, 5, tzinfo=UTC)).days == ()


def test_files_of_different_columns_stay_apart(tmp_path: Path) -> None:
    """Rows from before a column existed are still known as such after merging."""
    lake, feed = Lake(tmp_path), stream_feed()
    wide = parse_schema(f"{EVENTS.text}, `EXTRA` STRING")
    land_rows(lake, feed, [event(1)])
    land_rows(lake, feed, [event(2)])
    land_rows(lake, feed, [{**event(3), "EXTRA": "x"}], schema=wide)
    land_rows(lake, feed, [{**event(4), "EXTRA": "y"}], schema=wide)

    while list(lake.feed(feed).compact(now=LATER)):
        pass

    assert len(files(lake)) == 2
    again = [{**event(number), "EXTRA": extra} for number, extra in ((1, "new"), (2, None), (3, "x"), (4, "y"))]
    assert land_rows(lake, feed, again, schema=wide).manifest.operation == "look"


@pytest.mark.parametrize("step", ["commit", "committed", "publish", "remove", "derive", "clear"])
def test_an_interrupted_merge_loses_nothing(tmp_path: Path, step: str) -> None:
    """Interrupted at any step, the next opening of the feed holds the same rows once."""
    feed = stream_feed()
    for number in range(3):
        land_rows(Lake(tmp_path), feed, [event(number)])
    rows = held_rows(Lake(tmp_path), feed)

    def stop(name: str) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Lake(tmp_path, on_step=stop).feed(feed).compact(now=LATER))

    lake = Lake(tmp_path)
    lake.feed(feed).recover()
    assert held_rows(lake, feed) == rows
    assert len(files(lake)) == (3 if step == "commit" else 1)


def test_a_damaged_file_is_never_merged(tmp_path: Path) -> None:
    """A file that does not hold what its manifest says stops the merge, and nothing is removed."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])
    land_rows(lake, feed, [event(2), event(3)])
    first, second = sorted(Path(lake.root, "streams/events").rglob("*.parquet"))
    first.write_bytes(second.read_bytes())

    with pytest.raises(CorruptLakeError, match="nothing was merged"):
        list(lake.feed(feed).compact(now=LATER))

    assert len(files(lake)) == 2


@pytest.mark.parametrize("nan", [False, True])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, nan: bool) -> None:
    """A file whose end is lost stops the merge by its name, and nothing is removed."""
    lake, feed = Lake(tmp_path), stream_feed()
    for number in (1, 2):
        land_rows(lake, feed, [event(number)])
    damaged, _ = sorted(Path(lake.root, "streams/events").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-30])

    with pytest.raises(CorruptLakeError, match=f"{damaged.name}: it cannot be read: .*; nothing was merged"):
        list(lake.feed(feed).compact(now=LATER, nan=nan))

    assert len(files(lake)) == 2


def test_files_whose_statistics_leave_nan_out_are_found_and_written_anew(tmp_path: Path) -> None:
    """Doctor names a file of an older release, `compact` with `nan` rewrites it; the rows stay the same."""
    lake, feed = Lake(tmp_path), stream_feed()
    schema = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `D` DOUBLE")
    rows = [
        {"ROWTIME": event(number, day=day)["ROWTIME"], "ID": number, "D": math.nan if number == 2 else number}
        for day in range(2)
        for number in range(4)
    ]
    with pytest.MonkeyPatch.context() as patch:
        # As a release wrote it that did not look for NaN.
        patch.setattr(NanColumns, "add", lambda *_: None)
        patch.setattr(NanColumns, "note", {})
        land_rows(lake, feed, rows, schema=schema)
    before = held_rows(lake, feed)
    found = examine(lake.storage, lake.feed(feed).layout)
    assert {(finding.problem, finding.remedy) for finding in found.findings} == {
        (Problem.NAN_LEFT_OUT, Remedy.MANUAL)
    }
    assert len(found.findings) == 2
    assert "filters on D miss rows" in found.findings[0].detail

    assert list(lake.feed(feed).compact()) == []
    assert lake.feed(feed).plan_compaction(nan=True).days == ("2025-01-15", "2025-01-16")
    done = list(lake.feed(feed).compact(nan=True))

    assert [(day.files_before, day.files_after) for day in done] == [(1, 1), (1, 1)]
    assert held_rows(lake, feed) == before
    assert examine(lake.storage, lake.feed(feed).layout).sound
    assert lake.feed(feed).relation().filter("isnan(D)").aggregate("count(*)").fetchall() == [(2,)]
    assert list(lake.feed(feed).compact(nan=True)) == []


EARLY = datetime(2025, 1, 15, 12, tzinfo=UTC)
"""Noon of the first day: no day has ended."""


def test_many_small_files_of_open_days_become_few(tmp_path: Path) -> None:
    """On request an open day's small files become one; rows, checksums and what is known stay."""
    lake, feed = Lake(tmp_path), stream_feed()
    for number in range(OPEN_FILES):
        land_rows(lake, feed, [event(number, day=0), event(number, day=1)])
    before, rows = lake.feed(feed).state(), held_rows(lake, feed)

    assert lake.feed(feed).plan_compaction(now=EARLY).open_days == ()
    assert list(lake.feed(feed).compact(now=EARLY)) == []
    done = list(lake.feed(feed).compact(now=EARLY, open_files=OPEN_FILES))

    assert [(day.day, day.files_before, day.files_after) for day in done] == [
        ("2025-01-15", OPEN_FILES, 1),
        ("2025-01-16", OPEN_FILES, 1),
    ]
    assert held_rows(lake, feed) == rows
    after = lake.feed(feed).state()
    assert {day: after.partitions[day].checksum for day in after.partitions} == {
        day: before.partitions[day].checksum for day in before.partitions
    }
    assert (after.looked, after.certified, after.last_read) == (
        before.looked,
        before.certified,
        before.last_read,
    )
    again = [event(number, day=day) for number in range(OPEN_FILES) for day in (0, 1)]
    assert land_rows(lake, feed, again).manifest.operation == "look"
    assert examine(lake.storage, lake.feed(feed).layout).sound


def test_a_large_file_is_not_written_again_for_a_few_rows(tmp_path: Path) -> None:
    """Small files beside a large one are merged among themselves, and not with it."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(number) for number in range(1000)])
    (large,) = lake.feed(feed).state().files_of("2025-01-15")
    for number in range(OPEN_FILES):
        land_rows(lake, feed, [event(2000 + number)])

    (done,) = lake.feed(feed).compact(now=EARLY, open_files=OPEN_FILES)

    assert (done.files_before, done.files_after) == (OPEN_FILES + 1, 2)
    assert large.path in {file.path for file in lake.feed(feed).state().files_of("2025-01-15")}


def test_a_closed_day_is_not_written_again_for_each_late_row(tmp_path: Path) -> None:
    """With open days late rows wait beside a closed day's large file while they come; else all is one."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(number) for number in range(1000)])
    for number in range(3):
        land_rows(lake, feed, [event(2000 + number)])
    present = datetime.now(UTC)
    day = lake.feed(feed)

    assert day.plan_compaction(now=present, open_files=OPEN_FILES).days == ()
    assert list(day.compact(now=present, open_files=OPEN_FILES)) == []
    assert day.plan_compaction(now=present).days == ("2025-01-15",)
    (done,) = day.compact(now=present + timedelta(days=2), open_files=OPEN_FILES)
    for number in range(OPEN_FILES):
        land_rows(lake, feed, [event(3000 + number)])
    (late,) = day.compact(now=datetime.now(UTC), open_files=OPEN_FILES)

    assert (done.files_before, done.files_after) == (4, 1)
    assert (late.files_before, late.files_after) == (OPEN_FILES + 1, 2)


def test_files_of_earlier_columns_wait_until_their_day_is_closed(tmp_path: Path) -> None:
    """In an open day only files of the newest columns are merged, so that no check sees old ones return."""
    lake, feed = Lake(tmp_path), stream_feed()
    wide = parse_schema(f"{EVENTS.text}, `EXTRA` STRING")
    for number in range(3):
        land_rows(lake, feed, [event(number)])
    for number in range(3):
        land_rows(lake, feed, [{**event(10 + number), "EXTRA": "x"}], schema=wide)

    (done,) = lake.feed(feed).compact(now=EARLY, open_files=3)

    assert (done.files_before, done.files_after) == (6, 4)
    assert lake.feed(feed).state().shapes[-1][1] == wide.text
    assert len(lake.feed(feed).state().shapes) == 2


@pytest.mark.parametrize("step", ["commit", "committed", "publish", "remove", "derive", "clear"])
def test_an_interrupted_merge_of_an_open_day_loses_nothing(tmp_path: Path, step: str) -> None:
    """Interrupted at any step, the next opening holds every row once, and the next export goes on."""
    feed = stream_feed()
    for number in range(3):
        land_rows(Lake(tmp_path), feed, [event(number)])
    rows = held_rows(Lake(tmp_path), feed)

    def stop(name: str) -> None:
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Lake(tmp_path, on_step=stop).feed(feed).compact(now=EARLY, open_files=2))

    lake = Lake(tmp_path)
    lake.feed(feed).recover()
    assert held_rows(lake, feed) == rows
    assert len(files(lake)) == (3 if step == "commit" else 1)
    assert land_rows(lake, feed, [event(1), event(7)]).manifest.counts[0].new == 1


@given(
    st.lists(st.one_of(st.integers(1, 20), st.integers(1, 100_000)), min_size=1, max_size=150),
    st.integers(2, 12),
)
def test_files_stay_few_and_rows_are_rarely_written_again(sizes: list[int], least: int) -> None:
    """Whatever the sizes: at most `least` + log2(rows) files, and a merge at least doubles each file in it."""
    day: list[FileEntry] = []
    for number, rows in enumerate(sizes, 1):
        day.append(entry(number, rows))
        merged = ripe(holding(day), DAY, least)
        if merged:
            records = [file.records for file in merged]
            assert len(records) >= least
            assert sum(records) >= 2 * max(records)
            day = [file for file in day if file not in merged] + [entry(number, sum(records))]
            assert ripe(holding(day), DAY, least) == []
        assert len(day) <= least + math.log2(sum(file.records for file in day))


DAY = "2025-01-15"


def entry(sequence: int, records: int) -> FileEntry:
    """A file of a commit with this many rows; nothing but their number matters here."""
    path = f"year=2025/month=01/day=15/data_20250115_120000_{sequence:06d}.parquet"
    return FileEntry(
        path=path, partition=DAY, staged="", records=records, bytes=records, sha256="", checksum=""
    )


def holding(day: list[FileEntry]) -> FeedState:
    """A stream's state with these files of one day."""
    partitions = {DAY: PartitionState(files=tuple(day))}
    return FeedState(kind="stream", sequence=len(day), shapes=((1, EVENTS.text),), partitions=partitions)

"""Merging the files of closed days."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import Problem, Remedy
from ksql_lake.lake.doctor.examine import examine
from ksql_lake.lake.statistics import NanColumns
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


def test_files_whose_statistics_leave_nan_out_are_found_and_written_anew(tmp_path: Path) -> None:
    """Doctor names a file of an older release, `compact` with `nan` writes it anew; the rows stay the same."""
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

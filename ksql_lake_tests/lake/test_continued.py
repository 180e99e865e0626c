"""Marks of a feed that is read on: kept by merges, outdated by every other reading, refused where untrue."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from ksql_lake.errors import ConflictError
from ksql_lake.lake import Commit, FeedState, Lake, ReadFacts
from ksql_lake.lake.commit.continued import Continuation, Continued, Gap, SinkMark, SourceMark, check_continued
from ksql_lake.lake.commit.derived_files import decode_checkpoint, encode_checkpoint
from ksql_lake.lake.commit.manifest import Manifest
from ksql_lake.lake.commit.marks import Pushed
from ksql_lake.lake.soundness import UnsoundError
from ksql_lake.schema import arrow_schema
from ksql_lake_tests.lake.landing import EVENTS, FIRST, event, land_rows, stream_feed

MARKS = Continued(
    query="CSAS_D_1",
    sink=[SinkMark(3, 0), SinkMark(0)],
    groups=["AAAAAA=="],
    source={1: SourceMark(0, 2, 4, 40, [(4, 5)]), 0: SourceMark(5, 5)},
    gaps=[Gap(1, 2, 4, "2025-01-15T00:00:00.000+00:00")],
    since="2025-01-01",
).sealed()


def land_on(lake: Lake, *numbers: int, base: object = None, fresh: bool = True) -> Commit:
    """Commit rows that were read on from marks."""
    feed = stream_feed()
    state = lake.feed(feed).state()
    read = ReadFacts(
        source="EVENTS",
        statement="SELECT ...;",
        read_at="2025-01-19T00:00:00.000+00:00",
        first_day=FIRST.isoformat(),
        last_day=FIRST.isoformat(),
    )
    rows = pa.RecordBatch.from_pylist([event(number) for number in numbers], schema=arrow_schema(EVENTS))
    with lake.feed(feed).stage(EVENTS, read=read, days=(FIRST, FIRST)) as staging:
        staging.write(rows)
        reading = state.reading if base is None else base
        return staging.commit(pushed=Pushed(continuation=Continuation(MARKS, reading, fresh)))


def test_marks_survive_a_merge_and_a_checkpoint(tmp_path: Path) -> None:
    """Merging files changes no row, and a saved state says the same as its manifests."""
    lake = Lake(tmp_path)
    land_on(lake, 1)
    land_on(lake, 2)
    assert list(lake.feed(stream_feed()).compact(older_than=0))
    state = lake.feed(stream_feed()).state()

    assert state.continued == MARKS
    saved = decode_checkpoint(encode_checkpoint(state), "stream")
    assert saved is not None
    assert saved.continued == MARKS
    assert saved.continued.sound


def test_every_other_reading_outdates_them_and_the_first_reason_stays(tmp_path: Path) -> None:
    """Rows that came otherwise are not between the marks: they stay only to recognise the source by."""
    lake = Lake(tmp_path)
    land_on(lake, 1)
    land_rows(lake, stream_feed(), [event(2)])
    land_rows(lake, stream_feed(), [event(3)])
    marks = lake.feed(stream_feed()).state().continued

    assert marks is not None
    assert marks.out == "commit 2: its days were read in another way"
    assert marks.sound
    assert msgspec.structs.replace(marks, out="") == MARKS


@pytest.mark.parametrize("operation", ["forget", "rebuilt", "append", "look"])
def test_lost_or_added_rows_outdate_them(operation: str) -> None:
    """Whatever doctor did to the rows, the next reading compares them all."""
    state = msgspec.structs.replace(FeedState(kind="stream"), sequence=1, continued=MARKS)
    manifest = Manifest(
        sequence=2,
        attempt="a",
        feed="events",
        kind="stream",
        operation=operation,  # type: ignore[arg-type]
        committed_at="2025-01-19T00:00:00.000+00:00",
    )
    after = state.after([manifest]).continued

    assert after is not None
    assert after.out.startswith("commit 2: ")


def test_rows_that_are_all_new_are_compared_with_none(tmp_path: Path) -> None:
    """An equal row is another event where its offset says so; no file of the lake is opened for it."""
    lake = Lake(tmp_path)
    land_on(lake, 1)
    again = land_on(lake, 1)

    assert again.compared == 0
    assert [count.new for count in again.manifest.counts] == [1]
    assert lake.feed(stream_feed()).state().records == 2


def test_a_reading_since_makes_a_commit_void(tmp_path: Path) -> None:
    """Rows beyond marks are not added once another run has read the feed, in whatever way."""
    lake = Lake(tmp_path)
    before = lake.feed(stream_feed()).state().reading
    land_rows(lake, stream_feed(), [event(2)])

    for fresh in (True, False):
        with pytest.raises(ConflictError, match="another run has read the source meanwhile"):
            land_on(lake, 2, base=before, fresh=fresh)
    assert lake.feed(stream_feed()).state().records == 1


def test_a_digest_tells_changed_marks() -> None:
    """Not the reason for which they are outdated, which comes later."""
    assert MARKS.sound
    assert MARKS.outdated("why").sound
    assert not msgspec.structs.replace(MARKS, query="CSAS_D_2").sound
    assert msgspec.json.decode(msgspec.json.encode(MARKS), type=Continued).sound


@pytest.mark.parametrize(
    "change",
    [
        {"sink": [SinkMark(-1)]},
        {"sink": [SinkMark(1, 5)]},
        {"source": {0: SourceMark(0, 2, 1, 0, [(1, 3)])}},
        {"source": {0: SourceMark(0, 2, 1, 0, [(4, 4)])}},
        {"source": {-1: SourceMark(0, 2)}},
        {"gaps": [Gap(0, 1, 2, "yesterday")]},
        {"since": "once"},
        {"awaited": "../.."},
    ],
    ids=lambda change: str(change)[:40],
)
def test_marks_that_cannot_be_true_are_refused(change: dict[str, object]) -> None:
    """Numbers below zero, groups that are not there, ranges that overlap, days that are none."""
    check_continued(MARKS)
    with pytest.raises(UnsoundError):
        check_continued(msgspec.structs.replace(MARKS, **change))

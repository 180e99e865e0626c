"""Promises about which rows of a push query land: pure, against a naive model."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError, TopicRecreatedError
from ksql_lake.export import Days
from ksql_lake.export.push.placing import Placing
from ksql_lake.export.push.push_query import MOST_TERMS, positioned
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.commit.manifest import Manifest, PartitionCount, ReadFacts
from ksql_lake.lake.commit.marks import KnownDays, Mark, furthest, known_days
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.rows.event_days import DaySplitter
from ksql_lake_tests.export.push.server import DAY, FIRST, feed

WINDOW = DaySplitter(date(2025, 1, 6), date(2025, 1, 8), ZoneInfo("UTC"))
Row = tuple[int, int, int]
"""Kafka partition, offset, day of the window (-1 and 3 lie outside)."""


def time_of(row: Row) -> int:
    """When a row happened, epoch ms: its offset is in it."""
    return FIRST + row[2] * DAY + row[1]


def batch(rows: list[Row]) -> pa.RecordBatch:
    """Rows as they are decoded."""
    return pa.RecordBatch.from_pydict(
        {
            "ROWTIME": pa.array([time_of(row) for row in rows], pa.int64()),
            "ROWPARTITION": pa.array([row[0] for row in rows], pa.int32()),
            "ROWOFFSET": pa.array([row[1] for row in rows], pa.int64()),
        }
    )


def places(found: pa.RecordBatch) -> list[tuple[int, int]]:
    """Partition and offset of each row."""
    return [(row["ROWPARTITION"], row["ROWOFFSET"]) for row in found.to_pylist()]


def known(**days: dict[int, int]) -> KnownDays:
    """Marks by day of the window: `d0={0: 5}`."""
    names = {WINDOW.days[int(name[1:])]: name for name in days}
    marks = {name: {p: Mark(o, 0) for p, o in offsets.items()} for name, offsets in days.items()}
    return KnownDays(names, marks, {})


POSITION = st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(-1, 3))


@given(
    st.lists(st.lists(POSITION, max_size=12), max_size=5),
    st.dictionaries(
        st.sampled_from(["d0", "d1", "d2"]), st.dictionaries(st.integers(0, 2), st.integers(0, 10))
    ),
)
def test_rows_land_once_beyond_the_marks_of_their_day(
    batches: list[list[Row]], marks: dict[str, dict[int, int]]
) -> None:
    """As a naive model has it: in the window, beyond the mark of the day, beyond every row before."""
    placing = Placing(WINDOW, known(**marks), event_time="ROWTIME", placed=True)
    last: dict[int, int] = {}
    for rows in batches:
        expected = []
        for partition, offset, day in rows:
            forward = offset > last.get(partition, -1)
            last[partition] = max(offset, last.get(partition, -1))
            if forward and 0 <= day < 3 and offset > marks.get(f"d{day}", {}).get(partition, -1):
                expected.append((partition, offset))
        assert places(placing.take(batch(rows))) == expected
    assert {partition: mark.offset for partition, mark in placing.seen.items()} == last


def test_a_mark_remembers_its_rows_time() -> None:
    """The furthest row of each partition, landed or not, with its ROWTIME."""
    placing = Placing(WINDOW, KnownDays(), event_time="ROWTIME", placed=True)
    placing.take(batch([(0, 3, 1), (1, 7, 9), (0, 4, 0)]))
    assert placing.seen == {0: Mark(4, time_of((0, 4, 0))), 1: Mark(7, time_of((1, 7, 9)))}


def test_another_row_at_a_mark_is_another_topic() -> None:
    """The same offset with another time is refused; with the same time it is fine."""
    same = KnownDays({}, {}, {0: Mark(4, time_of((0, 4, 1)))})
    Placing(WINDOW, same, event_time="ROWTIME", placed=True).take(batch([(0, 4, 1), (0, 5, 1)]))
    with pytest.raises(TopicRecreatedError, match="offset 4 of partition 0 has the time"):
        Placing(WINDOW, same, event_time="ROWTIME", placed=True).take(batch([(0, 3, 1), (0, 4, 2)]))


def test_a_topic_that_ends_before_its_mark_is_another() -> None:
    """Whether the server reports the end, or all rows were seen; a partition without any row says nothing."""
    marked = KnownDays({}, {}, {0: Mark(9, 0), 1: Mark(9, 0)})
    placing = Placing(WINDOW, marked, event_time="ROWTIME", placed=True)
    placing.take(batch([(0, 3, 1)]))
    placing.check_ends({}, all_rows=False)
    placing.check_ends({1: 10}, all_rows=False)
    for end in (3, 9):
        with pytest.raises(TopicRecreatedError, match=f"partition 1 ends at {end}, but was read up to 9"):
            placing.check_ends({1: end}, all_rows=False)
    with pytest.raises(TopicRecreatedError, match="the last offset of partition 0 is 3"):
        placing.check_ends({}, all_rows=True)


def test_a_row_without_a_place_is_refused() -> None:
    """A stream's rows always have one; a NULL would land again and again."""
    placing = Placing(WINDOW, KnownDays(), event_time="ROWTIME", placed=True)
    broken = batch([(0, 1, 1)]).set_column(2, "ROWOFFSET", pa.nulls(1, pa.int64()))
    with pytest.raises(ProtocolError, match="a row without ROWOFFSET"):
        placing.take(broken)


def stream() -> StreamFeed:
    """A stream feed."""
    found = feed("s")
    assert isinstance(found, StreamFeed)
    return found


def test_the_condition_asks_for_what_is_not_known() -> None:
    """Days with marks are asked for beyond them, others whole; the rows at the newest marks come again."""
    days = Days(date(2025, 1, 6), date(2025, 1, 8))
    half = KnownDays(
        {"2025-01-06": "1.0", "2025-01-07": "1.0"}, {"1.0": {0: Mark(5, 1), 2: Mark(9, 1)}}, {2: Mark(9, 1)}
    )
    assert positioned(stream(), days, half, event_type="BIGINT", since=77) == (
        f"((ROWTIME >= {FIRST} AND ROWTIME < {FIRST + 2 * DAY}) AND ((ROWPARTITION = 0 AND ROWOFFSET > 5) OR "
        "(ROWPARTITION = 2 AND ROWOFFSET > 9) OR ROWPARTITION NOT IN (0, 2))) OR "
        f"(ROWTIME >= {FIRST + 2 * DAY} AND ROWTIME < {FIRST + 3 * DAY}) OR ROWTIME >= 77 OR "
        "(ROWPARTITION = 2 AND ROWOFFSET = 9)"
    )


def test_a_condition_never_grows_beyond_what_a_server_compiles() -> None:
    """With very many partitions it asks for the window, and the marks decide here."""
    days = Days(date(2025, 1, 6), date(2025, 1, 8))
    many = {number: Mark(5, 1) for number in range(MOST_TERMS + 1)}
    text = positioned(
        stream(), days, KnownDays({"2025-01-06": "1.0"}, {"1.0": many}, many), event_type="BIGINT", since=77
    )
    assert text.count("ROWOFFSET >") == 0
    assert text.count("ROWOFFSET =") == MOST_TERMS
    assert text.startswith(f"(ROWTIME >= {FIRST} AND ROWTIME < {FIRST + 3 * DAY}) OR ")


def commit(
    state: FeedState, days: list[str], seen: dict[int, int] | None, *, new_topic: bool = False
) -> FeedState:
    """Return the state after an export of these days, by push with what was seen, or by pull."""
    known_now = KnownDays() if new_topic else known_days(state.marks, state.marked, days)
    marks = {number: Mark(offset, 0) for number, offset in (seen or {}).items()}
    manifest = Manifest(
        sequence=state.sequence + 1,
        attempt="a",
        feed="s",
        kind="stream",
        operation="look",
        committed_at="2025-01-09T00:00:00+00:00",
        read=ReadFacts(source="S", statement="", read_at="2025-01-09T00:00:00+00:00"),
        counts=[PartitionCount(partition=day, read=0, new=0, already_there=0) for day in days],
        positions=[] if seen is None else known_now.moved(days, marks),
        new_topic=new_topic,
    )
    return state.after([manifest])


def offsets(state: FeedState, day: str) -> dict[int, int] | None:
    """The marks of a day."""
    marks = known_days(state.marks, state.marked, [day]).of(day)
    return None if marks is None else {number: mark.offset for number, mark in marks.items()}


def test_marks_belong_to_days_and_only_move_forward() -> None:
    """Each day keeps what was seen for it; a pull takes its marks away, a new topic those of all others."""
    state = FeedState(kind="stream")
    state = commit(state, ["2025-01-06", "2025-01-07"], {0: 5, 1: 9})
    state = commit(state, ["2025-01-07", "2025-01-08"], {0: 7})
    assert offsets(state, "2025-01-06") == {0: 5, 1: 9}
    assert offsets(state, "2025-01-07") == {0: 7, 1: 9}
    assert offsets(state, "2025-01-08") == {0: 7}
    state = commit(state, ["2025-01-07"], None)
    assert offsets(state, "2025-01-07") is None
    assert {number: mark.offset for number, mark in furthest(state.marks.values()).items()} == {0: 7, 1: 9}
    state = commit(state, ["2025-01-06"], {0: 1}, new_topic=True)
    assert [offsets(state, day) for day in ("2025-01-06", "2025-01-08")] == [{0: 1}, None]

"""What of a source is known: prefixes without a gap, and rows beyond them, in any order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError, TopicRecreatedError
from ksql_lake.export.continuing.prefix import Flags, SourceRows, bounded
from ksql_lake.ksqldb.offsets import LogOffsets
from ksql_lake.lake.commit.continued import Gap, SourceMark


def take(source: SourceRows, *offsets: int, partition: int = 0, age: int = 0) -> list[bool]:
    """Let rows come whose time is ten times their offset, and more if they are of another topic."""
    numbers = np.array(offsets, np.int64)
    fresh: Flags = source.take(np.full(len(offsets), partition, np.int64), numbers, numbers * 10 + age)
    return [bool(one) for one in fresh]


def known(mark: SourceMark) -> set[int]:
    """The offsets that a mark knows."""
    ahead = {offset for first, end in mark.ahead for offset in range(first, end)}
    return set(range(mark.start, mark.next)) | ahead


@given(st.data())
def test_each_offset_is_new_once_in_any_order_and_over_any_commits(data: st.DataObject) -> None:
    """Whatever comes twice, in whatever order, with the marks carried over: each row counts as new once."""
    start, count = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 40))
    ends = {0: LogOffsets(start, start + count, start + count)}
    offsets = data.draw(st.permutations(range(start, start + count)))
    again = data.draw(st.lists(st.sampled_from(offsets), max_size=8))
    source, seen = SourceRows({}, ends), set[int]()
    for offset in [*offsets[: count // 2], *again, *offsets[count // 2 :]]:
        assert take(source, offset) == [offset not in seen]
        seen.add(offset)
        assert known(source.marks[0]) == seen
        missing = {one for _, first, end in source.missing() for one in range(first, end)}
        assert missing == set(range(start, start + count)) - seen
        if data.draw(st.booleans()):
            source = SourceRows(source.marks, ends)
    assert source.reached


def test_a_gap_is_named_and_jumped_over() -> None:
    """What never came is given with its range, and rows beyond it are in the prefix then."""
    source = SourceRows({}, {0: LogOffsets(0, 10, 10), 1: LogOffsets(4, 6, 6)})
    take(source, 0, 1, 2, 5, 6, 9)
    take(source, 4, 5, partition=1)

    assert not source.reached
    assert source.missing() == [(0, 3, 5), (0, 7, 9)]
    assert source.accept(seen_at="2025-01-06T00:00:00.000+00:00") == [
        Gap(0, 3, 5, "2025-01-06T00:00:00.000+00:00"),
        Gap(0, 7, 9, "2025-01-06T00:00:00.000+00:00"),
    ]
    assert source.reached
    assert source.marks == {0: SourceMark(0, 10, 9, 90), 1: SourceMark(4, 6, 5, 50)}


def test_rows_behind_a_gap_in_a_mark_stay_known() -> None:
    """Ranges ahead of the prefix survive a commit."""
    source = SourceRows({0: SourceMark(0, 2, 7, 70, [(3, 5), (7, 8)])}, {0: LogOffsets(0, 9, 9)})

    assert take(source, 2, 3, 4, 5, 6, 7, 8) == [True, False, False, True, True, False, True]
    assert source.reached


def test_a_source_that_ends_before_its_mark_was_made_anew() -> None:
    """Its offsets say nothing about the rows that are held."""
    with pytest.raises(TopicRecreatedError, match="partition 0 of the source ends at 5, but was read up to 9"):
        SourceRows({0: SourceMark(0, 10, 9, 90)}, {0: LogOffsets(0, 5, 5)})
    with pytest.raises(TopicRecreatedError, match="partition 1 of the source ends at 0"):
        SourceRows({1: SourceMark(0, 3, 2, 20)}, {0: LogOffsets(0, 5, 5)})


def test_another_row_at_the_mark_is_of_another_source() -> None:
    """A recreated source that has grown beyond the mark is noticed when its row comes."""
    source = SourceRows({0: SourceMark(0, 10, 9, 90)}, {0: LogOffsets(0, 20, 20)})
    assert take(source, 9) == [False]

    with pytest.raises(
        TopicRecreatedError, match="offset 9 of partition 0 of the source has the time 91, not 90"
    ):
        take(source, 9, age=1)


def test_an_earlier_reading_is_recalled_only_where_it_is_asked_for() -> None:
    """In by the door all is read again; what the stream has no longer counts as known once that is over."""
    before = {0: SourceMark(0, 10, 9, 90)}
    source = SourceRows({}, {0: LogOffsets(2, 12, 12)}, before=before)

    assert take(source, 6, 7, 8, 9, 10, 11) == [True] * 6
    assert source.missing() == [(0, 2, 6)]
    source.recall()
    assert source.missing() == []
    assert source.marks[0].start == 0


def test_a_partition_that_came_meanwhile_is_followed() -> None:
    """A source may gain partitions while it is read; they are held against their ends from the next time on."""
    source = SourceRows({}, {0: LogOffsets(0, 1, 1)})

    assert take(source, 0) == [True]
    assert take(source, 0, 1, partition=4) == [True, True]
    assert source.reached
    assert source.marks[4] == SourceMark(0, 2, 1, 10)


def test_an_offset_that_cannot_be_true_is_refused() -> None:
    """A column that holds no offsets would fill the memory."""
    source = SourceRows({}, {0: LogOffsets(0, 1, 1)})

    with pytest.raises(ProtocolError, match="a row says that it is at offset 5000000000 of partition 0"):
        take(source, 5_000_000_000)


def test_rows_without_a_place_are_not_followed() -> None:
    """They have no offset, so nothing is known of them."""
    source = SourceRows({}, {0: LogOffsets(0, 1, 1)})
    numbers = np.array([-1, 0], np.int64)

    assert source.take(numbers, np.array([-1, 0], np.int64), numbers).tolist() == [False, True]
    assert source.reached


def test_what_comes_after_it_was_given_up_is_new_once_and_no_gap_any_more() -> None:
    """Given up is not known: a row that was only late is not lost."""
    moment = "2025-01-06T00:00:00.000+00:00"
    ends = {0: LogOffsets(0, 10, 10)}
    source = SourceRows({}, ends)
    take(source, 0, 1, 2, 7, 8, 9)
    source.accept(seen_at=moment)
    source = SourceRows(source.marks, ends, gaps=source.gaps)

    assert take(source, 4, 2, 4, 6) == [True, False, False, True]
    assert source.gaps == [Gap(0, 3, 4, moment), Gap(0, 5, 6, moment)]
    assert take(source, 3, 4, 5, 6) == [True, False, True, False]
    assert (source.gaps, source.doubtful) == ([], None)


def test_old_gaps_are_kept_together_and_a_known_offset_among_them_is_in_doubt() -> None:
    """Which of these offsets came is not kept, so that a row there may be new."""
    gaps = [Gap(number % 2, number, number + 1, f"2025-01-{number:02}") for number in range(10, 16)]
    together = bounded(gaps, 2)

    assert together == [
        Gap(0, 10, 13, "2025-01-12", some=True, compared=True),
        Gap(1, 11, 14, "2025-01-13", some=True, compared=True),
        *gaps[-2:],
    ]
    assert together[0].text == "perhaps some of the offsets 10 to 12 of partition 0"
    source = SourceRows({0: SourceMark(0, 20, 19, 190)}, {0: LogOffsets(0, 21, 21)}, gaps=together)
    assert take(source, 14, 20) == [True, True]
    assert source.doubtful is None
    assert take(source, 11) == [False]
    assert source.doubtful == together[0]


def test_the_way_in_demands_what_expired_unread() -> None:
    """Kafka's log may begin behind what was known; what lies between was never read, and is missing."""
    before = {0: SourceMark(0, 10, 9, 90)}
    source = SourceRows({}, {0: LogOffsets(15, 20, 20)}, before=before)
    take(source, *range(15, 20))

    assert source.missing() == [(0, 10, 15)]

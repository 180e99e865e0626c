"""Batches that add up, and the record before each mark, that comes again."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.continuing.overlap import BrokenBatchError, OverlapError, SinkRows, row_hashes
from ksql_lake.ksqldb.tokens import Span
from ksql_lake.lake.commit.continued import SinkMark


class Log:
    """A derived stream's topic: every record has a number of its own.

    Args:
        lengths: How many records each partition has.
    """

    def __init__(self, *lengths: int) -> None:
        self.lengths = list(lengths)

    def hashes(self, start: list[int], end: list[int], random: Random) -> np.ndarray:
        """The hashes of some records, one partition's behind the other's."""
        order = list(range(len(start)))
        random.shuffle(order)
        rows = [(number, offset) for number in order for offset in range(start[number], end[number])]
        partitions, offsets = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
        return row_hashes(partitions, offsets, offsets + 7)

    def read(self, sink: SinkRows, random: Random, *, shift: int = 0) -> None:
        """Read from where the sink says to the end, in batches of any size."""
        at = [max(0, position + shift) for position in sink.begin()]
        told = sink.begin()
        while at != self.lengths:
            end = [random.randint(a, length) for a, length in zip(at, self.lengths, strict=True)]
            span = Span(tuple(told), tuple(b - shift for b in end))
            hashes = self.hashes(at, end, random)
            sink.check(span, len(hashes))
            sink.take(span, hashes, np.zeros(len(hashes), np.bool_))
            at, told = end, list(span.end)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(0, 1 << 30), st.integers(1, 4))
def test_the_records_before_the_marks_come_again_over_any_batches(
    lengths: list[int], seed: int, times: int
) -> None:
    """However a log is cut into batches and readings, none of its own records is missed."""
    random = Random(seed)
    marks, groups = [SinkMark(0)] * len(lengths), list[str]()
    log = Log(*lengths)
    for _ in range(times):
        sink = SinkRows(marks, groups)
        log.read(sink, random)
        assert sink.satisfied
        marks, groups = sink.marks
        assert [mark.next for mark in marks] == log.lengths
        log.lengths = [length + random.randint(0, 3) for length in log.lengths]


@given(st.integers(0, 1 << 30), st.sampled_from([1, 2, 5]))
def test_marks_of_another_log_are_noticed(seed: int, shift: int) -> None:
    """Where the log has other records at its offsets, the record before the mark does not come."""
    random = Random(seed)
    log = Log(6, 6)
    sink = SinkRows([SinkMark(0), SinkMark(0)], [])
    log.read(sink, random)
    again = SinkRows(*sink.marks)
    log.lengths = [30, 30]

    with pytest.raises(OverlapError, match="did not come again in one of the partitions"):
        log.read(again, random, shift=shift)


def test_a_batch_counts_only_if_it_adds_up() -> None:
    """It begins where the last one ended, and has as many rows as records."""
    sink = SinkRows([SinkMark(5), SinkMark(0)], [])
    assert sink.begin() == [5, 0]

    with pytest.raises(BrokenBatchError, match="a batch of 3 records came with 4 rows"):
        sink.check(Span((5, 0), (7, 1)), 4)
    sink.check(Span((5, 0), (7, 1)), 3)
    with pytest.raises(
        BrokenBatchError, match=r"a batch begins at \[5, 0\], and the one before ended at \[7, 1\]"
    ):
        sink.check(Span((5, 0), (7, 1)), 3)
    with pytest.raises(BrokenBatchError, match="a token is of 3 partitions, not 2"):
        sink.check(Span((7, 1, 0), (7, 1, 0)), 0)


def test_a_query_begins_again_one_record_before_the_last_good_token() -> None:
    """Also in the middle of a reading, and only where there is such a record."""
    log, random = Log(4, 0), Random(1)
    sink = SinkRows([SinkMark(0), SinkMark(0)], [])
    log.read(sink, random)

    assert sink.begin() == [3, 0]
    assert not sink.satisfied
    hashes = log.hashes([3, 0], [4, 0], random)
    span = Span((3, 0), (4, 0))
    sink.check(span, 1)
    assert sink.take(span, hashes, np.zeros(1, np.bool_)).tolist() == [True]
    assert sink.satisfied


def test_of_one_partition_the_last_record_is_known_exactly() -> None:
    """A batch of one partition keeps one hash; one of several keeps all of its rows."""
    log, random = Log(4), Random(1)
    sink = SinkRows([SinkMark(0)], [])
    sink.begin()
    span = Span((0,), (4,))
    sink.check(span, 4)
    sink.take(span, log.hashes([0], [4], random), np.zeros(4, np.bool_))

    marks, groups = sink.marks
    assert marks == [SinkMark(4, 0)]
    assert [len(group) for group in groups] == [8]  # four bytes in base64


def test_a_row_without_an_offset_that_may_be_known_is_not_guessed_about() -> None:
    """Only the record before the mark distinguishes it from a new one; else reading on stops."""
    hashes, nowhere = np.array([7, 8, 7], np.uint32), np.ones(3, np.bool_)
    sink = SinkRows([SinkMark(0), SinkMark(0)], [])
    sink.begin()
    sink.take(Span((0, 0), (2, 1)), hashes, nowhere)
    for rows, known in (([7, 8, 9], True), ([7, 8, 7], False)):
        again = SinkRows(*sink.marks)
        assert again.begin() == [1, 0]
        batch = np.array(rows, np.uint32)
        if known:
            assert again.take(Span((1, 0), (2, 2)), batch, nowhere).tolist() == [True, True, False]
            continue
        with pytest.raises(OverlapError, match="a row without an offset of the source came that may be one"):
            again.take(Span((1, 0), (2, 2)), batch, nowhere)

"""Promises about judging that a push query has caught up: pure, the time is passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ServerUnavailableError
from ksql_lake.export.push.caught_up import CaughtUp
from ksql_lake.ksqldb import Position
from ksql_lake.ksqldb.offsets import LogOffsets

QUIET = 10.0
AT_END = {0: Position(5, 5), 1: Position(8, 8)}


def judge(partitions: int = 2, *, patience: float = 120) -> CaughtUp:
    """A judge of a query over a topic."""
    return CaughtUp(topic="t", partitions=partitions, quiet=QUIET, patience=patience)


def wait(judged: CaughtUp, seconds: float) -> None:
    """Let time pass in steps of a second."""
    for _ in range(int(seconds)):
        judged.step(1.0)


def test_silence_must_last_and_longer_before_the_first_row() -> None:
    """An application starts on the server first; after that a quiet period is enough."""
    judged = judge()
    wait(judged, 29)
    assert judged.verdict() is None
    judged.heard(old=True)
    wait(judged, 9)
    assert judged.verdict() is None
    wait(judged, 1)
    verdict = judged.verdict()
    assert verdict is not None
    assert (verdict.judged_by, verdict.text) == (
        "silence",
        "no row from before the query began came for 10 s",
    )


def test_rows_younger_than_the_query_do_not_break_the_silence() -> None:
    """A busy stream is caught up when only rows come that did not exist when the query began."""
    judged = judge()
    judged.heard(old=True)
    for _ in range(10):
        wait(judged, 1)
        judged.heard(old=False)
    assert judged.verdict() is not None


def test_a_process_that_was_stopped_takes_nothing_for_silence() -> None:
    """An hour between two looks counts as little more than a moment."""
    judged = judge()
    judged.heard(old=True)
    judged.step(3600)
    assert judged.verdict() is None


def test_positions_must_be_at_the_end_and_rest_there() -> None:
    """Committed and end offset meet for a moment in the middle of a scan too."""
    judged = judge()
    judged.reported(AT_END)
    wait(judged, 4)
    assert judged.verdict() is None
    judged.reported({0: Position(9, 9), 1: Position(8, 8)})
    wait(judged, 4)
    assert judged.verdict() is None
    wait(judged, 1)
    verdict = judged.verdict()
    assert verdict is not None
    assert verdict.judged_by == "positions"
    assert verdict.text == "every partition of t was read to its end: 0: 9 of 9, 1: 8 of 8"


def test_silence_counts_for_nothing_once_positions_are_told() -> None:
    """A stalled query is silent too."""
    judged = judge()
    judged.reported({0: Position(5, 5), 1: Position(8, 2)})
    wait(judged, 100)
    assert judged.verdict() is None


def test_a_query_that_stands_still_is_an_error() -> None:
    """After the patience, the error names the partition's numbers."""
    judged = judge()
    judged.reported({0: Position(5, 5), 1: Position(8, 2)})
    wait(judged, 120)
    with pytest.raises(
        ServerUnavailableError, match="the query has made no progress for 120 s, at 0: 5 of 5, 1: 2 of 8"
    ):
        judged.verdict()


def test_a_stall_is_seen_although_rows_arrive_at_the_topic() -> None:
    """An end that moves on is no progress of the query."""
    judged = judge()
    for number in range(120):
        judged.reported({0: Position(5, 5), 1: Position(8 + number, 2)})
        wait(judged, 1)
    with pytest.raises(ServerUnavailableError, match="the query has made no progress"):
        judged.verdict()


def test_a_partition_that_is_missing_holds_everything_up() -> None:
    """A partition that the server does not report may hold anything."""
    judged = judge(partitions=3)
    judged.reported(AT_END)
    wait(judged, 100)
    assert judged.verdict() is None


def test_an_empty_partition_looks_like_one_not_yet_fetched() -> None:
    """It needs a whole quiet period, and a topic that is empty altogether three."""
    judged = judge()
    judged.reported({0: Position(5, 5), 1: Position(-1, -1)})
    wait(judged, 9)
    assert judged.verdict() is None
    wait(judged, 1)
    assert judged.verdict() is not None
    empty = judge()
    empty.reported({0: Position(-1, -1), 1: Position(0, 0)})
    wait(empty, 29)
    assert empty.verdict() is None
    wait(empty, 1)
    assert empty.verdict() is not None


def test_a_busy_partition_is_caught_up_by_a_young_row() -> None:
    """It never rests, but a row that came after the query began lies behind everything that was asked for."""
    judged = judge()
    for number in range(8):
        judged.reported({0: Position(5, 5), 1: Position(10 + number, 9 + number)})
        wait(judged, 1)
    assert judged.verdict() is None
    judged.lit({1: 18})
    judged.heard(old=True, seen={1: 17})
    assert judged.verdict() is None
    judged.heard(old=True, seen={1: 18})
    assert judged.verdict() is not None


def test_handed_out_beyond_a_young_row_is_as_good_as_seen() -> None:
    """Positions alone report a row that a condition keeps back; what was on its way gets time to come."""
    judged = judge(partitions=1)
    judged.lit({0: 18})
    judged.reported({0: Position(30, 17)})
    assert judged.verdict() is None
    judged.reported({0: Position(31, 18)})
    assert judged.verdict() is None
    wait(judged, 4)
    judged.heard(old=True, seen={0: 16})
    wait(judged, 4)
    assert judged.verdict() is None
    wait(judged, 1)
    assert judged.verdict() is not None


def test_one_record_short_is_short() -> None:
    """Ends are those of records, so a partition that is one offset short has a record to come."""
    judged = judge()
    judged.reported({0: Position(5, 5), 1: Position(8, 7)})
    wait(judged, 119)
    assert judged.verdict() is None


def test_rows_on_their_way_are_waited_for() -> None:
    """A partition at its end counts only when none of its rows has come for half a quiet period."""
    judged = judge()
    judged.reported(AT_END)
    wait(judged, 6)
    judged.heard(old=True, seen={1: 6})
    wait(judged, 4)
    assert judged.verdict() is None
    judged.heard(old=True, seen={1: 7})
    wait(judged, 4)
    assert judged.verdict() is None
    wait(judged, 1)
    assert judged.verdict() is not None


def test_rows_at_the_ends_of_the_log_prove_it() -> None:
    """As soon as a row came from the end of every partition that is not empty, nothing is waited for."""
    ends = {0: LogOffsets(0, 5, 0), 1: LogOffsets(3, 8, 0), 2: LogOffsets(4, 4, 0)}
    judged = CaughtUp(topic="t", partitions=3, quiet=QUIET, patience=120, ends=ends)
    judged.heard(old=True, seen={0: 4, 1: 6})
    assert judged.verdict() is None
    judged.heard(old=True, seen={1: 7})
    verdict = judged.verdict()
    assert verdict is not None
    assert verdict.judged_by == "offsets"


def test_silence_before_the_known_ends_is_no_end() -> None:
    """Where the log's ends are known and not reached, a quiet period is not enough; it takes the patience."""
    judged = CaughtUp(topic="t", partitions=1, quiet=QUIET, patience=120, ends={0: LogOffsets(0, 5, 0)})
    judged.heard(old=True, seen={0: 3})
    wait(judged, 119)
    assert judged.verdict() is None
    wait(judged, 1)
    verdict = judged.verdict()
    assert verdict is not None
    assert verdict.judged_by == "silence"


@given(
    st.lists(
        st.tuples(st.sampled_from(["step", "old", "young", "told"]), st.integers(0, 3), st.integers(0, 20)),
        max_size=60,
    )
)
def test_an_old_row_is_never_followed_at_once_by_a_verdict(events: list[tuple[str, int, int]]) -> None:
    """By silence: whatever happened, right after an old row the query has not caught up."""
    judged = judge()
    for kind, seconds, _ in events:
        if kind == "step":
            wait(judged, seconds)
        elif kind in ("old", "young"):
            judged.heard(old=kind == "old")
            assert kind == "young" or judged.verdict() is None

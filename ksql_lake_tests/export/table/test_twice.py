"""Promises about two answers to the same question: every difference is counted, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.table.twice import KeyedRows

ROWS = st.dictionaries(
    st.integers(-5, 30), st.one_of(st.none(), st.integers(-3, 3), st.just(2**60)), max_size=25
)


def keyed(rows: Sequence[tuple[object, object]], *, cut: int = 0, key: tuple[str, ...] = ("K",)) -> KeyedRows:
    """The rows of an answer that came in two batches."""
    found = KeyedRows(key)
    kind = pa.schema([("K", pa.int64()), ("V", pa.int64())])
    for part in (rows[:cut], rows[cut:]):
        columns = [pa.array([row[number] for row in part], pa.int64()) for number in (0, 1)]
        found.add(pa.RecordBatch.from_arrays(columns, schema=kind))
    return found


@given(ROWS, ROWS, st.randoms(), st.integers(0, 25))
def test_keys_of_one_answer_only_and_keys_with_other_rows_are_counted(
    first: dict[int, int | None], second: dict[int, int | None], random: object, cut: int
) -> None:
    """As many as a comparison row by row finds, in whatever order and batches they came."""
    shuffled = list(second.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    missing = object()
    expected = sum(first.get(key, missing) != second.get(key, missing) for key in first.keys() | second.keys())
    one, other = keyed(list(first.items())), keyed(shuffled, cut=cut)
    assert one.differing(other) == other.differing(one) == expected
    assert one.differing(keyed(list(first.items()), cut=cut)) == 0


def test_a_row_that_came_twice_in_one_answer_counts_once() -> None:
    """Some releases send a key twice when a partition moves; that is no difference, unless its rows differ."""
    assert keyed([(1, 1), (2, 2)]).differing(keyed([(2, 2), (1, 1), (2, 2)])) == 0
    assert keyed([(1, 1), (2, 2)]).differing(keyed([(2, 2), (1, 1), (2, 3)])) == 1


def test_a_lost_row_is_a_difference_whatever_came_instead() -> None:
    """Equal numbers of rows prove nothing."""
    assert keyed([(1, 1), (2, 2)]).differing(keyed([(1, 1), (3, 2)])) == 2
    assert keyed([(1, 1), (2, 2)]).differing(keyed([(1, 1)])) == 1
    assert keyed([]).differing(keyed([])) == 0
    assert keyed([]).differing(keyed([(1, None)])) == 1


def test_without_a_key_the_whole_row_is_one() -> None:
    """Where a feed leaves key columns out, a changed row is one that went and one that came."""
    assert keyed([(1, 1), (2, 2)], key=()).differing(keyed([(1, 1), (2, 3)], key=())) == 2

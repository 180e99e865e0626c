"""Counting rows that repeat another: exact, across batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.errors import LakeError
from ksql_lake.lake.rows import repeats
from ksql_lake.lake.rows.repeats import repeat_counter

SCHEMA = pa.schema([("ID", pa.int64()), ('no"te', pa.string())])
ROWS = st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from(["", "a", "b"])))


def _reader(batches: Iterator[list[tuple[int | None, str | None]]]) -> pa.RecordBatchReader:
    made = (
        pa.record_batch([[row[0] for row in rows], [row[1] for row in rows]], schema=SCHEMA) for rows in batches
    )
    return pa.RecordBatchReader.from_batches(SCHEMA, made)


@settings(deadline=None)
@given(st.lists(ROWS, max_size=4))
def test_every_row_that_repeats_another_is_counted(batches: list[list[tuple[int | None, str | None]]]) -> None:
    """Whatever batch they come in; NULL equals NULL and nothing else."""
    rows = [row for batch in batches for row in batch]

    with repeat_counter() as count:
        assert count(lambda: _reader(iter(batches))) == len(rows) - len(set(rows))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0.0, -0.0, 1.0]),
        pa.array([[0.0], [-0.0], [1.0]]),
        pa.array([{"a": 0.0}, {"a": -0.0}, {"a": 1.0}]),
    ],
    ids=["number", "list", "struct"],
)
def test_both_zeros_are_one_value(column: pa.Array) -> None:
    """0.0 and -0.0 are equal, as in SQL, although their bits differ; nested ones too."""
    zeros = pa.record_batch({"X": column})

    with repeat_counter() as count:
        assert count(lambda: pa.RecordBatchReader.from_batches(zeros.schema, [zeros])) == 1


def _long(rows: int) -> Iterator[list[tuple[int | None, str | None]]]:
    for start in range(0, rows, 10_000):
        yield [(number % (rows - 7), f"{number % (rows - 7):0120d}") for number in range(start, start + 10_000)]


def test_more_rows_than_fit_are_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tenth of the memory that the values take, by spilling, and in the next partition again."""
    monkeypatch.setattr(repeats, "MEMORY", (("1MB", 1), ("32MB", 1)))

    with repeat_counter() as count:
        assert count(lambda: _reader(_long(300_000))) == 7
        assert count(lambda: _reader(_long(20_000))) == 7


def test_what_cannot_be_counted_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither memory nor disk: an error, never an estimate."""
    monkeypatch.setattr(repeats, "MEMORY", (("1MB", 1),))

    with repeat_counter() as count, pytest.raises(LakeError, match="equal rows cannot be counted") as told:
        count(lambda: _reader(_long(300_000)))

    assert "TMPDIR" in told.value.hint

"""The order-independent checksum of rows."""

from __future__ import annotations

import random
from datetime import time
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.lake.files.checksum import RowChecksum, batch_hashes, sums
from ksql_lake.lake.files.checksum_sums import combined
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.values import EVERYTHING, multiset, rows
from ksql_lake_tests.quick import examples

ARROW = arrow_schema(EVERYTHING)


def checksum(listed: list[dict[str, Any]], schema: pa.Schema = ARROW) -> str:
    """The checksum of rows in one batch."""
    total = RowChecksum()
    total.add(pa.RecordBatch.from_pylist(listed, schema=schema))
    return total.text


@settings(max_examples=examples(120), deadline=None)
@given(listed=st.lists(rows, max_size=12), data=st.data())
def test_order_batches_and_slices_do_not_matter(listed: list[dict[str, Any]], data: st.DataObject) -> None:
    """Shuffled, cut into batches anywhere and taken from larger arrays, the same rows have one checksum."""
    shuffled = data.draw(st.permutations(listed))
    cut = data.draw(st.integers(0, len(listed)))
    padding = listed[:2]
    whole = pa.RecordBatch.from_pylist([*padding, *shuffled, *padding], schema=ARROW)

    first, second = RowChecksum(), RowChecksum()
    first.add(whole.slice(len(padding), cut))
    second.add(whole.slice(len(padding) + cut, len(shuffled) - cut))

    assert combined([first.text, second.text]) == checksum(listed)


@settings(max_examples=examples(150), deadline=None)
@given(one=st.lists(rows, max_size=4), two=st.lists(rows, max_size=4))
def test_different_rows_have_different_checksums(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    """Two lists have the same checksum exactly when they are the same multiset of rows."""
    assert (checksum(one) == checksum(two)) == (multiset(one) == multiset(two))


@settings(max_examples=examples(150), deadline=None)
@given(row=rows, other=rows, name=st.sampled_from(EVERYTHING.names))
def test_one_changed_value_changes_it(row: dict[str, Any], other: dict[str, Any], name: str) -> None:
    """A single differing value, whatever its type, is seen; an equal one is not."""
    changed = {**row, name: other[name]}

    assert (checksum([row]) == checksum([changed])) == (multiset([row]) == multiset([changed]))


def test_nearby_strings_do_not_collide() -> None:
    """A million short strings that differ in a few bytes have a million different numbers."""
    schema = pa.schema([("S", pa.string())])
    generator = random.Random(7)
    texts = {"".join(generator.choices("ab\x00", k=24)) for _ in range(20_000)}

    assert len({checksum([{"S": text}], schema) for text in sorted(texts)[:3000]}) == 3000


def test_widened_numbers_keep_their_checksum() -> None:
    """A value has the same number whether its column is INTEGER or BIGINT."""
    narrow, wide = (arrow_schema(parse_schema(f"`A` {kind}")) for kind in ("INTEGER", "BIGINT"))

    assert checksum([{"A": -5}, {"A": None}], narrow) == checksum([{"A": -5}, {"A": None}], wide)


def test_the_checksum_is_the_same_for_ever() -> None:
    """The number written into a manifest today is the number of the same row in any later release."""
    row = {
        "ROWTIME": 1,
        "B": True,
        "I": -1,
        "D": 1.5,
        "E": None,
        "S": "naïve",
        "Y": b"\x00\xff",
        "L": [0.0, None],
        "M": [("a", 1.0)],
        "N": {"m": [("b", ["x"])], "d": None},
        "part": "",
        "row": 2**40,
    }

    assert checksum([row]) == "f8a9f21122a5e1945aa148585668dc87"


def test_columns_without_and_with_long_strings_agree() -> None:
    """A string's number does not depend on the length of its neighbours, which decides how it is computed."""
    schema = pa.schema([("S", pa.string())])
    texts = ["", "a", "12345678", "123456789", "\x00", "x" * 32, "é" * 16]
    long = "y" * 33

    apart = combined([checksum([{"S": text} for text in texts], schema), checksum([{"S": long}], schema)])

    assert apart == checksum([{"S": text} for text in [*texts, long]], schema)


def test_zeros_and_nulls_count_by_their_column() -> None:
    """A column full of zeros is not a missing column, nor one of another name."""
    zero, renamed, null = ({"A": 0}, {"B": 0}, {"A": None})
    number, other = (pa.schema([(name, pa.int64())]) for name in "AB")
    both = pa.schema([("A", pa.int64()), ("B", pa.int64())])

    found = {
        checksum([zero], number),
        checksum([renamed], other),
        checksum([null], number),
        checksum([{**zero, **renamed}], both),
    }

    assert len(found) == 4


def test_a_time_of_day_counts_in_milliseconds_whatever_the_file_does() -> None:
    """Files once held TIME in milliseconds and now hold microseconds; the checksum of the same rows is one."""
    rows: list[dict[str, Any]] = [{"T": time(23, 59, 59, 999000)}, {"T": None}, {"T": time(0)}]

    milli, micro = (checksum(rows, pa.schema([("T", kind)])) for kind in (pa.time32("ms"), pa.time64("us")))

    assert milli == micro


def test_a_batch_of_any_length_has_the_sums_of_its_parts() -> None:
    """Rows are hashed in pieces inside, and the numbers of each row are the same wherever a piece ends."""
    count = 150_001
    batch = pa.RecordBatch.from_pydict(
        {"n": pa.array(range(count), pa.int64()), "s": ["abc", "d", None] * 50_000 + [""]}
    )
    first, second = batch_hashes(batch)

    assert len(first) == len(second) == count
    for begin, end in ((0, 1), (65_530, 65_545), (131_000, 131_100), (count - 1, count)):
        part = batch_hashes(batch.slice(begin, end - begin))
        assert first[begin:end].tolist() == part[0].tolist()
        assert second[begin:end].tolist() == part[1].tolist()
    assert sums((first, second)) == tuple(int(numbers.sum(dtype="uint64")) for numbers in (first, second))

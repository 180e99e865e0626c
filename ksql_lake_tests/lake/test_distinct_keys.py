"""What shows that no two rows have the same key."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.lake.rows import distinct_keys
from ksql_lake.lake.rows.distinct_keys import DistinctKeys
from ksql_lake.schema import arrow_schema
from ksql_lake_tests.lake.values import EVERYTHING, multiset, rows
from ksql_lake_tests.quick import examples

ARROW = arrow_schema(EVERYTHING)


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data(), listed=st.lists(rows, max_size=8))
def test_keys_are_shown_distinct_exactly_when_they_are(
    data: st.DataObject, listed: list[dict[str, Any]]
) -> None:
    """Whatever types the key has, NULL and NaN included, a repeated key is never taken for a distinct one."""
    key = data.draw(st.lists(st.sampled_from(EVERYTHING.names), min_size=1, unique=True))
    listed += data.draw(st.lists(st.sampled_from(listed), max_size=2)) if listed else []
    cut = data.draw(st.integers(0, len(listed)))
    keys = DistinctKeys(key)

    for part in (listed[:cut], listed[cut:]):
        keys.add(pa.RecordBatch.from_pylist(part, schema=ARROW))

    projected = multiset([{name: row[name] for name in key} for row in listed])
    assert keys.shown == all(count == 1 for count in projected.values())


def test_too_many_rows_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept, and for rows without a key, nothing is concluded; no rows repeat nothing."""
    monkeypatch.setattr(distinct_keys, "MOST_ROWS", 3)
    batch = pa.RecordBatch.from_pydict({"ID": [1, 2]})
    other = pa.RecordBatch.from_pydict({"ID": [3, 4]})
    keys, keyless = DistinctKeys(["ID"]), DistinctKeys([])
    assert keys.shown

    keys.add(batch)
    assert keys.shown
    keys.add(other)
    assert not keys.shown
    keyless.add(batch)
    assert not keyless.shown

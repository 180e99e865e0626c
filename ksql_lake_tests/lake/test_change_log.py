"""Promises about a table's changes: of each key the last one, in any amount of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake.rows import identity
from ksql_lake.lake.rows.change_log import ChangeLog
from ksql_lake.lake.rows.staging import Staging
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import table_feed

CHANGES = parse_schema("`ID` STRING KEY, `AT` BIGINT KEY, `GONE0` DOUBLE, `NAME` STRING")
READ = ReadFacts(source="USERS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
KEY = ["ID", "AT"]


def staging(root: Path) -> Staging:
    """An export of the table that has begun."""
    return Lake(root).feed(table_feed(extraction="push")).stage(CHANGES, read=READ)


def write(log: ChangeLog, rows: list[tuple[str, int, float | None, bool]]) -> None:
    """Write changes, a batch for each run of changes of one kind."""
    for ident, at, value, gone in rows:
        columns = [[ident], [at], [value], [None if gone else "n"]]
        arrays = [
            pa.array(column, kind.type) for column, kind in zip(columns, arrow_schema(CHANGES), strict=True)
        ]
        log.write(pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(CHANGES)), gone=np.array([gone]))


def last(log: ChangeLog) -> dict[tuple[str, int], tuple[float | None, bool]]:
    """What the log gives back, by key; each key once."""
    found = {}
    for batch, gone in log.last():
        assert batch.schema.names == list(CHANGES.names)
        for row, deleted in zip(batch.to_pylist(), gone.to_pylist(), strict=True):
            assert (row["ID"], row["AT"]) not in found
            found[row["ID"], row["AT"]] = (row["GONE0"], deleted)
    return found


ROWS = st.tuples(
    st.sampled_from(["a", "b", "é"]), st.integers(0, 2), st.none() | st.floats(-9, 9), st.booleans()
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, max_size=30))
def test_the_last_change_of_each_key_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float | None, bool]]
) -> None:
    """As a dict has it, deletions included; a key that comes back after a deletion is there."""
    expected = {(ident, at): (value, gone) for ident, at, value, gone in rows}
    with staging(tmp_path_factory.mktemp("lake")) as begun, begun.change_log(CHANGES, KEY) as log:
        write(log, rows)
        assert last(log) == expected


def test_more_changes_than_memory_are_put_together_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With far less memory than the changes take, DuckDB spills beside the staged files, then all is gone."""
    monkeypatch.setattr(identity, "MEMORY", (("80MB", 1),))
    count, keys = 600_000, 200_000
    random = np.random.default_rng(7)
    numbers = random.integers(0, keys, count)
    arrow = arrow_schema(CHANGES)
    with staging(tmp_path) as begun:
        folder = begun.attempt.path("spill").parent
        with begun.change_log(CHANGES, KEY) as log:
            for start in range(0, count, 50_000):
                part = numbers[start : start + 50_000]
                order = np.arange(start, start + len(part))
                names = pa.array([f"{number:060d}" for number in part])
                columns = [names, pa.array(part), pa.array(order.astype(float)), names]
                log.write(pa.RecordBatch.from_arrays(columns, schema=arrow), gone=np.zeros(len(part), bool))
            table = pa.Table.from_batches([batch for batch, _ in log.last()], schema=arrow)
        assert (folder / "changes.tmp").stat().st_size > 10_000_000
    expected = np.full(keys, -1)
    expected[numbers] = np.arange(count)

    found = dict(zip(table["AT"].to_pylist(), table["GONE0"].to_pylist(), strict=True))
    assert found == {number: place for number, place in enumerate(expected.tolist()) if place >= 0}
    assert table.num_rows == len(found)
    assert not folder.exists()

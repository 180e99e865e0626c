"""Row identity against a brute-force multiset."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.errors import LakeError
from ksql_lake.lake.identity import Candidate, Held, copy_rows, new_rows
from ksql_lake.schema import Schema, arrow_schema, parse_schema

EVERYTHING = parse_schema(
    "`ROWTIME` TIMESTAMP, `B` BOOLEAN, `I` INTEGER, `D` DOUBLE, `E` DECIMAL(20, 4), `S` STRING, `Y` BYTES, "
    "`L` ARRAY<DOUBLE>, `M` MAP<STRING, DOUBLE>, `N` STRUCT<`m` MAP<STRING, ARRAY<STRING>>, `d` DOUBLE>, "
    "`part` STRING, `row` BIGINT"
)

doubles = st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, None])
texts = st.sampled_from(["", "a", "A", "null", "it's", 'q"q', None])
maps = st.dictionaries(st.sampled_from("abc"), doubles, max_size=3)
rows = st.fixed_dictionaries(
    {
        "ROWTIME": st.integers(0, 2),
        "B": st.sampled_from([True, False, None]),
        "I": st.sampled_from([0, 1, None]),
        "D": doubles,
        "E": st.just(None),
        "S": texts,
        "Y": st.sampled_from([b"", b"\x00", None]),
        "L": st.none() | st.lists(doubles, max_size=2),
        "M": st.none() | maps.map(lambda value: list(value.items())),
        "N": st.none()
        | st.fixed_dictionaries(
            {
                "m": st.dictionaries(
                    st.sampled_from("ab"), st.none() | st.lists(texts, max_size=2), max_size=2
                ).map(lambda value: list(value.items())),
                "d": doubles,
            }
        ),
        "part": texts,
        "row": st.sampled_from([1, 2, None]),
    }
)


def canonical(value: Any) -> Any:
    """A value as the design wants it compared: NaN equals NaN, -0.0 differs from 0.0, MAPs have no order."""
    if isinstance(value, float):
        return ("nan",) if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, dict):
        return tuple((name, canonical(inner)) for name, inner in value.items())
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) for item in value):
            return ("map", *sorted((key, repr(canonical(inner))) for key, inner in value))
        return ("list", *(canonical(inner) for inner in value))
    return value


def multiset(listed: list[dict[str, Any]]) -> Counter[str]:
    """Rows with their multiplicity."""
    return Counter(repr(canonical(row)) for row in listed)


def write(path: Path, listed: list[dict[str, Any]], schema: Schema) -> str:
    """Write rows as one Parquet file."""
    pq.write_table(pa.Table.from_pylist(listed, schema=arrow_schema(schema)), path)
    return str(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.lists(rows, max_size=8), staged=st.lists(rows, max_size=8), repeats=st.integers(0, 3))
def test_row_identity_is_a_multiset_difference(
    tmp_path: Path, held: list[dict[str, Any]], staged: list[dict[str, Any]], repeats: int
) -> None:
    """Committed rows plus the new ones are the larger multiplicity of either side, for every type."""
    staged = [*staged, *held[:repeats], *held[:1] * repeats]
    files = tuple(
        Held(write(tmp_path / f"held{index}.parquet", part, EVERYTHING), frozenset(EVERYTHING.names))
        for index, part in enumerate((held[::2], held[1::2]))
    )
    source = tmp_path / "staged.tmp"
    candidate = Candidate("d", write(source, staged, EVERYTHING), len(staged), files)

    found = new_rows([candidate], EVERYTHING, spill=tmp_path / "spill")["d"]

    added = [staged[number] for number in found]
    assert multiset(held) + multiset(added) == multiset(held) | multiset(staged)
    copied = pa.Table.from_batches(copy_rows(source, found), schema=arrow_schema(EVERYTHING))
    assert multiset(copied.to_pylist(maps_as_pydicts=None)) == multiset(
        pa.Table.from_pylist(added, schema=arrow_schema(EVERYTHING)).to_pylist(maps_as_pydicts=None)
    )


KEYED = parse_schema("`K` BIGINT, `V` STRING")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.lists(st.tuples(st.integers(0, 5) | st.none(), texts), max_size=8),
    staged=st.lists(st.tuples(st.integers(0, 5) | st.none(), texts), max_size=8),
)
def test_key_identity_keeps_one_row_per_key(
    tmp_path: Path, held: list[tuple[Any, Any]], staged: list[tuple[Any, Any]]
) -> None:
    """A key the lake holds is never added again, and a new key is added once, with the last row received."""
    listed = [{"K": key, "V": value} for key, value in held]
    arriving = [{"K": key, "V": value} for key, value in staged]
    file = Held(write(tmp_path / "held.parquet", listed, KEYED), frozenset(KEYED.names))
    candidate = Candidate("d", write(tmp_path / "staged.tmp", arriving, KEYED), len(arriving), (file,))

    found = new_rows([candidate], KEYED, key=["K"], spill=tmp_path / "spill")["d"]

    last = {key: index for index, (key, _) in enumerate(staged)}
    assert sorted(found) == sorted(index for key, index in last.items() if key not in {key for key, _ in held})


def test_an_event_exported_before_a_column_existed_is_the_same_event(tmp_path: Path) -> None:
    """Older files are compared on the columns they have, so a new column doubles nothing."""
    old, new = parse_schema("`A` BIGINT"), parse_schema("`A` BIGINT, `B` STRING")
    before = Held(write(tmp_path / "old.parquet", [{"A": 1}, {"A": 1}, {"A": 2}], old), frozenset("A"))
    after = Held(write(tmp_path / "new.parquet", [{"A": 3, "B": "x"}], new), frozenset("AB"))
    pairs = [(1, "y"), (1, "y"), (2, None), (3, "x"), (3, "z")]
    staged: list[dict[str, Any]] = [{"A": number, "B": text} for number, text in pairs]
    candidate = Candidate("d", write(tmp_path / "s.tmp", staged, new), 5, (before, after))

    found = new_rows([candidate], new, spill=tmp_path / "spill")["d"]

    assert found.tolist() == [4]


def test_days_are_compared_apart(tmp_path: Path) -> None:
    """The same row in two partitions counts in each of them."""
    schema = parse_schema("`A` BIGINT")
    path = write(tmp_path / "held.parquet", [{"A": 1}], schema)
    one = Candidate("one", write(tmp_path / "1.tmp", [{"A": 1}], schema), 1, (Held(path, frozenset("A")),))
    two = Candidate("two", write(tmp_path / "2.tmp", [{"A": 1}], schema), 1, ())

    found = new_rows([one, two], schema, spill=tmp_path / "spill")

    assert {day: numbers.tolist() for day, numbers in found.items()} == {"one": [], "two": [0]}


def test_a_missing_committed_file_is_named(tmp_path: Path) -> None:
    """Rows are never called new because the file that holds them cannot be read."""
    schema = parse_schema("`A` BIGINT")
    lost = Held(str(tmp_path / "gone.parquet"), frozenset("A"))
    candidate = Candidate("d", write(tmp_path / "s.tmp", [{"A": 1}], schema), 1, (lost,))

    with pytest.raises(LakeError, match=r"gone\.parquet"):
        new_rows([candidate], schema, spill=tmp_path / "spill")

"""Row identity against a brute-force multiset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.errors import LakeError
from ksql_lake.lake.rows import compared_values
from ksql_lake.lake.rows.identity import Candidate, Held, copy_rows, new_rows
from ksql_lake.schema import Schema, arrow_schema, parse_schema
from ksql_lake_tests.lake.values import EVERYTHING, multiset, rows, texts
from ksql_lake_tests.quick import examples


def write(path: Path, listed: list[dict[str, Any]], schema: Schema) -> str:
    """Write rows as one Parquet file."""
    pq.write_table(pa.Table.from_pylist(listed, schema=arrow_schema(schema)), path)
    return str(path)


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(held=st.lists(rows, max_size=8), staged=st.lists(rows, max_size=8), repeats=st.integers(0, 3))
def test_row_identity_is_a_multiset_difference(
    tmp_path: Path, held: list[dict[str, Any]], staged: list[dict[str, Any]], repeats: int
) -> None:
    """Committed rows plus the new ones are the larger multiplicity of either side, for every type."""
    staged = [*staged, *held[:repeats], *held[:1] * repeats]
    files = tuple(
        Held(write(tmp_path / f"held{index}.parquet", part, EVERYTHING), EVERYTHING)
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


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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
    file = Held(write(tmp_path / "held.parquet", listed, KEYED), KEYED)
    candidate = Candidate("d", write(tmp_path / "staged.tmp", arriving, KEYED), len(arriving), (file,))

    found = new_rows([candidate], KEYED, key=["K"], spill=tmp_path / "spill")["d"]

    last = {key: index for index, (key, _) in enumerate(staged)}
    assert sorted(found) == sorted(index for key, index in last.items() if key not in {key for key, _ in held})


def test_a_file_with_one_key_and_a_null_keeps_both(tmp_path: Path) -> None:
    """A column of NULLs and one text is not taken for NULLs only, as DuckDB's own IS NULL over a file does."""
    schema = parse_schema("`K` STRING, `V` BIGINT")
    rows: list[dict[str, Any]] = [{"K": None, "V": 1}, {"K": "a", "V": 2}]
    candidate = Candidate("d", write(tmp_path / "staged.tmp", rows, schema), 2, ())
    repeats: Counter[str] = Counter()

    found = new_rows(
        [candidate], schema, key=["K"], null_keys=False, repeats=repeats, spill=tmp_path / "spill"
    )["d"]

    assert ([*found], repeats["d"]) == ([0, 1], 0)


KEYS = st.tuples(st.integers(0, 3) | st.none(), st.integers(0, 2) | st.none(), st.sampled_from("xy"))


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(held=st.lists(KEYS, max_size=8), staged=st.lists(KEYS, max_size=8))
def test_a_row_whose_key_holds_a_null_is_compared_whole(
    tmp_path: Path, held: list[tuple[Any, ...]], staged: list[tuple[Any, ...]]
) -> None:
    """NULL never equals NULL in a stream's key: such rows stay, and find themselves when they come again."""
    schema = parse_schema("`A` INTEGER, `B` BIGINT, `V` STRING")
    listed, arriving = ([dict(zip(schema.names, row, strict=True)) for row in side] for side in (held, staged))
    file = Held(write(tmp_path / "held.parquet", listed, schema), schema)
    candidate = Candidate("d", write(tmp_path / "staged.tmp", arriving, schema), len(arriving), (file,))
    repeats: Counter[str] = Counter()

    found = new_rows(
        [candidate], schema, key=["A", "B"], null_keys=False, repeats=repeats, spill=tmp_path / "spill"
    )["d"]

    whole = [row for row in staged if None not in row[:2]]
    last = {row[:2]: row for row in whole}
    kept = Counter(row for key, row in last.items() if key not in {row[:2] for row in held})
    alone = Counter(row for row in staged if None in row[:2]) - Counter(row for row in held if None in row[:2])
    assert Counter(staged[number] for number in found) == kept + alone
    assert repeats["d"] == len(whole) - len(last)


def test_an_event_exported_before_a_column_existed_is_the_same_event(tmp_path: Path) -> None:
    """Older files are compared on the columns they have, so a new column doubles nothing."""
    old, new = parse_schema("`A` BIGINT"), parse_schema("`A` BIGINT, `B` STRING")
    before = Held(write(tmp_path / "old.parquet", [{"A": 1}, {"A": 1}, {"A": 2}], old), old)
    after = Held(write(tmp_path / "new.parquet", [{"A": 3, "B": "x"}], new), new)
    pairs = [(1, "y"), (1, "y"), (2, None), (3, "x"), (3, "z")]
    staged: list[dict[str, Any]] = [{"A": number, "B": text} for number, text in pairs]
    candidate = Candidate("d", write(tmp_path / "s.tmp", staged, new), 5, (before, after))

    found = new_rows([candidate], new, spill=tmp_path / "spill")["d"]

    assert found.tolist() == [4]


TIMED = st.tuples(st.integers(0, 2) | st.none(), st.integers(0, 2), st.sampled_from("xy"))


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(held=st.lists(TIMED, max_size=6), staged=st.lists(TIMED, max_size=6), few_at_once=st.booleans())
def test_another_time_and_another_value_at_the_same_key_make_another_event(
    tmp_path: Path, held: list[tuple[Any, ...]], staged: list[tuple[Any, ...]], few_at_once: bool
) -> None:
    """Where a key has a time, a row is known if either its time or its other values are those of its key."""
    schema = parse_schema("`K` BIGINT, `ROWTIME` TIMESTAMP, `V` STRING")
    listed, arriving = ([dict(zip(schema.names, row, strict=True)) for row in side] for side in (held, staged))
    file = Held(write(tmp_path / "held.parquet", listed, schema), schema)
    candidate = Candidate("d", write(tmp_path / "staged.tmp", arriving, schema), len(arriving), (file,))
    repeats: Counter[str] = Counter()

    with pytest.MonkeyPatch.context() as patch:
        if few_at_once:
            patch.setattr(compared_values, "PASS_BYTES", 100)
        found = new_rows(
            [candidate],
            schema,
            key=["K"],
            null_keys=False,
            time="ROWTIME",
            repeats=repeats,
            spill=tmp_path / "spill",
        )["d"]

    last = {row[:2]: number for number, row in enumerate(staged) if row[0] is not None}
    last = {(staged[number][0], staged[number][2]): number for number in sorted(last.values())}
    known = {(row[0], part) for row in held for part in row[1:]}
    kept = [
        number
        for (key, _), number in last.items()
        if known.isdisjoint((key, part) for part in staged[number][1:])
    ]
    alone = Counter(row for row in staged if row[0] is None) - Counter(row for row in held if row[0] is None)
    assert sorted(number for number in found if staged[number][0] is not None) == sorted(kept)
    assert Counter(staged[number] for number in found if staged[number][0] is None) == alone
    assert repeats["d"] == sum(row[0] is not None for row in staged) - len(last)


WIDER = [
    parse_schema("`A` BIGINT, `X` BIGINT, `Y` BIGINT, `Z` BIGINT"),
    parse_schema("`A` BIGINT, `S` STRUCT<`x` BIGINT>"),
    parse_schema("`A` BIGINT, `S` STRUCT<`x` BIGINT, `y` BIGINT>"),
    parse_schema("`A` BIGINT, `S` STRUCT<`x` BIGINT, `y` BIGINT>, `B` BIGINT"),
]
"""Each tells more events apart than the one before; X, Y and Z have the same value in all rows."""
BITS = st.tuples(st.just(0), *[st.integers(0, 1)] * 3)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    exports=st.lists(
        st.tuples(
            st.sampled_from(WIDER),
            st.lists(BITS, min_size=1, max_size=4),
            st.randoms(use_true_random=False),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_columns_that_come_and_go_double_and_lose_nothing(
    tmp_path: Path, exports: list[tuple[Schema, list[tuple[int, ...]], Random]]
) -> None:
    """Whatever columns each export had, in any order of rows, the lake has as many rows as events."""
    events: list[tuple[int, ...]] = []
    held: list[Held] = []
    landed = 0
    for number, (schema, arriving, random) in enumerate(exports):
        events += arriving
        random.shuffle(events)
        staged: list[dict[str, Any]] = [
            {"A": a, "S": {"x": x, "y": y}, "B": b, "X": 0, "Y": 0, "Z": 0} for a, x, y, b in events
        ]
        source = tmp_path / "staged.tmp"
        candidate = Candidate("d", write(source, staged, schema), len(staged), tuple(held))

        found = new_rows([candidate], schema, spill=tmp_path / "spill")["d"]

        landed += len(found)
        assert landed == len(events)
        path = write(tmp_path / f"held{number}.parquet", [staged[row] for row in found], schema)
        held.append(Held(path, schema))


def test_an_event_exported_before_a_field_of_a_struct_existed_is_the_same_event(tmp_path: Path) -> None:
    """Fields inside STRUCTs, however deep, are like columns: one more or one less doubles nothing."""
    old = parse_schema(
        "`A` STRUCT<`x` INTEGER, `gone` STRING>, `L` ARRAY<STRUCT<`m` MAP<STRING, STRUCT<`i` DOUBLE>>>>"
    )
    new = parse_schema(
        "`A` STRUCT<`y` STRING, `x` BIGINT>, `L` ARRAY<STRUCT<`m` MAP<STRING, STRUCT<`i` DOUBLE, `j` STRING>>, "
        "`n` BIGINT>>"
    )

    def before(number: int | None) -> dict[str, Any]:
        return {"A": {"x": number, "gone": "g"}, "L": [{"m": [("k", {"i": -0.0})]}]}

    def after(number: int | None, *, zero: float = -0.0) -> dict[str, Any]:
        return {"A": {"x": number, "y": "new"}, "L": [{"m": [("k", {"i": zero, "j": "new"})], "n": 1}]}

    nothing: dict[str, Any] = {"A": None, "L": None}
    held = Held(write(tmp_path / "old.parquet", [before(1), before(1), before(None), nothing], old), old)
    staged = [after(1), after(2), after(None), after(1, zero=0.0), nothing, nothing, after(1), after(1)]
    candidate = Candidate("d", write(tmp_path / "s.tmp", staged, new), len(staged), (held,))

    found = new_rows([candidate], new, spill=tmp_path / "spill")["d"]

    assert sorted(str(staged[number]) for number in found) == sorted(
        map(str, [after(2), after(1, zero=0.0), nothing, after(1)])
    )


def test_a_key_that_came_later_finds_the_rows_from_before_it(tmp_path: Path) -> None:
    """Files without the key's columns are compared on what they have: nothing doubles, nothing is lost."""
    old, new = parse_schema("`A` BIGINT"), parse_schema("`A` BIGINT, `RP` INTEGER, `RO` BIGINT")
    before = Held(write(tmp_path / "old.parquet", [{"A": 1}, {"A": 2}], old), old)
    known = [{"A": 3, "RP": 0, "RO": 7}]
    after = Held(write(tmp_path / "new.parquet", known, new), new)
    triples = [(1, 0, 0), (1, 0, 0), (2, 0, 1), (2, 0, 2), (3, 0, 7), (9, 0, 8)]
    staged = [dict(zip(new.names, triple, strict=True)) for triple in triples]
    candidate = Candidate("d", write(tmp_path / "s.tmp", staged, new), len(staged), (before, after))

    found = new_rows([candidate], new, key=["RP", "RO"], spill=tmp_path / "spill")["d"]

    # One of the two events 2 is the one from before; the repeated event 1 is that one, twice received.
    assert sorted(staged[number]["A"] for number in found) == [2, 9]


def test_a_row_without_the_key_is_not_matched_with_one_whose_key_is_held(tmp_path: Path) -> None:
    """A row from before the key's columns is one of the events whose key the lake does not hold."""
    old, new = parse_schema("`A` BIGINT, `B` BIGINT, `C` BIGINT"), parse_schema("`A` BIGINT, `RO` BIGINT")
    before = Held(write(tmp_path / "old.parquet", [{"A": 1, "B": 1, "C": 1}], old), old)
    after = Held(write(tmp_path / "new.parquet", [{"A": 1, "RO": 0}], new), new)
    for order in (0, 1), (1, 0):
        staged = [{"A": 1, "RO": number} for number in order]
        candidate = Candidate("d", write(tmp_path / "s.tmp", staged, new), 2, (before, after))

        assert not new_rows([candidate], new, key=["RO"], spill=tmp_path / "spill")["d"].size


def test_days_are_compared_apart(tmp_path: Path) -> None:
    """The same row in two partitions counts in each of them."""
    schema = parse_schema("`A` BIGINT")
    path = write(tmp_path / "held.parquet", [{"A": 1}], schema)
    one = Candidate("one", write(tmp_path / "1.tmp", [{"A": 1}], schema), 1, (Held(path, schema),))
    two = Candidate("two", write(tmp_path / "2.tmp", [{"A": 1}], schema), 1, ())

    found = new_rows([one, two], schema, spill=tmp_path / "spill")

    assert {day: numbers.tolist() for day, numbers in found.items()} == {"one": [], "two": [0]}


def test_a_missing_committed_file_is_named(tmp_path: Path) -> None:
    """Rows are never called new because the file that holds them cannot be read."""
    schema = parse_schema("`A` BIGINT")
    lost = Held(str(tmp_path / "gone.parquet"), schema)
    candidate = Candidate("d", write(tmp_path / "s.tmp", [{"A": 1}], schema), 1, (lost,))

    with pytest.raises(LakeError, match=r"gone\.parquet"):
        new_rows([candidate], schema, spill=tmp_path / "spill")


NAMES = [
    "FILE_ROW_NUMBER",
    "file_row_number",
    "FILENAME",
    "s_path",
    "S_ROW",
    "s_number",
    "part",
    "t0",
    "owner",
    "data",
]


@pytest.mark.parametrize("identity", ["row", "key", "key elsewhere"])
@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_a_column_may_have_any_name(tmp_path: Path, name: str, identity: str) -> None:
    """Whatever name a column has, also one that is used inside, rows are compared as those of any other."""
    others = [other for other in NAMES if name == "all" and other != "file_row_number"]
    named = others or [name]
    nested = ", ".join(
        f"`{other}` STRUCT<`part` BIGINT, `ID` BIGINT, `path` STRING>" for other in ("owner2", *named[1:])
    )
    schema = parse_schema(f"`ROWTIME` TIMESTAMP, `ID` BIGINT, `{named[0]}` BIGINT, {nested}")

    def row(number: int) -> dict[str, Any]:
        whole = {name: {"part": number, "ID": -number, "path": "p"} for name in schema.names}
        return {**whole, "ROWTIME": 1_736_121_600_000 + number, "ID": number, named[0]: number}

    held = Held(write(tmp_path / "held.parquet", [row(1), row(2)], schema), schema)
    source = tmp_path / "staged.tmp"
    candidate = Candidate("d", write(source, [row(number) for number in (0, 2, 3, 2, 4)], schema), 5, (held,))
    key = {"row": [], "key": [named[0]], "key elsewhere": ["ID"]}[identity]

    found = new_rows([candidate], schema, key=key, spill=tmp_path / "spill")["d"]

    expected = [0, 2, 3, 4] if identity == "row" else [0, 2, 4]
    assert found.tolist() == expected
    copied = pa.Table.from_batches(copy_rows(source, found))
    assert copied.column(named[0]).to_pylist() == [[0, 2, 3, 2, 4][number] for number in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held.parquet", "staged.tmp"]

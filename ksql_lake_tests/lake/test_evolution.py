"""Columns that change between exports."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from ksql_lake.errors import SchemaChangeError, VersionError
from ksql_lake.lake import Lake
from ksql_lake.lake.files.evolution import evolved, unify, versioned_names
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import EVENTS, event, land_rows, stream_feed, table_feed


@pytest.mark.parametrize(
    ("old", "new", "both"),
    [
        ("`A` BIGINT", "`A` BIGINT, `B` STRING", "`A` BIGINT, `B` STRING"),
        ("`A` BIGINT, `B` STRING", "`A` BIGINT", "`A` BIGINT, `B` STRING"),
        ("`A` INTEGER", "`A` BIGINT", "`A` BIGINT"),
        ("`A` BIGINT", "`A` INTEGER", "`A` BIGINT"),
        ("`A` DECIMAL(10, 2)", "`A` DECIMAL(12, 2)", "`A` DECIMAL(12, 2)"),
        ("`A` ARRAY<INTEGER>", "`A` ARRAY<BIGINT>", "`A` ARRAY<BIGINT>"),
        ("`A` MAP<STRING, INTEGER>", "`A` MAP<STRING, BIGINT>", "`A` MAP<STRING, BIGINT>"),
        ("`A` STRUCT<`X` INTEGER>", "`A` STRUCT<`X` BIGINT, `Y` STRING>", "`A` STRUCT<`X` BIGINT, `Y` STRING>"),
    ],
)
def test_changes_that_lose_nothing_are_unified(old: str, new: str, both: str) -> None:
    """Added, removed and widened columns have one type that holds the rows of both."""
    assert unify(parse_schema(old), parse_schema(new)).text == both


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("`A` BIGINT", "`A` STRING"),
        ("`A` BIGINT", "`A` DOUBLE"),
        ("`A` INTEGER", "`A` DOUBLE"),
        ("`A` DECIMAL(10, 2)", "`A` DECIMAL(10, 3)"),
        ("`A` MAP<STRING, STRING>", "`A` MAP<BIGINT, STRING>"),
        ("`A` STRUCT<`X` INTEGER>", "`A` STRUCT<`X` STRING>"),
        ("`A` ARRAY<INTEGER>", "`A` INTEGER"),
    ],
)
def test_changes_that_could_alter_a_value_are_refused(old: str, new: str) -> None:
    """Types without a lossless common one stop the export and name column, both types and the way out."""
    with pytest.raises(SchemaChangeError) as caught:
        unify(parse_schema(old), parse_schema(new))

    text = str(caught.value)
    assert text.startswith(f"column A: the source now sends {new[4:]}, but the lake holds {old[4:]}")
    assert "rename" in text


def test_freeze_names_every_change() -> None:
    """A frozen feed refuses any change of columns and lists them all."""
    old, new = parse_schema("`A` INTEGER, `B` STRING"), parse_schema("`A` BIGINT, `C` STRING")

    with pytest.raises(SchemaChangeError) as caught:
        evolved(old, new, "freeze")

    assert "C STRING is new; B is gone; A was INTEGER, now BIGINT" in str(caught.value)
    assert evolved(old, old, "freeze") == old


def test_readers_give_one_typed_answer_across_a_change(tmp_path: Path) -> None:
    """An added column is NULL in older rows, a widened one has the wider type, in pyarrow and DuckDB."""
    lake, feed = Lake(tmp_path), stream_feed()
    narrow = parse_schema(EVENTS.text.replace("`ID` BIGINT", "`ID` INTEGER"))
    wide = parse_schema(f"{EVENTS.text}, `EXTRA` STRING")
    land_rows(lake, feed, [event(1)], schema=narrow)
    far = {**event(5, day=1), "ID": 2**40, "EXTRA": "x"}
    land_rows(lake, feed, [event(1), far], schema=wide)

    table = lake.feed(feed).dataset().to_table(columns=["ID", "EXTRA", "day"]).to_pylist()
    rows = lake.feed(feed).relation(duckdb.connect()).project("ID, EXTRA, day").fetchall()

    expected = [(1, None, 15), (2**40, "x", 16)]
    assert sorted(tuple(row.values()) for row in table) == expected
    assert sorted(rows) == expected


def test_new_version_keeps_both_types_as_columns(tmp_path: Path) -> None:
    """With `new_version` a column of an incompatible type gets a column of its own, and no row is doubled."""
    lake, feed = Lake(tmp_path), stream_feed(on_schema_change="new_version")
    text = parse_schema(EVENTS.text.replace("`ID` BIGINT", "`ID` STRING"))
    land_rows(lake, feed, [event(1)])
    rows = [{**event(1), "ID": "one"}, {**event(2), "ID": "two"}]

    land_rows(lake, feed, rows, schema=text)
    again = land_rows(lake, feed, rows, schema=text)
    back = land_rows(lake, feed, [event(3)])

    assert again.manifest.operation == "look"
    assert back.manifest.operation == "append"
    table = lake.feed(feed).dataset().to_table(columns=["ID", "ID_V2"]).to_pylist()
    assert sorted(map(str, table)) == sorted(
        map(str, [{"ID": 1, "ID_V2": None}, {"ID": None, "ID_V2": "two"}, {"ID": 3, "ID_V2": None}])
    )


def test_names_of_versions_count_up() -> None:
    """Each further incompatible type gets the next number; a type seen before goes back to its column."""
    held = parse_schema("`A` BIGINT, `A_V2` STRING")

    assert versioned_names(held, parse_schema("`A` INTEGER")) == {"A": "A"}
    assert versioned_names(held, parse_schema("`A` STRING")) == {"A": "A_V2"}
    assert versioned_names(held, parse_schema("`A` BOOLEAN")) == {"A": "A_V3"}


def test_a_frozen_table_refuses_new_columns(tmp_path: Path) -> None:
    """A frozen table feed writes no version with other columns; one that evolves does."""
    wide = parse_schema("`ID` BIGINT KEY, `NAME` STRING, `AGE` INTEGER")
    row = {"ID": 1, "NAME": "a"}
    lake = Lake(tmp_path)
    land_rows(lake, table_feed(), [row])

    with pytest.raises(SchemaChangeError, match="AGE INTEGER is new"):
        land_rows(lake, table_feed(on_schema_change="freeze"), [{**row, "AGE": 5}], schema=wide)

    assert land_rows(lake, table_feed(), [{**row, "AGE": 5}], schema=wide).state.latest_version == 2


def test_readers_give_one_typed_answer_inside_nested_columns(tmp_path: Path) -> None:
    """Added STRUCT fields and numbers widened inside ARRAY and MAP read as one type, and double nothing."""
    narrow = "`S` STRUCT<`X` INTEGER>, `L` ARRAY<INTEGER>, `M` MAP<STRING, INTEGER>, `D` DECIMAL(10, 2)"
    wide = "`S` STRUCT<`X` BIGINT, `Y` STRING>, `L` ARRAY<BIGINT>, `M` MAP<STRING, BIGINT>, `D` DECIMAL(12, 2)"
    before, after = (parse_schema(f"{EVENTS.text}, {text}") for text in (narrow, wide))
    old = {**event(1), "S": {"X": 1}, "L": [1], "M": [("a", 1)], "D": Decimal("1.50")}
    new = {**event(2), "S": {"X": 2**40, "Y": "q"}, "L": [2**40], "M": [("a", 2**40)], "D": Decimal("1.60")}
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [old], schema=before)

    commit = land_rows(lake, feed, [{**old, "S": {"X": 1, "Y": None}}, new], schema=after)

    assert commit.manifest.counts[0].new == 1
    expected = [
        (1, {"X": 1, "Y": None}, [1], {"a": 1}, Decimal("1.50")),
        (2, {"X": 2**40, "Y": "q"}, [2**40], {"a": 2**40}, Decimal("1.60")),
    ]
    table = lake.feed(feed).dataset().to_table(columns=["ID", "S", "L", "M", "D"])
    assert [tuple(row.values()) for row in table.to_pylist(maps_as_pydicts="strict")] == expected
    assert lake.feed(feed).relation(duckdb.connect()).project("ID, S, L, M, D").fetchall() == expected


def test_a_version_that_is_gone_says_so(tmp_path: Path) -> None:
    """Asking for a version that retention removed, or that never was, names those there are."""
    lake, feed = Lake(tmp_path), table_feed(retention=2)
    for number in range(3):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])
    lake.feed(feed).apply_retention()

    for version in ("v1", "v9"):
        with pytest.raises(VersionError) as caught:
            lake.feed(feed).dataset(partitions=[version])
        assert str(caught.value) == f"feed users: version {version} is not in the lake\nThere are v2, v3."

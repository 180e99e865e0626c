"""Columns that change between exports."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ksql_lake.errors import SchemaChangeError
from ksql_lake.lake import Lake
from ksql_lake.lake.evolution import evolved, unify
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import EVENTS, event, land_rows, stream_feed


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

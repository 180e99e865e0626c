"""`diff`: what changed between two versions of a table, exact for every type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.errors import LakeError, SchemaChangeError, VersionError
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.lake.files.evolution import shared
from ksql_lake.query import diff as public_diff
from ksql_lake.query.table_diff import TableDiff, diff_versions
from ksql_lake.schema import Array, KsqlType, Map, Schema, Struct, parse_schema
from ksql_lake_tests.lake.landing import Row, land_rows, table_feed
from ksql_lake_tests.lake.values import canonical, doubles, maps, texts
from ksql_lake_tests.lake.values import rows as every_type

FEED = table_feed()
_NESTED = "STRUCT<`m` MAP<STRING, ARRAY<STRING>>, `d` DOUBLE>"
_PLAIN = (
    "`B` BOOLEAN, `I` INTEGER, `D` DOUBLE, `E` DECIMAL(20, 4), `S` STRING, `Y` BYTES, `L` ARRAY<DOUBLE>, "
    f"`M` MAP<STRING, DOUBLE>, `N` {_NESTED}, `T` TIME, `U` DATE, `V` TIMESTAMP, `here` STRING, `op` BIGINT"
)
_EVOLVED = (
    "`U` DATE, `I` BIGINT, `D` DOUBLE, `E` DECIMAL(22, 4), `S` BIGINT, `Y` BYTES, `L` ARRAY<DOUBLE>, "
    "`M` MAP<STRING, DOUBLE>, `N` STRUCT<`d` DOUBLE, `x` INTEGER>, `T` TIME, `V` TIMESTAMP, `Z` INTEGER"
)
KEYS: dict[str, st.SearchStrategy[Row]] = {
    "`ID` BIGINT KEY": st.fixed_dictionaries({"ID": st.integers(0, 4)}),
    "`ID` STRING KEY, `WINDOWSTART` TIMESTAMP KEY, `WINDOWEND` TIMESTAMP KEY": st.fixed_dictionaries(
        {"ID": texts, "WINDOWSTART": st.integers(0, 1), "WINDOWEND": st.integers(0, 1)}
    ),
    "`ID` DOUBLE KEY": st.fixed_dictionaries({"ID": doubles}),
    "`ID` STRUCT<`a` DOUBLE, `b` STRING> KEY": st.fixed_dictionaries(
        {"ID": st.none() | st.fixed_dictionaries({"a": doubles, "b": texts})}
    ),
}
_PLAIN_VALUES = every_type.map(
    lambda row: {name: row[name] for name in "BIDESYLMN"} | {"here": row["part"], "op": row["row"]}
)
_TIMES = st.fixed_dictionaries(
    {
        "T": st.sampled_from([None, time(0), time(23, 59, 59, 999000)]),
        "U": st.sampled_from([None, date(1, 1, 1), date(2025, 1, 15)]),
        "V": st.sampled_from([None, datetime(1960, 1, 1, tzinfo=UTC), datetime(2025, 1, 15, tzinfo=UTC)]),
    }
)
_OTHER_VALUES = every_type.map(lambda row: {name: row[name] for name in "IDEYL"} | {"S": row["row"]})
_OTHERS = st.fixed_dictionaries(
    {
        "M": st.none() | maps.map(lambda value: list(reversed(value.items()))),
        "N": st.none() | st.fixed_dictionaries({"d": doubles, "x": st.sampled_from([None, 1])}),
        "Z": st.sampled_from([None, 1]),
    }
)


@st.composite
def versions(draw: st.DrawFn) -> tuple[Schema, list[Row], Schema, list[Row]]:
    """Two versions of one table, their columns the same or evolved, rows of few keys and few values."""
    key = draw(st.sampled_from(sorted(KEYS)))
    plain = st.builds(
        lambda *parts: dict(pair for part in parts for pair in part.items()), _PLAIN_VALUES, _TIMES
    )
    other = st.builds(
        lambda *parts: dict(pair for part in parts for pair in part.items()), _OTHER_VALUES, _TIMES, _OTHERS
    )
    sides: list[tuple[Schema, list[Row]]] = []
    for text, values in ((_PLAIN, plain), draw(st.sampled_from([(_PLAIN, plain), (_EVOLVED, other)]))):
        unique = st.lists(KEYS[key], max_size=5, unique_by=_same)
        rows = [_joined(found, draw(values)) for found in draw(unique)]
        if sides and text == _PLAIN:
            # Most rows of a real table stay what they are.
            kept = {_key(row, key): row for row in sides[0][1]}
            rows = [kept.get(_key(row, key), row) if draw(st.booleans()) else row for row in rows]
        sides.append((parse_schema(f"{key}, {text}"), rows))
    (old, before), (new, after) = sides
    return old, before, new, after


def _joined(*parts: Row) -> Row:
    return {name: value for part in parts for name, value in part.items()}


def _key(row: Row, text: str) -> str:
    return _same({column.name: row[column.name] for column in parse_schema(text)})


def _same(value: Any) -> str:
    """A text that is equal for values that are the same."""
    return repr(canonical(_sorted(value)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _seen(value: Any, kind: KsqlType) -> Any:
    """A value, of its STRUCTs only the fields of a type."""
    match kind, value:
        case _, None:
            return None
        case Struct(fields), dict():
            return {name: _seen(value[name], field) for name, field in fields}
        case Array(element), list():
            return [_seen(item, element) for item in value]
        case Map(_, content), list():
            return [(name, _seen(item, content)) for name, item in value]
    return value


def brute_force(old: Schema, before: list[Row], new: Schema, after: list[Row]) -> set[tuple[str, str, str]]:
    """The changes as (op, key, changed columns), found by looking at everything."""
    text = ", ".join(f"`{column.name}` {column.type.text}" for column in old if column.key)
    olds, news = ({_key(row, text): row for row in rows} for rows in (before, after))
    types = {column.name: column.type for column in new}
    found = {("delete", key, "None") for key in olds.keys() - news.keys()}
    found |= {("insert", key, "None") for key in news.keys() - olds.keys()}
    for key in olds.keys() & news.keys():
        changed = [
            column.name
            for column in old
            if column.name in types
            and (kind := shared(column.type, types[column.name])) is not None
            and _same(_seen(olds[key][column.name], kind)) != _same(_seen(news[key][column.name], kind))
        ]
        if changed:
            found.add(("update", key, str(changed)))
    return found


def _found(difference: TableDiff) -> list[tuple[str, str, str]]:
    rows = difference.to_arrow().to_pylist()
    return [(row["op"], _same(_plain_times(row["key"])), str(row["changed"])) for row in rows]


def _plain_times(key: Row) -> Row:
    """Window bounds as the numbers they were made from."""
    return {
        name: round(value.timestamp() * 1000) if isinstance(value, datetime) else value
        for name, value in key.items()
    }


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(versions())
def test_a_diff_is_what_looking_at_every_row_finds(given_versions: tuple[Any, ...]) -> None:
    """Every type, NULL, NaN, -0.0, MAPs in any order, evolved columns: what brute force finds."""
    old, before, new, after = given_versions
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        land_rows(lake, FEED, before, schema=old)
        land_rows(lake, FEED, after, schema=new)
        with diff_versions(lake.feed(FEED), 1, 2) as difference:
            found = _found(difference)
            counts = (difference.inserted, difference.updated, difference.deleted, difference.unchanged)
            shown = difference.to_arrow().to_pylist()
        tables = [pq.read_table(path, partitioning=None) for path in sorted(Path(folder).glob("tables/*/*/*"))]

    assert len(found) == len(set(found))
    assert set(found) == brute_force(old, before, new, after)
    ops = [op for op, _, _ in found]
    assert counts == (
        ops.count("insert"),
        ops.count("update"),
        ops.count("delete"),
        len(after) - ops.count("insert") - ops.count("update"),
    )
    for side, table in zip(("before", "after"), tables, strict=True):
        held = [repr(row) for row in table.to_pylist()]
        assert all(repr(row[side]) in held for row in shown if row[side] is not None)


def land(lake: Lake, text: str, *rows: Row) -> None:
    """One more version with these columns."""
    land_rows(lake, FEED, rows, schema=parse_schema(text))


def test_columns_that_change_are_no_updates(tmp_path: Path) -> None:
    """Added, removed, widened, partly changed and retyped columns are listed as such; rows stay unchanged."""
    lake = Lake(tmp_path)
    land(
        lake,
        "`ID` INTEGER KEY, `W` INTEGER, `G` STRING, `S` STRUCT<`X` INTEGER>, `R` STRING",
        {"ID": 1, "W": 5, "G": "gone", "S": {"X": 1}, "R": "1"},
    )
    land(
        lake,
        "`ID` BIGINT KEY, `W` BIGINT, `N` STRING, `S` STRUCT<`X` INTEGER, `Y` STRING>, `R` BIGINT",
        {"ID": 1, "W": 5, "N": "new", "S": {"X": 1, "Y": "y"}, "R": 2},
    )

    with diff_versions(lake.feed(FEED), "previous", "latest") as difference:
        assert (difference.inserted, difference.updated, difference.deleted) == (0, 0, 0)
        assert difference.unchanged == 1
        assert [change.text for change in difference.schema_changes] == [
            "ID was widened from INTEGER to BIGINT",
            "W was widened from INTEGER to BIGINT",
            "G STRING was removed",
            "S was STRUCT<`X` INTEGER> and is STRUCT<`X` INTEGER, `Y` STRING> now: compared on what both have",
            "R was STRING and is BIGINT now: its values are not compared",
            "N STRING was added",
        ]
        assert difference.schema.field("key").type.field("ID").type == pa.int64()


def test_changes_come_in_the_order_of_their_keys_and_as_many_as_asked(tmp_path: Path) -> None:
    """`batches` gives the changes ordered by key; a limit takes the first of them."""
    lake = Lake(tmp_path)
    rows = [{"ID": (number * 7919) % 20_000, "NAME": "a"} for number in range(20_000)]
    land_rows(lake, FEED, rows)
    land_rows(lake, FEED, [{**row, "NAME": "b"} for row in rows])

    with diff_versions(lake.feed(FEED), "v1", "2") as difference:
        keys = [key["ID"] for batch in difference.batches() for key in batch.column("key").to_pylist()]
        (first,) = difference.batches(limit=3)

    assert keys == list(range(20_000))
    assert first.column("key").to_pylist() == [{"ID": 0}, {"ID": 1}, {"ID": 2}]
    assert difference.columns == {"NAME": 20_000}


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("v1", "feed users: version v1 is not in the lake\nThere are v2, v3."),
        (9, "feed users: version v9 is not in the lake\nThere are v2, v3."),
        ("v0", "feed users: 'v0' is no version of a table\nSay v3, 3, latest or previous."),
        ("newest", "feed users: 'newest' is no version of a table\nSay v3, 3, latest or previous."),
    ],
)
def test_a_version_that_is_not_there_says_so(tmp_path: Path, version: str | int, told: str) -> None:
    """Versions that retention removed, never were, or are none name those there are."""
    lake, feed = Lake(tmp_path), table_feed(retention=2)
    for number in range(3):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])
    lake.feed(feed).apply_retention()

    with pytest.raises(VersionError) as caught:
        diff_versions(lake.feed(feed), version, "latest")

    assert str(caught.value) == told


def test_a_single_version_has_no_previous_one(tmp_path: Path) -> None:
    """With nothing to compare with, the error says what there is."""
    lake = Lake(tmp_path)
    with pytest.raises(VersionError, match=r"no previous version\nRun `ksql-lake export --table users` first."):
        diff_versions(lake.feed(FEED), "previous", "latest")
    land_rows(lake, FEED, [{"ID": 1, "NAME": "a"}])

    with pytest.raises(VersionError, match=r"there is no previous version\nThere is only v1."):
        diff_versions(lake.feed(FEED), "previous", "latest")


def test_versions_without_a_key_or_with_another_one_are_refused(tmp_path: Path) -> None:
    """Nothing is guessed about what identifies a row."""
    lake = Lake(tmp_path)
    land(lake, "`ID` BIGINT KEY, `N` STRING", {"ID": 1, "N": "a"})
    land(lake, "`ID` BIGINT, `N` STRING", {"ID": 1, "N": "a"})
    land(lake, "`ID` STRING KEY, `N` STRING", {"ID": "1", "N": "a"})

    with pytest.raises(LakeError) as keyless:
        diff_versions(lake.feed(FEED), 1, 2)
    with pytest.raises(SchemaChangeError) as rekeyed:
        diff_versions(lake.feed(FEED), 1, 3)

    assert str(keyless.value).startswith("feed users, versions v1 and v2: this version lacks its key columns\n")
    assert str(rekeyed.value).startswith(
        "feed users, versions v1 and v3: the key was ID BIGINT and is ID STRING now, so no row of one can be"
    )


def test_a_file_that_vanished_is_told(tmp_path: Path) -> None:
    """A version removed while it is compared is an error that says what to do, and leaves no files behind."""
    lake = Lake(tmp_path)
    for name in "ab":
        land_rows(lake, FEED, [{"ID": 1, "NAME": name}])
    next(tmp_path.glob("tables/users/version=v1/*.parquet")).unlink()

    with pytest.raises(LakeError, match=r"versions v1 and v2: a file of these versions cannot be read: "):
        diff_versions(lake.feed(FEED), 1, 2)


def test_the_public_function_finds_feed_and_lake_by_their_folders(tmp_path: Path) -> None:
    """`ksql_lake.diff(name)` compares the previous version with the latest."""
    lake = Lake(tmp_path / "lake")
    FeedStore(tmp_path / "feeds").add(FEED)
    for name in "ab":
        land_rows(lake, FEED, [{"ID": 1, "NAME": name}])

    with public_diff("users", root=tmp_path / "lake", feeds=tmp_path / "feeds") as difference:
        assert repr(difference) == "<TableDiff users v1 to v2: 0 inserted, 1 updated, 0 deleted>"

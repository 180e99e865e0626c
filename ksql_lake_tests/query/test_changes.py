"""`NAME_changes` and `NAME_history`: all kept versions as a change feed and as states with their time."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.query.sql.connection import connect, create_views
from ksql_lake.query.sql.views import Committed, lake_views
from ksql_lake.query.table_diff import diff_versions
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import Row, land_rows, stream_feed, table_feed

FEED = table_feed(retention=50)
Version = tuple[str, list[Row]]
SHAPES = [
    "`ID` INTEGER KEY, `K` DOUBLE KEY, `NAME` STRING",
    "`ID` BIGINT KEY, `K` DOUBLE KEY, `NAME` STRING, `AGE` INTEGER",
    "`K` DOUBLE KEY, `ID` BIGINT KEY, `NAME` BIGINT, `AGE` BIGINT, `valid_from` INTEGER",
]


def moment(number: int) -> datetime:
    """When version `number` was read."""
    return datetime(2025, 1, number, 6, tzinfo=UTC)


def land(lake: Lake, number: int, version: Version) -> None:
    """Land a version that was read at its own moment."""
    text, rows = version
    schema = parse_schema(text)
    read = ReadFacts(source="USERS", statement="SELECT ...;", read_at=moment(number).isoformat())
    with lake.feed(FEED).stage(schema, read=read) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(schema)))
        staging.commit()


def views(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection with the views of the table `users`."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    create_views(connection, lake_views(Committed.of(lake.feed(FEED))), "main")
    return connection


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """Up to four versions of a table whose columns may change between them."""
    found = []
    for at in sorted(draw(st.lists(st.integers(0, len(SHAPES) - 1), min_size=1, max_size=4))):
        names = ["x", "y", None] if at < 2 else [1, None]
        keys = draw(st.sets(st.tuples(st.integers(1, 2), st.sampled_from(["0.0", "-0.0", "1.5"])), max_size=4))
        rows = [
            {"ID": number, "K": float(key), "NAME": draw(st.sampled_from(names))}
            | {name: draw(st.sampled_from([7, None])) for name in ("AGE", "valid_from")[:at]}
            for number, key in sorted(keys)
        ]
        found.append((SHAPES[at], rows))
    return found


def _whole(version: Version) -> dict[tuple[Any, str], Row]:
    """A version's rows by key, in the columns of all versions."""
    text, rows = version
    retyped = "`NAME` BIGINT" in text
    return {
        (row["ID"], repr(row["K"])): {
            "NAME": None if retyped else row["NAME"],
            "NAME_V2": row["NAME"] if retyped else None,
            "AGE": row.get("AGE"),
            "valid_from": row.get("valid_from"),
        }
        for row in rows
    }


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(histories())
def test_changes_and_history_tell_every_version(given_versions: list[Version]) -> None:
    """The changes are those between neighbours; the states of each version are exactly its rows, none twice."""
    with TemporaryDirectory() as folder:
        lake = Lake(folder)
        for number, version in enumerate(given_versions, 1):
            land(lake, number, version)
        connection = views(lake)
        changes = connection.sql("SELECT * FROM users_changes").to_arrow_table().to_pylist()
        history = connection.sql("SELECT * FROM users_history").to_arrow_table().to_pylist()

    seen = {(row["version"], row["op"], row["key"]["ID"], repr(row["key"]["K"])) for row in changes}
    assert len(seen) == len(changes)
    assert seen == _expected_changes(given_versions)
    assert all(row["changed_at"] == moment(int(row["version"][1:])) for row in changes)

    first = "valid_from_" if any("valid_from" in text for text, _ in given_versions) else "valid_from"
    names = [name for name in VALUES if any(_has(version, name) for version in given_versions)]
    spelled = {name: name for name in names}
    if "NAME" not in names:  # one type in all versions needs no second name
        spelled["NAME_V2"] = "NAME"
    for number, version in enumerate(given_versions, 1):
        now = [
            row
            for row in history
            if row[first] <= moment(number) and (row["valid_to"] is None or moment(number) < row["valid_to"])
        ]
        held = {(row["ID"], repr(row["K"])): {name: row[spelled[name]] for name in names} for row in now}
        assert len(held) == len(now)
        assert held == {key: {name: row[name] for name in names} for key, row in _whole(version).items()}


VALUES = ("NAME", "NAME_V2", "AGE", "valid_from")


def _expected_changes(versions_: list[Version]) -> set[tuple[str, str, Any, str]]:
    found = set()
    for number, (old, new) in enumerate(pairwise(versions_), 2):
        before, after = _whole(old), _whole(new)
        both = [
            name for name in ("NAME", "NAME_V2", "AGE", "valid_from") if _has(old, name) and _has(new, name)
        ]
        found |= {(f"v{number}", "delete", *key) for key in before.keys() - after.keys()}
        found |= {(f"v{number}", "insert", *key) for key in after.keys() - before.keys()}
        found |= {
            (f"v{number}", "update", *key)
            for key in before.keys() & after.keys()
            if any(before[key][name] != after[key][name] for name in both)
        }
    return found


def _has(version: Version, name: str) -> bool:
    retyped = "`NAME` BIGINT" in version[0]
    return {"NAME": not retyped, "NAME_V2": retyped}.get(name, f"`{name}`" in version[0])


def test_a_deleted_row_that_comes_back_has_two_states(tmp_path: Path) -> None:
    """The history of one key, as a person would write it down."""
    lake, text = Lake(tmp_path), "`ID` BIGINT KEY, `NAME` STRING"
    for number, rows in enumerate(([{"ID": 1, "NAME": "a"}], [], [{"ID": 1, "NAME": "a"}]), 1):
        land(lake, number, (text, rows))

    connection = views(lake)

    assert connection.sql("FROM users_history ORDER BY valid_from").fetchall() == [
        (1, "a", moment(1), moment(2), "v1", "v2"),
        (1, "a", moment(3), None, "v3", None),
    ]
    assert connection.sql("SELECT version, op, before, after FROM users_changes ORDER BY 1").fetchall() == [
        ("v2", "delete", {"ID": 1, "NAME": "a"}, None),
        ("v3", "insert", None, {"ID": 1, "NAME": "a"}),
    ]


KEYS: dict[str, list[Any]] = {
    "DECIMAL(10, 2)": [Decimal("1.10"), Decimal("-0.01"), None],
    "STRUCT<`A` BIGINT, `B` STRING>": [{"A": 1, "B": "x"}, {"A": None, "B": None}, None],
    "BYTES": [b"\x00\xff", b"", None],
    "STRING": ["NULL", "", None],
    "TIMESTAMP": [moment(1), moment(2), None],
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_is_followed(tmp_path: Path, kind: str) -> None:
    """A NULL is a key as any other; a look-up of one key finds its states alone."""
    lake, shape, (one, two, none) = Lake(tmp_path), f"`K` {kind} KEY, `N` STRING", KEYS[kind]
    for number, rows in enumerate([{0: "a", 2: "n"}, {0: "a", 1: "b", 2: "m"}, {0: "c"}, {0: "a"}], 1):
        land(lake, number, (shape, [{"K": KEYS[kind][at], "N": name} for at, name in rows.items()]))
    connection = views(lake)
    ask = "SELECT K, N, from_version, to_version FROM users_history"

    def states(sql: str, *given: Any) -> list[tuple[Any, ...]]:
        return sorted(connection.execute(sql, given).fetchall(), key=repr)

    ones = [(one, "a", "v1", "v3"), (one, "c", "v3", "v4"), (one, "a", "v4", None)]
    nones = [(none, "n", "v1", "v2"), (none, "m", "v2", "v3")]
    assert states(ask) == sorted([*ones, (two, "b", "v2", "v3"), *nones], key=repr)
    assert states(f"{ask} WHERE K = ?", one) == sorted(ones, key=repr)
    assert states(f"{ask} WHERE K IS NULL") == sorted(nones, key=repr)
    changes = connection.sql("SELECT version, op, key.K FROM users_changes").fetchall()
    assert sorted(changes, key=repr) == sorted(
        [
            *[("v2", "insert", two), ("v2", "update", none)],
            *[("v3", "update", one), ("v3", "delete", two), ("v3", "delete", none), ("v4", "update", one)],
        ],
        key=repr,
    )


def test_versions_before_another_key_are_left_out(tmp_path: Path) -> None:
    """Changes that cannot be followed are left out; the newest key decides."""
    lake = Lake(tmp_path)
    for number, (key, value) in enumerate((("BIGINT", 1), ("STRING", "1"), ("STRING", "2")), 1):
        land(lake, number, (f"`ID` {key} KEY, `NAME` STRING", [{"ID": value, "NAME": "a"}]))

    connection = views(lake)

    assert connection.sql("SELECT DISTINCT version FROM users_changes").fetchall() == [("v3",)]
    assert connection.sql("SELECT min(from_version) FROM users_history").fetchall() == [("v2",)]


def test_streams_and_tables_without_a_key_have_no_such_views(tmp_path: Path) -> None:
    """Nothing is guessed about what identifies a row."""
    lake = Lake(tmp_path)
    land(lake, 1, ("`ID` BIGINT, `NAME` STRING", [{"ID": 1, "NAME": "a"}]))

    names = [view.name for view in lake_views(Committed.of(lake.feed(FEED)))]

    assert "users_versions" in names
    assert not {"users_changes", "users_history"} & set(names)
    assert [view.name for view in lake_views(Committed.of(lake.feed(stream_feed())))] == ["events"]


def test_a_name_with_other_capitals_is_the_same_column(tmp_path: Path) -> None:
    """Diff, changes and history agree: a key or a value whose name changed its capitals did not change."""
    lake = Lake(tmp_path)
    land(lake, 1, ("`ID` BIGINT KEY, `NAME` STRING", [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}]))
    land(lake, 2, ("`id` BIGINT KEY, `Name` STRING", [{"id": 1, "Name": "a"}, {"id": 2, "Name": "c"}]))

    with diff_versions(lake.feed(FEED), "v1", "v2") as found:
        told = found.to_arrow().to_pylist()
        assert [change.text for change in found.schema_changes] == [
            "ID was renamed id",
            "NAME was renamed Name",
        ]
    assert [(row["op"], row["key"], row["changed"]) for row in told] == [("update", {"id": 2}, ["Name"])]
    assert (told[0]["before"], told[0]["after"]) == ({"ID": 2, "NAME": "b"}, {"id": 2, "Name": "c"})
    connection = views(lake)
    changes = (
        connection.sql("SELECT version, op, key, changed, after FROM users_changes")
        .to_arrow_table()
        .to_pylist()
    )
    assert [(row["version"], row["op"], row["changed"]) for row in changes] == [("v2", "update", ["NAME"])]
    assert changes[0]["after"] == {"ID": 2, "NAME": "c"}
    history = connection.sql(
        "SELECT ID, NAME, from_version, to_version FROM users_history ORDER BY ALL"
    ).fetchall()
    assert history == [(1, "a", "v1", None), (2, "b", "v1", "v2"), (2, "c", "v2", None)]


def test_a_column_called_like_duckdbs_own_is_a_column(tmp_path: Path) -> None:
    """Versions are distinguished by the numbers of their files, which a column `FILE_INDEX` does not hide."""
    lake, text = Lake(tmp_path), "`ID` BIGINT KEY, `FILE_INDEX` BIGINT"
    for number, values in enumerate(([7, 7], [7, 8], [7, 7]), 1):
        land(lake, number, (text, [{"ID": at, "FILE_INDEX": value} for at, value in enumerate(values)]))

    history = views(lake).sql("SELECT ID, FILE_INDEX, from_version, to_version FROM users_history ORDER BY ALL")

    assert history.fetchall() == [
        (0, 7, "v1", None),
        (1, 7, "v1", "v2"),
        (1, 7, "v3", None),
        (1, 8, "v2", "v3"),
    ]


def test_versions_of_the_same_columns_need_not_be_neighbours(tmp_path: Path) -> None:
    """A column that came and went lies between two versions that are read in one scan."""
    lake, narrow = Lake(tmp_path), "`ID` BIGINT KEY, `NAME` STRING"
    row: Row = {"ID": 1, "NAME": "a"}
    for number, wide in enumerate((False, True, False, False), 1):
        text, given = (f"{narrow}, `AGE` BIGINT", row | {"AGE": 3}) if wide else (narrow, row)
        land(lake, number, (text, [given]))

    history = views(lake).sql("SELECT ID, NAME, AGE, from_version, to_version FROM users_history ORDER BY ALL")

    assert history.fetchall() == [
        (1, "a", 3, "v2", "v3"),
        (1, "a", None, "v1", "v2"),
        (1, "a", None, "v3", None),
    ]


def test_a_history_keeps_the_sign_of_a_nested_zero(tmp_path: Path) -> None:
    """-0.0 and 0.0 are two values in a DOUBLE, and inside ARRAY, STRUCT and MAP too."""
    columns = parse_schema(
        "`ID` BIGINT KEY, `D` DOUBLE, `A` ARRAY<STRUCT<`q` DOUBLE>>, `S` STRUCT<`d` DOUBLE>, "
        "`M` MAP<STRING, DOUBLE>"
    )
    lake, table = Lake(tmp_path / "lake"), table_feed()
    for hour, zeros in enumerate([(-0.0, 0.0), (0.0, 0.0)], start=1):
        rows: list[Row] = [
            {"ID": at, "D": zero, "A": [{"q": zero}, None], "S": {"d": zero}, "M": [("k", zero)]}
            for at, zero in enumerate(zeros)
        ]
        land_rows(lake, table, rows, schema=columns, read_at=f"2025-01-19T0{hour}:00:00.000+00:00")

    states = connect(tmp_path / "lake", tmp_path / "feeds").sql(
        'SELECT "ID", from_version, "D", "A"[1].q, "S".d, "M"[\'k\'] FROM users_history ORDER BY ALL'
    )

    assert [list(map(str, state)) for state in states.fetchall()] == [
        ["0", "v1", *["-0.0"] * 4],
        ["0", "v2", *["0.0"] * 4],
        ["1", "v1", *["0.0"] * 4],
    ]

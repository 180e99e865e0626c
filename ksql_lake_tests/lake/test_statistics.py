"""Promises about statistics: readers who trust those of a file find every row that they are asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.lake.files import writer as writer_module
from ksql_lake.lake.files.statistics import NOTE, counted_nulls, misleading_columns, stated_range
from ksql_lake.lake.files.writer import PartitionWriter
from ksql_lake_tests.lake.test_dictionaries import Folder

NAN = math.nan

SCHEMA = pa.schema(
    [
        ("ID", pa.int64()),
        ("D", pa.float64()),
        ("L", pa.list_(pa.float64())),
        ("S", pa.struct([("x", pa.float64()), ("n", pa.int64())])),
        ("M", pa.map_(pa.string(), pa.float64())),
        ("T", pa.string()),
    ]
)

_DOUBLES = st.one_of(st.none(), st.just(NAN), st.floats(-20, 20, width=32))


def _row(number: int, value: float | None) -> dict[str, Any]:
    nested = None if value is None else {"x": value, "n": number}
    return {
        "ID": number,
        "D": value,
        "L": [value, 1.0],
        "S": nested,
        "M": None if value is None else [("k", value)],
        "T": f"t {number % 3}",
    }


def _write(folder: Path, values: list[float | None], *, at_once: int) -> Path:
    """Write one partition, a row group for each few rows."""
    rows = [_row(number, value) for number, value in enumerate(values)]
    writer = PartitionWriter(Folder(folder), SCHEMA, compression="zstd", metadata={"a": "b"})
    for start in range(0, len(rows), at_once):
        batch = pa.RecordBatch.from_pylist(rows[start : start + at_once], schema=SCHEMA)
        writer.write("day", writer.encoded(batch))
    (file,) = writer.close()
    assert file.records == len(rows)
    assert [path.name for path in folder.iterdir()] == [file.name]
    return folder / file.name


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of a few rows, so that a file has many."""
    monkeypatch.setattr(writer_module, "ROW_GROUP_ROWS", 10)


_PLACES = {"D": "D", "list": "L[1]", "struct": "S.x", "map": "M['k']"}
_CONDITIONS = [
    "isnan({0})",
    "{0} = 'NaN'::DOUBLE",
    "{0} > 10",
    "{0} >= 25",
    "{0} <= 3",
    "{0} IS NULL",
    "{0} < -5",
]


@pytest.mark.usefixtures("small_groups")
@settings(max_examples=40, deadline=None)
@given(values=st.lists(_DOUBLES, min_size=1, max_size=60), at_once=st.integers(1, 30))
def test_plain_duckdb_finds_what_a_filter_asks_for(
    tmp_path_factory: pytest.TempPathFactory, values: list[float | None], at_once: int
) -> None:
    """Wherever NaNs come in a file, flat or nested, a filter over the file gives what it gives in memory."""
    path = _write(tmp_path_factory.mktemp("nan"), values, at_once=at_once)
    held = pq.read_table(path)
    assert held.column("ID").to_pylist() == list(range(len(values)))
    with duckdb.connect() as connection:
        connection.register("held", held)
        for place in _PLACES.values():
            for condition in _CONDITIONS:
                where = condition.format(place)
                told = connection.sql(
                    f"SELECT ID FROM read_parquet('{path}') WHERE {where} ORDER BY ID"
                ).fetchall()
                assert told == connection.sql(f"SELECT ID FROM held WHERE {where} ORDER BY ID").fetchall(), (
                    where
                )


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("place", [0, 45, 99], ids=["first", "in the middle", "last"])
def test_only_columns_with_nan_go_without_statistics(tmp_path: Path, place: int) -> None:
    """Every other column keeps its statistics, and the footer counts the NULLs of those without."""
    values: list[float | None] = [float(number) for number in range(100)]
    values[place], values[50] = NAN, None

    metadata = pq.read_metadata(_write(tmp_path, values, at_once=10))

    assert metadata.num_row_groups > 2
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        stated = {
            column.path_in_schema: bool(column.statistics and column.statistics.has_min_max)
            for column in map(group.column, range(group.num_columns))
        }
        assert stated == {
            "ID": True,
            "D": False,
            "L.list.element": False,
            "S.x": False,
            "S.n": True,
            "M.key_value.key": True,
            "M.key_value.value": False,
            "T": True,
        }
    assert counted_nulls(metadata) == {"D": 1}
    assert (metadata.metadata or {})[b"a"] == b"b"


def test_a_file_without_nan_has_statistics_everywhere(tmp_path: Path) -> None:
    """Files whose numbers are numbers lose nothing."""
    metadata = pq.read_metadata(_write(tmp_path, [1.0, None, 2.0], at_once=3))

    group = metadata.row_group(0)
    assert all(group.column(at).is_stats_set for at in range(group.num_columns))
    assert counted_nulls(metadata) == {}


def test_a_file_of_an_older_release_is_told_from_ours(tmp_path: Path) -> None:
    """Columns whose statistics leave NaN out are found in files without the note, and in no others."""
    rows = pa.Table.from_pylist([_row(0, 1.0), _row(1, NAN)], schema=SCHEMA)
    pq.write_table(rows, tmp_path / "old.parquet")
    with pq.ParquetFile(tmp_path / "old.parquet") as old:
        assert misleading_columns(old) == ["D", "L.list.element", "M.key_value.value", "S.x"]
    pq.write_table(rows.slice(0, 1), tmp_path / "harmless.parquet")
    with pq.ParquetFile(tmp_path / "harmless.parquet") as harmless:
        assert misleading_columns(harmless) == []
    (tmp_path / "ours").mkdir()
    with pq.ParquetFile(_write(tmp_path / "ours", [1.0, NAN], at_once=1)) as ours:
        assert NOTE.encode() in (ours.metadata.metadata or {})
        assert misleading_columns(ours) == []


def written(path: Path, column: pa.Array, **options: Any) -> pq.ParquetFile:
    """Write one column in row groups of two rows, and open the file."""
    pq.write_table(pa.table({"AT": column}), path, row_group_size=2, **options)
    return pq.ParquetFile(path)


@pytest.mark.parametrize("kind", [pa.int64(), pa.timestamp("ms", "UTC")])
def test_the_stated_range_covers_all_row_groups(tmp_path: Path, kind: pa.DataType) -> None:
    """The lowest and the highest value of a column of milliseconds come from the footer alone."""
    file = written(tmp_path / "some.parquet", pa.array([5, 7, -3, 9, 6], pa.int64()).cast(kind))

    assert stated_range(file, "AT") == (-3, 9)


def test_statistics_that_do_not_cover_all_rows_state_no_range(tmp_path: Path) -> None:
    """A NULL, a row group without statistics or another unit leaves the rows to be read."""
    whole = pa.array([5, 7, 8], pa.int64())

    assert stated_range(written(tmp_path / "null.parquet", pa.array([5, 7, None], pa.int64())), "AT") is None
    assert stated_range(written(tmp_path / "none.parquet", whole, write_statistics=False), "AT") is None
    for unit in ("us", "ns"):
        other = whole.cast(pa.timestamp(unit, "UTC"))
        assert stated_range(written(tmp_path / f"{unit}.parquet", other), "AT") is None
    assert stated_range(written(tmp_path / "short.parquet", whole.cast(pa.int32())), "AT") is None
    assert stated_range(written(tmp_path / "empty.parquet", whole[:0]), "AT") is None
    with pytest.raises(KeyError):
        stated_range(written(tmp_path / "some.parquet", whole), "ELSEWHERE")

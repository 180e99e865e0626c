"""Small files of many days: columns that compression hardly makes smaller stay as they are."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.lake.files.writer import PartitionWriter
from ksql_lake_tests.lake.test_dictionaries import Folder

SCHEMA = pa.schema(
    [
        ("ID", pa.string()),
        ("CODE", pa.string()),
        ("NOISE", pa.int64()),
        ("LATER", pa.string()),
        ("S", pa.struct([("N", pa.int64()), ("T", pa.string())])),
    ]
)
ROWS = 1500


def _rows(day: int, count: int = ROWS) -> pa.RecordBatch:
    """Make rows of one day; LATER has values from the second day on only."""
    random = np.random.default_rng(day)
    wide = random.integers(-(2**62), 2**62, count).tolist()
    columns = [
        [f"transaction-{day}-{number}" for number in range(count)],
        [f"code {number}" for number in random.integers(0, 16, count)],
        random.integers(0, 10**6, count).tolist(),
        [None if day == 0 else f"a text of some length {number}" for number in range(count)],
        [{"N": value, "T": f"text {number}"} for number, value in enumerate(wide)],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _write(folder: Path, days: int, *, compression: str = "zstd", count: int = ROWS) -> list[Path]:
    folder.mkdir()
    writer = PartitionWriter(Folder(folder), SCHEMA, compression=compression, metadata={})
    for day in range(days):
        writer.write(f"{day:03}", writer.encoded(_rows(day, count)))
    return [folder / file.name for file in writer.close()]


def _codecs(path: Path) -> dict[str, str]:
    group = pq.read_metadata(path).row_group(0)
    columns = map(group.column, range(group.num_columns))
    return {column.path_in_schema: column.compression for column in columns}


def test_of_many_small_days_only_what_shrinks_is_compressed(tmp_path: Path) -> None:
    """Random numbers and codes stay as they are, also inside a STRUCT, and every reader finds the rows."""
    files = _write(tmp_path / "many", 40)

    assert _codecs(files[3]) == {
        "ID": "ZSTD",
        "CODE": "UNCOMPRESSED",
        "NOISE": "UNCOMPRESSED",
        "LATER": "ZSTD",
        "S.N": "UNCOMPRESSED",
        "S.T": "ZSTD",
    }
    for day, path in enumerate(files):
        expected = pa.Table.from_batches([_rows(day)])
        assert pq.read_table(path).equals(expected)
        found = duckdb.sql(f"SELECT * FROM read_parquet('{path}')")
        assert found is not None
        assert found.to_arrow_table().cast(SCHEMA).equals(expected)
        group = pq.read_metadata(path).row_group(0)
        assert all(group.column(number).is_stats_set for number in range(group.num_columns))


def test_columns_without_compression_make_a_small_file_hardly_larger(tmp_path: Path) -> None:
    """What they cost stays within a few hundredths of the file."""
    size = _write(tmp_path / "many", 40)[3].stat().st_size
    compressed = _write(tmp_path / "few", 4)[3].stat().st_size
    assert compressed * 0.97 < size < compressed * 1.03


@pytest.mark.parametrize(
    ("days", "count", "compression", "codec"),
    [(4, ROWS, "zstd", "ZSTD"), (40, 300, "zstd", "ZSTD"), (40, ROWS, "snappy", "SNAPPY")],
    ids=["few days", "too few rows to tell", "another codec"],
)
def test_otherwise_every_column_has_the_feeds_codec(
    tmp_path: Path, days: int, count: int, compression: str, codec: str
) -> None:
    """Where compressors cost little, or no sample decides, the feed's compression holds for all columns."""
    for path in _write(tmp_path / "files", days, compression=compression, count=count):
        assert set(_codecs(path).values()) == {codec}


def test_a_large_file_among_many_small_ones_is_compressed(tmp_path: Path) -> None:
    """A file that begins with many rows has the feed's compression in every column."""
    writer = PartitionWriter(Folder(tmp_path), SCHEMA, compression="zstd", metadata={})
    for day in range(40):
        writer.write(f"{day:03}", writer.encoded(_rows(day)))
    writer.write("large", writer.encoded(_rows(41, 60_000)))
    large = tmp_path / writer.close()[-1].name

    assert set(_codecs(large).values()) == {"ZSTD"}

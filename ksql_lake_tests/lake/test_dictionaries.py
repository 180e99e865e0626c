"""Promises about texts as dictionaries: readers of the lake and checksums see no difference."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.lake.files.checksum import RowChecksum, batch_hashes
from ksql_lake.lake.files.dictionaries import TextDictionaries
from ksql_lake.lake.files.writer import PartitionWriter

SCHEMA = pa.schema(
    [
        pa.field("ROWTIME", pa.timestamp("ms", tz="UTC"), metadata={"ksql": "BIGINT"}),
        pa.field("ID", pa.string(), nullable=False),
        ("COUNTRY", pa.string()),
        ("AT", pa.time64("us")),
        ("AMOUNT", pa.decimal128(12, 2)),
        ("TAGS", pa.list_(pa.string())),
    ],
    metadata={"lake": "yes"},
)


class Folder:
    """A staging area in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Return the path of a staged file."""
        return self._folder / name

    def writing(self) -> Any:
        """Leave errors as they are."""
        return nullcontext()


def rows(first: int, count: int, *, countries: int = 5) -> pa.RecordBatch:
    """Make rows whose countries repeat, and whose ids do not."""
    numbers = range(first, first + count)
    columns = [
        list(numbers),
        [f"id {n}" for n in numbers],
        [None if n % 7 == 0 else f"country {n % countries}" for n in numbers],
        [n % 86_400 * 1000 for n in numbers],
        [None] * count,
        [[f"tag {n % 3}"] for n in numbers],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def write(folder: Path, batches: list[pa.RecordBatch]) -> Path:
    """Write one partition, as a staging does."""
    writer = PartitionWriter(Folder(folder), SCHEMA, compression="zstd", metadata={"a": "b"})
    for batch in batches:
        writer.write("day", writer.encoded(batch))
    (file,) = writer.close()
    expected = RowChecksum()
    for batch in batches:
        expected.add(batch)
    assert file.checksum == expected.text
    return folder / file.name


@pytest.mark.parametrize(
    "sizes",
    [[20_000], [10, 20_000], [20_000, 10], [10, 20], [60_000, 10, 250_000, 10]],
    ids=["at once", "small first", "small last", "small", "several row groups"],
)
def test_a_file_says_and_holds_plain_columns(tmp_path: Path, sizes: list[int]) -> None:
    """Whichever batch showed which texts repeat, readers find the schema and the rows as written."""
    batches, first = [], 0
    for size in sizes:
        batches.append(rows(first, size))
        first += size

    path = write(tmp_path, batches)

    file = pq.ParquetFile(path)
    assert file.schema_arrow.equals(SCHEMA)
    assert (file.schema_arrow.field("ROWTIME").metadata or {})[b"ksql"] == b"BIGINT"
    assert file.read().equals(pa.Table.from_batches(batches))
    assert (file.metadata.metadata or {})[b"a"] == b"b"
    described = duckdb.sql(
        f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet('{path}'))"
    )
    assert described is not None
    kinds = dict(described.fetchall())
    assert (kinds["COUNTRY"], kinds["ROWTIME"]) == ("VARCHAR", "TIMESTAMP WITH TIME ZONE")


def test_a_repeated_text_has_a_dictionary_and_statistics_and_another_has_none(tmp_path: Path) -> None:
    """Row groups can be skipped by their smallest and largest text, as if no dictionary had been there."""
    path = write(tmp_path, [rows(0, 30_000)])
    columns = {
        column.path_in_schema: column for column in map(pq.read_metadata(path).row_group(0).column, range(6))
    }
    country = columns["COUNTRY"]
    assert country.has_dictionary_page
    assert not columns["ID"].has_dictionary_page
    found = country.statistics
    assert found is not None
    assert (found.min, found.max, found.null_count) == ("country 0", "country 4", 4286)


def test_a_column_that_ceases_to_repeat_is_still_right(tmp_path: Path) -> None:
    """The choice made of the first rows is a matter of size only."""
    batches = [rows(0, 30_000), rows(30_000, 300_000, countries=290_000)]
    assert pq.read_table(write(tmp_path, batches)).equals(pa.Table.from_batches(batches))


@given(st.lists(st.none() | st.text(max_size=40), max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_a_dictionary_has_the_hashes_of_its_values(texts: list[str | None], begin: int, count: int) -> None:
    """Whole or in slices, with NULL or of nothing else: the same numbers as the plain column."""
    plain = pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], names=["A"]).slice(begin, count)
    encoded = pa.RecordBatch.from_arrays([pa.array(texts, pa.string()).dictionary_encode()], names=["A"])
    for one, other in zip(batch_hashes(plain), batch_hashes(encoded.slice(begin, count)), strict=True):
        assert one.tolist() == other.tolist()


def test_columns_are_chosen_by_the_first_rows_that_tell() -> None:
    """Few rows decide nothing; once it is decided, all batches are treated alike."""
    texts = TextDictionaries()
    assert texts.encoded(rows(0, 10)).schema.equals(SCHEMA)
    first = texts.encoded(rows(10, 5000)).schema
    assert [field.name for field in first if pa.types.is_dictionary(field.type)] == ["COUNTRY"]
    assert texts.encoded(rows(10, 10)).schema.equals(first)
    assert texts.table([rows(0, 10), texts.encoded(rows(10, 10))]).schema.equals(first)


def test_a_file_begun_before_it_was_known_which_texts_repeat_goes_on_plain(tmp_path: Path) -> None:
    """Days of a few rows each are written before any batch is large enough to decide."""
    writer = PartitionWriter(Folder(tmp_path), SCHEMA, compression="zstd", metadata={})
    for day in range(40):
        writer.write(f"day {day}", writer.encoded(rows(10 * day, 10)))
    writer.write("day 0", writer.encoded(rows(1000, 5000)))
    file, *_ = writer.close()

    written = pq.ParquetFile(tmp_path / file.name)

    assert written.num_row_groups == 2
    assert written.read().equals(pa.Table.from_batches([rows(0, 10), rows(1000, 5000)]))


@pytest.mark.parametrize("before", [0, 5_000], ids=["first", "after a large file"])
def test_one_text_among_nulls_is_found_by_duckdb(tmp_path: Path, before: int) -> None:
    """DuckDB 2.0 reads a plain column with one value and NULLs as that value alone; ours has a dictionary."""
    writer = PartitionWriter(Folder(tmp_path), SCHEMA, compression="zstd", metadata={})
    if before:
        writer.write("other", writer.encoded(rows(0, before)))
    few = rows(0, 3).set_column(2, SCHEMA.field("COUNTRY"), pa.array(["a", None, None], pa.string()))
    writer.write("day", writer.encoded(few))
    (path,) = (tmp_path / file.name for file in writer.close() if file.partition == "day")

    found = duckdb.sql(f"SELECT count(*) FILTER (COUNTRY IS NULL) FROM read_parquet('{path}')")
    listed = duckdb.sql(f"SELECT ID FROM read_parquet('{path}') WHERE COUNTRY IS NULL ORDER BY ID")

    assert found is not None
    assert listed is not None
    assert found.fetchall() == [(2,)]
    assert listed.fetchall() == [("id 1",), ("id 2",)]

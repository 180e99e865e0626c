"""Feed and partition to path and back."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.lake.layout import (
    FeedLayout,
    attempt_parts,
    data_file,
    file_sequence,
    manifest_sequence,
    partition_folder,
    partition_of,
    version_number,
)

DAYS = st.dates(min_value=date(1, 1, 1)).map(date.isoformat)


@given(DAYS)
def test_day_folder_leads_back_to_the_day(day: str) -> None:
    """Every day's folder names that day and no other."""
    assert partition_of("stream", partition_folder("stream", day)) == day


@given(st.integers(min_value=1, max_value=10**19 - 1))
def test_version_folder_leads_back_to_the_version(number: int) -> None:
    """Every version's folder names that version and no other."""
    assert partition_of("table", partition_folder("table", f"v{number}")) == f"v{number}"


def test_paths_are_those_of_the_design() -> None:
    """The paths are the ones readers were promised."""
    at = datetime(2025, 1, 15, 12, 0, 0, tzinfo=UTC)

    assert (
        data_file("stream", "2025-01-15", at=at, sequence=42)
        == "year=2025/month=01/day=15/data_20250115_120000_000042.parquet"
    )
    assert data_file("table", "v4", at=at, sequence=17) == "version=v4/snapshot_20250115_120000_000017.parquet"
    layout = FeedLayout("stream", "transaction_stream")
    assert layout.dataset == "streams/transaction_stream"
    assert layout.summary == "metadata/streams/transaction_stream/_metadata.json"
    assert layout.manifest(42) == "metadata/streams/transaction_stream/commits/00000000000000000042.json"
    assert layout.attempt(43, "1f0c9a2e").endswith("staging/00000000000000000043-1f0c9a2e")


@pytest.mark.parametrize(
    "folder",
    ["year=2025/month=13/day=01", "year=2025/month=02/day=30", "day=01", "year=2025/month=1/day=1", ""],
)
def test_foreign_folders_are_no_partitions(folder: str) -> None:
    """A folder that no partition has is recognised."""
    assert partition_of("stream", folder) is None


@pytest.mark.parametrize("key", ["4", "v0", "v04", "v-1", "V4", "v4 ", "latest", ""])
def test_version_keys_are_strict(key: str) -> None:
    """Nothing but `v` and a positive number is a version."""
    with pytest.raises(ValueError, match="not a version key"):
        version_number(key)


@given(st.integers(min_value=1, max_value=10**15))
def test_file_names_carry_the_commit_number(sequence: int) -> None:
    """The commit number can be read back from a data file's name, however large."""
    path = data_file("stream", "2025-01-15", at=datetime(2025, 1, 15, tzinfo=UTC), sequence=sequence)

    assert file_sequence(path) == sequence


def test_foreign_names_are_not_ours() -> None:
    """Names that are not manifests, attempts or data files are recognised."""
    assert manifest_sequence("00000000000000000042.json") == 42
    assert manifest_sequence("42.json") is None
    assert manifest_sequence("00000000000000000042.json.tmp") is None
    assert attempt_parts("00000000000000000043-1f0c9a2e") == (43, "1f0c9a2e")
    assert attempt_parts("notes.txt") is None
    assert file_sequence("year=2025/month=01/day=15/part-0.parquet") is None

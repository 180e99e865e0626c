"""Row identity on days that are larger than memory: exact, by spilling, with more memory, or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.errors import WriteError
from ksql_lake.lake.rows import identity
from ksql_lake.lake.rows.identity import Candidate, Held, new_rows
from ksql_lake.schema import arrow_schema, parse_schema

SCHEMA = parse_schema("`ID` BIGINT, `NOTE` STRING")
ROWS = 300_000
SPILLING = (("96MB", 1),)
"""Less than the rows below need at once, and enough for what DuckDB cannot spill."""


def table(identities: npt.NDArray[np.int64], *, width: int) -> pa.Table:
    """Rows with notes of some length, each row's own."""
    notes = [f"{number:020d}" * width for number in identities.tolist()]
    return pa.table([pa.array(identities), pa.array(notes)], schema=arrow_schema(SCHEMA))


class Day:
    """A staged and a committed file: half of the staged rows are new, and the first ten stand there twice.

    Args:
        folder: Where the files go.
        rows: How many are committed.
        width: Length of each note, in units of 20 bytes.
    """

    def __init__(self, folder: Path, *, rows: int, width: int) -> None:
        random = np.random.default_rng(1)
        known, new = np.arange(rows // 2), np.arange(rows, rows + rows // 2)
        self.staged = random.permutation(np.concatenate([known, new, np.arange(10)]))
        self.new = np.sort(np.concatenate([new, np.arange(10)]))
        self.folder = folder
        pq.write_table(table(random.permutation(rows), width=width), folder / "held.parquet")
        pq.write_table(table(self.staged, width=width), folder / "staged.parquet")

    def compare(self, spill: Path) -> list[int]:
        """Return the identities of the rows found to be new."""
        held = Held(str(self.folder / "held.parquet"), SCHEMA)
        candidate = Candidate("day", str(self.folder / "staged.parquet"), len(self.staged), (held,))
        found = new_rows([candidate], SCHEMA, spill=spill)["day"]
        return sorted(self.staged[found].tolist())


@pytest.fixture(scope="module")
def long_day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A day of many rows."""
    return Day(tmp_path_factory.mktemp("long"), rows=ROWS, width=6)


@pytest.fixture(scope="module")
def wide_day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A day of few rows of 60 KB each."""
    return Day(tmp_path_factory.mktemp("wide"), rows=2_000, width=3_000)


def test_a_day_larger_than_memory_is_compared_exactly(
    long_day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too little memory for the day at once, exactly the new rows are found, twins included."""
    monkeypatch.setattr(identity, "MEMORY", SPILLING)

    assert long_day.compare(tmp_path / "spill") == long_day.new.tolist()


def test_it_could_not_be_done_without_spilling(
    long_day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same day with nowhere to spill to is refused, saying where to make room, unless memory is enough."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(identity, "MEMORY", (("2GB", 1),))
    assert long_day.compare(tmp_path / "file" / "spill") == long_day.new.tolist()
    monkeypatch.setattr(identity, "MEMORY", SPILLING)

    with pytest.raises(WriteError) as caught:
        long_day.compare(tmp_path / "file" / "spill")

    assert re.fullmatch(
        rf"path {tmp_path}/file/spill: neither memory nor disk are enough to compare the day's rows: .+ "
        r"\([\d,]+ MB free on its disk\)\n"
        r"Free some space there \(DuckDB spills to it\), or run it where there is more memory\.",
        str(caught.value),
    )


def test_wide_rows_get_more_memory(wide_day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows too wide to be spilled within the first limit are compared within the next one."""
    monkeypatch.setattr(identity, "MEMORY", (("64MB", 2),))
    with pytest.raises(WriteError, match="neither memory nor disk are enough"):
        wide_day.compare(tmp_path / "spill")
    monkeypatch.setattr(identity, "MEMORY", (("64MB", 2), ("2GB", 1)))

    assert wide_day.compare(tmp_path / "spill") == wide_day.new.tolist()

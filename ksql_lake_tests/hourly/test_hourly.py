"""A few simulated days of exports, and that a month which grows is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake_tests.hourly.figures import Figures, Turn
from ksql_lake_tests.hourly.run import Month, Options


@pytest.mark.parametrize("extraction", ["pull", "push", "continue"])
def test_a_day_of_many_exports_keeps_few_files(tmp_path: Path, extraction: str) -> None:
    """However many exports a day has: few files while it is open, one when it is closed, every row once."""
    exports = 10
    figures = Month(tmp_path, Options(days=2, exports=exports, rows=12, extraction=extraction)).execute()

    assert figures.findings == []
    assert figures.most_files < exports
    assert figures.most_files <= OPEN_FILES + 3
    assert figures.closed[0] == 1
    assert sum(turn.added for day in figures.days for turn in day) == 2 * exports * 12


def test_without_merging_files_pile_up(tmp_path: Path) -> None:
    """The same days without a merge have a file for each export: what is counted is what is there."""
    figures = Month(tmp_path, Options(days=2, exports=12, rows=3, compact=False)).execute()

    assert figures.findings == []
    assert figures.closed[0] >= 12


@pytest.mark.parametrize("name", ["files", "opened", "commits", "manifests", ""])
def test_growth_is_told_from_what_is_flat(name: str) -> None:
    """A month in which one figure of an export grows is found; one in which none does is not."""
    figures = Figures(closed=[1] * 30)
    for day in range(30):
        grown = {each: 10 * (1 + (each == name) * day) for each in ("files", "opened", "commits", "manifests")}
        figures.days.append([Turn(seconds=1.0, received=10, added=10, **grown)] * 24)

    figures.judge(compacted=True)

    assert [text.split()[0] for text in figures.findings] == ([name] if name else [])


def test_closed_days_of_several_files_are_found() -> None:
    """A closed day that was not merged is a finding where days were to be merged."""
    figures = Figures(closed=[1, 2, 1, 1])

    figures.judge(compacted=True)

    assert figures.findings == ["closed days have 2 files at most, and should have one"]

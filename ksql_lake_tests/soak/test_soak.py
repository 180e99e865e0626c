"""A short soak, and that a soak notices what it is there for."""

from __future__ import annotations

from pathlib import Path

from ksql_lake_tests.soak.figures import Figures
from ksql_lake_tests.soak.run import Options, Soak


def test_a_short_soak_finds_nothing_and_counts_exactly(tmp_path: Path) -> None:
    """Producers, killed exports, upkeep and readers at once; every row is there as often as it was made."""
    figures = Soak(tmp_path, Options(seconds=600, rounds=6, seed=3, quiet=3)).execute()

    assert figures.findings == {kind: [] for kind in figures.findings}
    assert figures.counts["batches"] == 7
    assert figures.counts["polls"] > 0
    assert figures.sizes
    assert figures.rows > 700


def test_growth_is_told_from_warming_up() -> None:
    """A process that grows all the time is found; one that grew in the beginning is not."""
    flat = [(100_000_000 + 1_000_000 * min(turn, 10), 20, 5) for turn in range(60)]
    for kind, sizes in {
        "bytes": [
            (size + 2_000_000 * turn, files, threads) for turn, (size, files, threads) in enumerate(flat)
        ],
        "open files": [(size, files + turn, threads) for turn, (size, files, threads) in enumerate(flat)],
        "threads": [(size, files, threads + turn) for turn, (size, files, threads) in enumerate(flat)],
        "": flat,
    }.items():
        figures = Figures(sizes=[(1, 1, 1), (900_000_000, 90, 90), *sizes], loud=2)
        figures.judge_growth()
        assert [text.split(":")[0] for text in figures.findings["growing"]] == ([kind] if kind else [])

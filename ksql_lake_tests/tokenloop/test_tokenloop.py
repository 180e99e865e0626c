"""A short loop of random hits on streams that are read on from tokens."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom

from ksql_lake_tests.tokenloop.run import TokenLoop

ROUNDS = 10


def test_a_short_loop_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Whatever hits client, server, topics and marks: every row once, and each fall-back named."""
    seed = SystemRandom().randrange(1 << 30)

    figures = TokenLoop(tmp_path, rounds=ROUNDS, seed=seed).execute()

    told = "\n".join([f"seed {seed}", *figures.lines()])
    assert figures.findings == [], told
    assert figures.rounds == ROUNDS
    assert figures.rows > 0
    assert any(way.startswith("tokens") for way in figures.how), told
    assert all(figures.fell_back), told

"""A short fault loop, and that the loop notices what it is there for."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom

from ksql_lake_tests.faultloop.run import FaultLoop

ROUNDS = 10


def test_a_short_loop_finds_nothing(tmp_path: Path) -> None:
    """Nothing lost, doubled, uncommitted or short; most rounds land something; all comes back."""
    seed = SystemRandom().randrange(1 << 30)

    figures = FaultLoop(tmp_path, rounds=ROUNDS, seed=seed).execute()

    told = "\n".join([f"seed {seed}", *figures.lines()])
    assert figures.findings == [], told
    assert figures.rounds == ROUNDS
    assert figures.landed >= 0.8 * ROUNDS, told
    assert figures.versions > 0
    assert figures.rows > 0

"""A short run of the oracle, with new lakes each time; `python -m ksql_lake_tests.judges` is the long one."""

from __future__ import annotations

import secrets

from ksql_lake_tests.judges.lakes import FAULTS
from ksql_lake_tests.judges.run import judged


def test_judges_call_what_was_planted_and_nothing_else() -> None:
    """One lake of each fault is called by every judge that promises to see it, and sound ones by none."""
    seed = secrets.randbelow(1_000_000)
    print(f"python -m ksql_lake_tests.judges --lakes {len(FAULTS)} --seed {seed}")  # noqa: T201 - repeats this run

    figures = judged(len(FAULTS), seed)

    assert figures.wrong == [], f"seed {seed}"
    assert set(figures.faulty) == set(FAULTS)

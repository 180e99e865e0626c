"""One run of the oracle: so many lakes with a fault each, as many sound ones, and what the judges got wrong."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ksql_lake_tests.judges.judging import verdict
from ksql_lake_tests.judges.lakes import FAULTS, subject


@dataclass
class Figures:
    """What a run came to.

    Attributes:
        faulty: Kind of fault -> lakes judged.
        sound: Sound lakes judged.
        wrong: What a judge got wrong, with the lake's number.
    """

    faulty: Counter[str] = field(default_factory=Counter)
    sound: int = 0
    wrong: list[str] = field(default_factory=list)


def judged(lakes: int, seed: int) -> Figures:
    """Judge so many lakes with a fault, and as many sound ones; the seed gives the same lakes again."""
    figures, kinds = Figures(), list(FAULTS)
    for number in range(2 * lakes):
        fault = kinds[number // 2 % len(kinds)] if number % 2 else ""
        with (
            tempfile.TemporaryDirectory() as root,
            subject(Random(f"{seed}/{number}"), Path(root), fault) as made,
        ):
            figures.wrong += [f"lake {number} of seed {seed}: {wrong}" for wrong in verdict(made)]
        figures.sound += not fault
        figures.faulty.update([fault] if fault else [])
    return figures

"""What the nursery's children do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ksql_lake_tests.lake.crashing.guards import GUARDS
from ksql_lake_tests.lake.crashing.outages import cut_power
from ksql_lake_tests.lake.crashing.run import Options, Run
from ksql_lake_tests.lake.crashing.scenes import play


def run_without(guard: str, *, kills: int, seconds: float) -> dict[str, list[str]]:
    """Run the harness with a guard taken out until something is found, and give the findings."""
    points = GUARDS[guard].points
    options = Options(kills=kills, seconds=seconds, until_found=True, points=points)
    with tempfile.TemporaryDirectory(prefix="ksql-lake-crashing-") as folder:
        return Run(Path(folder), options, opening=GUARDS[guard].opening).execute().findings


TASKS: dict[str, Callable[..., Any]] = {"run_without": run_without, "play": play, "cut_power": cut_power}

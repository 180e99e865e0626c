"""`python -m ksql_lake.orchestration.job_series RUNS`: several runs, one after the other, in one process.

RUNS is a JSON list of `{"job": name, "tags": {...}}`.
"""

# Loading Dagster and the definitions takes longer than the demo's exports, so the demo does it once. The runs
# are recorded in the instance of DAGSTER_HOME like any others.

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ksql_lake.orchestration.project import build_definitions
from ksql_lake.settings import load_settings


def run_jobs(
    runs: Sequence[Mapping[str, Any]], definitions: dg.Definitions, instance: dg.DagsterInstance
) -> int:
    """Run jobs one after the other, also after a failure; return how many failed.

    Args:
        runs: Each with its `job` and optional `tags`.
        definitions: The definitions with the jobs.
        instance: The instance that records the runs.
    """
    failed = 0
    for run in runs:
        job = definitions.resolve_job_def(run["job"])
        done = job.execute_in_process(instance=instance, tags=run.get("tags"), raise_on_error=False)
        failed += not done.success
    return failed


def main(text: str) -> int:
    """Run the jobs of a JSON list and return the exit code."""
    with dg.DagsterInstance.get() as instance:
        return min(1, run_jobs(json.loads(text), build_definitions(load_settings()), instance))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

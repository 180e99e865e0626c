"""Which runs go first when more wait than may run, and how to find them: tags of our jobs.

Dagster starts the run with the highest priority first. What Kafka deletes comes before what stays, and both
before what can be done at any time. Whatever somebody launches by hand has priority 0 and a backfill too, so
neither holds up what is due; every launch dialog takes another `dagster/priority`.
"""

from typing import Literal

PRIORITY = "dagster/priority"
WORK = "ksql_lake/work"

Work = Literal["streams", "tables", "automation", "certify", "upkeep"]

_PRIORITIES: dict[Work, int] = {"streams": 20, "tables": 10, "automation": 10, "certify": -10, "upkeep": -20}


def run_tags(work: Work) -> dict[str, str]:
    """Give the tags of a job that does this kind of work."""
    return {PRIORITY: str(_PRIORITIES[work]), WORK: work}

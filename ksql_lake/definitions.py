"""What workspace.yaml loads: the feeds folder as Dagster definitions."""

import dagster as dg

from ksql_lake.orchestration import build_definitions
from ksql_lake.settings import load_settings


@dg.definitions
def ksql_lake() -> dg.Definitions:
    """Read the environment and the feed files anew, each time the code location is loaded."""
    return build_definitions(load_settings())

"""The module that workspace.yaml loads: the feeds folder as Dagster definitions."""

import dagster as dg

from ksql_lake.orchestration import definitions_of
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import load_settings


@dg.definitions
def ksql_lake() -> dg.Definitions:
    """Read the environment and the feed files when the code location is loaded, once per process."""
    return definitions_of(Scope(load_settings(), whole_location=True))

"""The Dagster edge: feeds become assets, the lake an IO manager.

It refuses to know how a row is read or landed: that is `ksql_lake.export`, which the shell calls as well.
"""

from ksql_lake.orchestration.project import build_definitions, build_feed_assets, definitions_of

__all__ = ["build_definitions", "build_feed_assets", "definitions_of"]

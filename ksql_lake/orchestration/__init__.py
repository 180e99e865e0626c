"""The Dagster edge: feeds become assets, the lake an IO manager."""

from ksql_lake.orchestration.project import build_definitions, build_feed_assets, definitions_of

__all__ = ["build_definitions", "build_feed_assets", "definitions_of"]

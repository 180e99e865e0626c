"""The Dagster definitions: feeds are assets, the lake is an IO manager."""

from ksql_lake.orchestration.project import build_definitions, build_feed_assets, definitions_of

__all__ = ["build_definitions", "build_feed_assets", "definitions_of"]

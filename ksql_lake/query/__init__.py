"""The lake as tables to ask: a DuckDB connection with one view per feed."""

from __future__ import annotations

from ksql_lake.query.connection import connect
from ksql_lake.query.page import description, partition_page
from ksql_lake.query.view import View
from ksql_lake.query.views import lake_views

__all__ = ["View", "connect", "description", "lake_views", "partition_page"]

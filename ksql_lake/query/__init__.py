"""Read the lake: SQL views, frames for Python, pages for people, and changes of tables."""

from __future__ import annotations

from ksql_lake.query.frames import read_stream, read_table
from ksql_lake.query.increments import Changes, changes_since
from ksql_lake.query.page import description, partition_page
from ksql_lake.query.sql.connection import connect
from ksql_lake.query.sql.views import View, lake_views
from ksql_lake.query.table_diff import TableDiff, diff

__all__ = [
    "Changes",
    "TableDiff",
    "View",
    "changes_since",
    "connect",
    "description",
    "diff",
    "lake_views",
    "partition_page",
    "read_stream",
    "read_table",
]

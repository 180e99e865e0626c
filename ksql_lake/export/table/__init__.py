"""Reading whole tables by pull query, with evidence that they are whole."""

from ksql_lake.export.table.table_reading import TableAnswer, TableQuery, read_table

__all__ = ["TableAnswer", "TableQuery", "read_table"]

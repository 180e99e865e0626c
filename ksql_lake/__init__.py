"""ksql-lake: ksqlDB streams and tables as a plain Parquet lake, exactly once.

The public names load on first use, so that `import ksql_lake` costs nothing.
"""

"""ksqlDB's SQL: statements read from text, planned, and written as DuckDB queries."""

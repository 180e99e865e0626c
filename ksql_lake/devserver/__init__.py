"""The embedded stand-in for a ksqlDB server, for demos, tests and users' CI: real HTTP in its own process."""

# No Kafka is involved: DuckDB runs the SELECTs. Importing this package imports nothing else.

"""The embedded stand-in for a ksqlDB server, for demos, tests and users' CI: real HTTP in its own process."""

# There is no Kafka behind it: SELECTs run in DuckDB. Importing this package imports nothing else.

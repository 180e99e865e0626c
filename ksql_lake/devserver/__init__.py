"""The embedded stand-in for a ksqlDB server: real HTTP, real framing, its own process.

It serves demos, tests and users' CI. It is not ksqlDB: there is no Kafka behind it, SELECTs run in DuckDB,
and of ksqlDB's language it knows what an exporter needs (sources, plain projections, simple aggregates).
Importing this package imports nothing else; `process.DevServer` starts a server, `server.serve` is one.
"""

"""The embedded stand-in for a ksqlDB server: real HTTP, real framing, its own process.

It serves demos, tests and users' CI. It is not ksqlDB: there is no Kafka behind it, SELECTs run in DuckDB,
and of ksqlDB's language it knows what an exporter needs (sources, plain projections, simple aggregates). Each
source has rows of its own, so two sources over one topic share nothing.
Importing this package imports nothing else; `process.DevServer` starts a server, `server.serve` is one.
"""

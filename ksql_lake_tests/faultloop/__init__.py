"""A fault loop: two nodes are killed, stopped, paused and started and switches flip while the product exports.

`python -m ksql_lake_tests.faultloop --rounds 300 --seed S` runs it and prints its figures.
"""

"""Judges against an oracle: random lakes with one planted fault each, and sound ones.

`python -m ksql_lake_tests.judges --lakes 300 --seed 1` runs it and prints its figures.
"""

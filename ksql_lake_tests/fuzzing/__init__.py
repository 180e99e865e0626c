"""Hostile input by the ten thousand: mutated bytes into every reader of bytes, and nothing but our errors out.

`python -m ksql_lake_tests.fuzzing --examples N --seed S` runs every target and prints what it found.
"""

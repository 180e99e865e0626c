"""A soak: producers, exporters that are killed, upkeep and readers on one lake, for minutes or hours.

`python -m ksql_lake_tests.soak --minutes M --seed S` runs it and prints its figures.
"""

"""A fault loop for streams that are read on from tokens: client, server, topics and marks are hit at random.

`python -m ksql_lake_tests.tokenloop --rounds 300 --seed S` runs it and prints its figures.
"""

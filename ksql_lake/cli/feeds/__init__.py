"""The commands of `ksql-lake feeds`: each reads or changes feed files."""

"""The commands below `ksql-lake feeds`: each looks at feed files or changes them."""

"""The crash harness: processes that write to one lake, are killed anywhere, and are judged afterwards.

    python -m ksql_lake_tests.lake.crashing --kills 300 --seed 7

Three writers export, merge and remove without rest; a reader that knows nothing of manifests globs and reads;
the parent kills, stops and continues them. It ends the processes that it started, and touches no others.
"""

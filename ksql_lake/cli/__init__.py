"""The command line: arguments in, exit code out; a mistake is answered with a paragraph, never a traceback.

Exit codes: 0 done; 1 at least one feed failed; 2 usage or configuration; 130 interrupted.
"""

from ksql_lake.cli.entry import main

__all__ = ["main"]

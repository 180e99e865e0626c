"""The command line: arguments in, exit code out; a mistake is answered with a paragraph, never a traceback.

Exit codes: 0 done; 1 at least one feed or check failed; 2 usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import os

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave the process; Ctrl-C ends it with 130 while it still starts, too."""
    try:
        from ksql_lake.cli.entry import main as enter  # noqa: PLC0415 - what takes time is inside

        enter()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)

"""The command line. It turns arguments into an exit code and every error into a short text."""

from __future__ import annotations

import os

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process; Ctrl-C ends it with 130, also while it starts."""
    try:
        from ksql_lake.cli.entry import main as enter  # noqa: PLC0415 - what takes time is inside

        enter()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)

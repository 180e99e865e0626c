"""How much a command prints besides its results: notes, only problems (-q), or each step (-v).

It also records whether a JSON document was begun, so that an error does not write a second one after it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Loudness:
    quiet = False
    document = False


class _Steps(logging.Handler):
    """Writes each step of a command; other handlers write warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.levelno < logging.WARNING:
            sys.stderr.write(f"{record.levelname.lower()}: {record.getMessage()}\n")


def quiet() -> bool:
    """Return whether notes and progress are suppressed."""
    return _Loudness.quiet


def document_begun() -> bool:
    """Return whether a JSON document went to stdout already."""
    return _Loudness.document


def begin_document() -> None:
    """Record that a JSON document goes to stdout, so that no second one follows it."""
    _Loudness.document = True


@contextmanager
def loudness(*, keep_quiet: bool, verbose: bool) -> Iterator[None]:
    """Print as much as the command line asks for, within the block."""
    log, handler = logging.getLogger("ksql_lake"), _Steps(logging.INFO)
    level = log.level
    _Loudness.quiet, _Loudness.document = keep_quiet, False
    if verbose:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _Loudness.quiet = False
        log.removeHandler(handler)
        log.setLevel(level)

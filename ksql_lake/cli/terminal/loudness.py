"""How much a command says besides its results: as usual, only what is wrong (-q), or each step (-v).

And whether it has begun to write a JSON document, so that an error does not write a second one behind it.
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
    """Writes what happens on the way; warnings have their own ways to a person."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.levelno < logging.WARNING:
            sys.stderr.write(f"{record.levelname.lower()}: {record.getMessage()}\n")


def quiet() -> bool:
    """Tell whether remarks and progress are kept back."""
    return _Loudness.quiet


def document_begun() -> bool:
    """Tell whether a JSON document went to stdout already."""
    return _Loudness.document


def begin_document() -> None:
    """Note that a JSON document goes to stdout, so that no second one follows it."""
    _Loudness.document = True


@contextmanager
def loudness(*, keep_quiet: bool, verbose: bool) -> Iterator[None]:
    """Say as much as the command line asks for while it lasts."""
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

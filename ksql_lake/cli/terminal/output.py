"""Print results on stdout, and notes and errors on stderr.

A terminal gets tables, a pipe gets aligned text without colours, a program gets JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ksql_lake.cli.terminal.journal import ALWAYS_TOLD, journal
from ksql_lake.cli.terminal.loudness import begin_document, quiet
from ksql_lake.errors import KsqlLakeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ksql_lake.cli.terminal.tables import Cells

# A short command whose table goes into a pipe is done before rich would be imported: functions import it.

_STYLES = {
    "active": "green",
    "healthy": "green",
    "broken": "bold red",
    "failed": "bold red",
    "failing": "bold red",
    "stale": "red",
    "incomplete": "yellow",
    "never ran": "yellow",
    "empty": "yellow",
    "disabled": "yellow",
    "archived": "dim",
}


def error_console() -> Console:
    """Return the console of stderr: colours and wrapping on a terminal, plain long lines elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def note(text: str, *, label: str = "note") -> None:
    """Write a note to stderr; with -q only warnings."""
    if quiet() and label != "warning":
        return
    if (log := journal()) is not None:
        log.warning(text)
        return
    from rich.text import Text  # noqa: PLC0415 - see above

    error_console().print(Text.assemble((f"{label}:", "yellow"), f" {text}"))


def line_width() -> int:
    """Return the width of texts in characters: the terminal's, at most 120; 80 without a terminal."""
    if not sys.stdout.isatty():
        return 80
    from rich.console import Console  # noqa: PLC0415 - see above

    return min(Console().width, 120)


def waiting(text: str) -> AbstractContextManager[object]:
    """Show on a terminal what the command waits for; the line disappears afterwards."""
    return error_console().status(text) if sys.stderr.isatty() and not quiet() else nullcontext()


class _NoteHandler(logging.Handler):
    """Writes warnings (another attempt, a lock that another process holds) as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless the handler of all commands writes it."""
        if record.name in ALWAYS_TOLD:
            return
        error_console().print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False)


@contextmanager
def notes_from_log() -> Iterator[None]:
    """Show ksql-lake's warnings as notes within the block, unless they are written as JSON lines."""
    if journal() is not None:
        yield
        return
    log, handler = logging.getLogger("ksql_lake"), _NoteHandler(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def print_line(*parts: str | tuple[str, str], err: bool = False) -> None:
    """Write a line to stdout, or to stderr; a part may be a text with its style."""
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    Console(stderr=err, highlight=False, soft_wrap=True).print(Text.assemble(*parts))


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    begin_document()
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    flexible: Collection[str] = (),
) -> None:
    """Write a table to stdout; on a terminal that is too narrow, each row becomes a few lines.

    Args:
        headers: Column titles; a line break in one is used on terminals.
        rows: Cells as text; the first names the row.
        right: Titles of the columns that align right, as numbers do.
        flexible: Titles of the columns that may become narrower than their text.
    """
    if not sys.stdout.isatty():
        titles = [" ".join(header.split()).upper() for header in headers]
        right_at = {at for at, header in enumerate(headers) if header in right}
        for line in plain_lines([titles, *rows], right_at=right_at):
            click.echo(line)
        return
    from rich.console import Console  # noqa: PLC0415 - see above

    from ksql_lake.cli.terminal.tables import Cells, record_lines, table_lines  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    numbers, narrow = (
        {at for at, header in enumerate(headers) if header in titles} for titles in (right, flexible)
    )
    cells = Cells(headers, rows, numbers, narrow, _STYLES)
    lines = table_lines(cells, console.width)
    print_lines(record_lines(cells, console.width) if lines is None else lines, console)


def print_answer(cells: Cells) -> list[str]:
    """Write rows to a terminal, and return the names of the middle columns that did not fit."""
    from rich.console import Console  # noqa: PLC0415 - see above

    from ksql_lake.cli.terminal.tables import record_lines, shortened_lines, table_lines  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    lines, left_out = table_lines(cells, console.width), list[str]()
    if lines is None:
        shortened = shortened_lines(cells, console.width)
        lines, left_out = shortened or (record_lines(cells, console.width, numbered=True), [])
    print_lines(lines, console)
    return left_out


def print_lines(lines: Sequence[Text], console: Console) -> None:
    """Write lines laid out for a console; a line that is too long is not wrapped."""
    for line in lines:
        console.print(line, soft_wrap=True)


def plain_lines(rows: Sequence[Sequence[str]], *, right_at: Collection[int] = ()) -> list[str]:
    """Align cells into lines, two spaces apart, without trailing blanks."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if at in right_at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"not JSON: {type(value).__name__}")


@contextmanager
def never_failing(done: str) -> Iterator[None]:
    """Turn every error within the block into a warning.

    Args:
        done: What was done before, e.g. `the exports landed`.
    """
    try:
        yield
    except KsqlLakeError as error:
        note(str(error), label="warning")
    except Exception as error:  # noqa: BLE001 - Dagster's error does not undo what was done
        message = " ".join(str(error).split())
        note(f"{done}, but updating Dagster failed: {type(error).__name__}: {message}", label="warning")

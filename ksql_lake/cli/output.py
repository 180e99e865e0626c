"""What people and scripts see: tables for a terminal, aligned text in a pipe, JSON on request.

Results go to stdout, everything about them to stderr. In a pipe nothing is ever cut off or coloured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def error_console() -> Console:
    """Give the console of stderr: colours and wrapping on a terminal, plain long lines elsewhere."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def note(text: str, *, label: str = "note") -> None:
    """Write a remark to stderr."""
    console = error_console()
    console.print(Text.assemble((f"{label}:", "yellow"), f" {text}"))


def waiting(text: str) -> AbstractContextManager[object]:
    """Show on a terminal what is being waited for; the line goes away afterwards."""
    return error_console().status(text) if sys.stderr.isatty() else nullcontext()


def print_json(value: object) -> None:
    """Write one JSON document to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
    """Write a table to stdout.

    Args:
        headers: Column titles.
        rows: Cells as text.
        right: Titles of the columns that align right, as numbers do.
    """
    if not sys.stdout.isatty():
        for line in plain_lines(
            [[header.upper() for header in headers], *rows], right_at=_places(headers, right)
        ):
            click.echo(line)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


_STYLES = {
    "active": "green",
    "broken": "bold red",
    "failed": "bold red",
    "disabled": "yellow",
    "archived": "dim",
}


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


def count_of(number: int, noun: str) -> str:
    """Give `1 feed`, `2 feeds`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size: float) -> str:
    """Give a size in the unit that reads best, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _places(headers: Sequence[str], chosen: Collection[str]) -> set[int]:
    return {at for at, header in enumerate(headers) if header in chosen}


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"not JSON: {type(value).__name__}")

"""Tables of the command line, read back from what a terminal of some width shows, by their titles alone."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence

import pytest

from ksql_lake.cli.entry import run
from ksql_lake_tests.cli.test_output import without_styles


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str) -> str:
    """What a command writes to a terminal of some width; it runs in this process."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    with contextlib.redirect_stdout(out):
        run(arguments)
    return without_styles(out.getvalue())


def bare(text: str) -> str:
    """A text without any blank: where a long one was broken does not matter."""
    return "".join(text.split())


def read_back(shown: str, titles: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table, or of records, each cell without blanks.

    Args:
        shown: What the terminal shows of it, and nothing else.
        titles: Its titles, those of the pipe: only letters and digits count.
    """
    lines = [line.rstrip() for line in shown.splitlines()]
    wanted = [bare(title).upper() for title in titles]
    for heads in (1, 2):
        spans = _spans(lines)
        heading = [bare("".join(line[slice(*span)] for line in lines[:heads])).upper() for span in spans]
        if heading == wanted:
            return _rows(lines[heads:], spans)
    return _records(lines, wanted)


def _spans(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Where the columns are: between runs of two and more places that are blank in every line."""
    width = max(map(len, lines))
    used = "".join("x" if any(line[at : at + 1].strip() for line in lines) else " " for at in range(width))
    return [found.span() for found in re.finditer(r"x( ?x)*", used)]


def _rows(lines: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[list[str]]:
    apart = bool(lines) and not lines[0]
    groups = "\n".join(lines[1:]).split("\n\n") if apart else list(lines)
    return [
        [bare("".join(line[slice(*span)] for line in group.splitlines())) for span in spans] for group in groups
    ]


def _records(lines: Sequence[str], wanted: Sequence[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    inside = True
    for line in lines:
        if not line.startswith("  "):
            if inside:
                rows.append([""])
            rows[-1][0] += bare(line)
            inside = False
            continue
        inside = True
        following = wanted[len(rows[-1])] if len(rows[-1]) < len(wanted) else None
        if not line.startswith("   ") and following is not None and bare(line).upper().startswith(following):
            rows[-1].append(bare(line)[len(following) :])
        else:
            rows[-1][-1] += bare(line)
    return rows

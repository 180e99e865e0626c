"""Tables in pipes and on terminals, sizes, JSON."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from ksql_lake.cli.terminal.output import plain_lines
from ksql_lake.quantities import count_text, size_text
from ksql_lake_tests.cli.conftest import COMMAND, STREAM, TABLE, Project


def on_a_terminal(project: Project, *arguments: str, **environment: str) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=project.root,
        env=project.environment(**environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux answers EIO once the other side is closed.
            break
        if not data:
            break
        seen += data
    os.close(ours)
    process.wait()
    return seen.decode().replace("\r\n", "\n")


def without_styles(text: str) -> str:
    """The same text without colours, bold and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_plain_lines_align_and_cut_nothing() -> None:
    """In a pipe every cell is whole, numbers align right, and no line ends in blanks."""
    lines = plain_lines([["NAME", "ROWS", ""], ["a" * 90, "7", ""], ["b", "12345", "x"]], right_at={1})

    assert lines == [
        "NAME" + " " * 86 + "   ROWS",
        "a" * 90 + "      7",
        "b" + " " * 89 + "  12345  x",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (5e9, "5.0 GB"),
        (7.1e15, "7100.0 TB"),
    ],
)
def test_sizes_read_well(size: float, text: str) -> None:
    """Sizes come in the unit that keeps the number short."""
    assert size_text(size) == text


def test_counts_know_the_plural() -> None:
    """One feed, two feeds."""
    assert (count_text(1, "feed"), count_text(2000, "feed")) == ("1 feed", "2,000 feeds")


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_on_a_terminal_the_list_fits_its_width(project: Project, columns: int) -> None:
    """However narrow the terminal, no line is longer, and no name is cut: long ones fold."""
    name = "a_rather_long_feed_name_for_card_transactions"
    project.feed(
        {**STREAM, "name": name, "source": "CARD_TRANSACTIONS_ENRICHED_V2", "schedule": "*/15 * * * *"}
    )
    project.feed({**TABLE, "enabled": False})

    seen = without_styles(on_a_terminal(project, "feeds", "list", COLUMNS=str(columns)))

    assert max(len(line) for line in seen.splitlines()) <= columns
    assert "disabled" in seen if columns >= 60 else True
    first_column = "".join(line.split()[0] for line in seen.splitlines() if line.strip())
    assert name in first_column


def test_no_color_is_respected(project: Project) -> None:
    """With NO_COLOR a terminal gets no colour codes; without it the state is coloured."""
    project.feed(TABLE)

    plain = on_a_terminal(project, "feeds", "list", NO_COLOR="1")
    coloured = on_a_terminal(project, "feeds", "list")

    assert "\x1b[3" not in plain
    assert "\x1b[32mactive" in coloured


def test_in_a_pipe_there_is_plain_text(project: Project) -> None:
    """Neither boxes nor colours nor folding reach a pipe, whatever COLUMNS says."""
    name = "a" * 70
    project.feed({**TABLE, "name": name})

    said = project.process("feeds", "list", COLUMNS="20")

    assert said.out.splitlines() == [
        "NAME" + " " * 66 + "  KIND   SOURCE  ON   SCHEDULE              STATE",
        name + "  table  TOTALS  yes  30 1 * * * (default)  active",
    ]


def test_long_errors_wrap_on_a_terminal_only(project: Project) -> None:
    """An error paragraph is one line for a log file and wraps at words on a terminal."""
    arguments = ("feeds", "show", "a_name_that_nobody_has_given_to_any_feed_in_this_folder")

    piped = project.process(*arguments, COLUMNS="40")
    seen = without_styles(on_a_terminal(project, *arguments, COLUMNS="40"))

    assert piped.err.count("\n") == 2
    assert max(map(len, seen.splitlines())) <= 40
    assert seen.startswith("error: there is no feed named")

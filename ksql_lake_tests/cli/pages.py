"""The commands of a page of `docs/`, to be typed by a test, and the lines that they are said to print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^(#+ .*?)$|```console\n(.*?)```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as it stands on the page.

    Attributes:
        heading: The heading above it.
        arguments: The words after `ksql-lake`.
        lines: What it prints, `...` standing for anything; not all of it has to be there.
    """

    heading: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]

    def missing(self, printed: str) -> list[str]:
        """The lines that were not printed."""
        return [line for line in self.lines if not re.search(_pattern(line), printed, re.MULTILINE)]


def commands(page: str) -> Iterator[Typed]:
    """The commands of a page's `console` blocks, in order.

    Args:
        page: Its file's name below `docs/`.
    """
    heading = ""
    for match in _BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        if match.group(1):
            heading = match.group(1).lstrip("# ")
            continue
        for part in re.split(r"^\$ ", match.group(2), flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            program, *arguments = shlex.split(command, comments=True)
            assert program == "ksql-lake", command
            yield Typed(heading, tuple(arguments), tuple(line for line in lines if line.strip()))


def _pattern(line: str) -> str:
    # Columns of a table are as wide as what stands in them.
    words = [".*".join(map(re.escape, word.split("..."))) for word in line.split()]
    return r"^\s*" + r"\s+".join(words) + r"\s*$"

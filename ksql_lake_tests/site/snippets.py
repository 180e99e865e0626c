"""The snippets of README and docs: where they stand, what they are, and which of them run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
RUNNABLE = ("console", "python", "sh", "sql")
SHOWN = ("json", "text", "yaml")
"""What no one types: files, output. A page may still say that a block is a file to be written."""

_WHOLE = re.MULTILINE | re.DOTALL
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|file|serves): (?P<what>.*?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """A fenced block.

    Attributes:
        page: Its page, relative to the repository.
        line: Where it begins.
        language: The word behind the fence.
        code: What is in it.
        mark: The comment above it: `not run`, `file` (it is the content of that file), `serves` (it runs until
            it is ended, and answers at that address), or empty.
        what: The reason, the file or the address.
    """

    page: str
    line: int
    language: str
    code: str
    mark: str
    what: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: Path) -> Iterator[Snippet]:
    """The blocks of a page in order, generated parts left out."""
    text = page.read_text(encoding="utf-8")
    text = _GENERATED.sub(lambda part: "\n" * part[0].count("\n"), text)
    for found in _BLOCK.finditer(text):
        yield Snippet(
            page.relative_to(ROOT).as_posix(),
            text[: found.start()].count("\n") + 1,
            found["language"],
            found["code"],
            found["mark"] or "",
            found["what"] or "",
        )


def indented_blocks(page: Path) -> list[str]:
    """First lines of blocks that only their indentation marks."""
    text = re.sub(r"^```.*?^```$|^<div.*?^</div>$", "", page.read_text(encoding="utf-8"), flags=_WHOLE)
    return re.findall(r"\n\n {4}(?! *[-*\d|])(\S.*)", text)


@dataclass(frozen=True, slots=True)
class Command:
    """A line of a `console` block, with what it prints.

    Attributes:
        text: What is typed.
        lines: What is printed, `...` standing for anything; not all of it has to be there.
    """

    text: str
    lines: tuple[str, ...]

    def missing(self, printed: str) -> list[str]:
        """The lines that were not printed."""
        return [line for line in self.lines if not re.search(_pattern(line), printed, re.MULTILINE)]


def commands(snippet: Snippet) -> Iterator[Command]:
    """The commands of a `console` block; a line may go on after a line's end inside quotes."""
    for part in re.split(r"^\$ ", snippet.code, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        while command.count('"') % 2 and lines:
            command += "\n" + lines.pop(0)
        yield Command(command, tuple(line for line in lines if line.strip(". ")))


def _pattern(line: str) -> str:
    # Columns of a table are as wide as what stands in them.
    words = [".*".join(map(re.escape, word.split("..."))) for word in line.split()]
    return r"^\s*" + r"\s+".join(words).replace(r"\s+.*", ".*") + r"\s*$"

"""Escape foreign texts for Markdown, so that none becomes an image, a link or the end of a block. Pure."""

from __future__ import annotations

import re

_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|~:.@$-]|^>")


def plain(text: object) -> str:
    """Return a text on one line in which every character is literal; addresses are no links either."""
    line = " ".join(str(text).split())
    marked = _MARKUP.sub(lambda found: f"\\{found.group()}", line)
    return marked.replace("&", "&amp;").replace("<", "&lt;")


def code(text: str) -> str:
    """Return a code span with a text on one line, which may hold back-quotes."""
    line = " ".join(text.split()) or " "
    fence = "`" * (_longest(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def block(text: str, language: str = "") -> str:
    """Return a fenced block of code that a text cannot end."""
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _longest(text: str) -> int:
    """Return the most back-quotes in a row."""
    return max((len(run) for run in re.findall("`+", text)), default=0)

"""Lay out tables for a terminal's width, or one record per row where a table does not fit.

It cuts no number; long texts fold. It leaves out a column only on request, and then names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = 2
"""Blanks between columns; text within a cell mostly has single blanks."""
_LEAST = 16
"""Flexible columns become no narrower than this, in characters, so that they stay readable."""
_ELLIPSIS = "…"
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Cells:
    """The content of a table.

    Attributes:
        headers: Column titles; a line break in one is used in tables.
        rows: Cells as text.
        right: Positions of the columns that align right, as numbers do; their cells are never broken.
        flexible: Positions of the columns that may become narrower than their text.
        styles: Text of a cell -> its style.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()
    flexible: Collection[int] = ()
    styles: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The titles on one line each."""
        return [header.replace("\n", " ") for header in self.headers]

    def widths(self) -> list[int]:
        """The width of each column without folding."""
        return [
            max(map(cell_len, (*header.split("\n"), *(row[at] for row in self.rows))))
            for at, header in enumerate(self.headers)
        ]


def table_lines(cells: Cells, width: int) -> list[Text] | None:
    """Return the lines of a table of all columns; None if it does not fit."""
    widths = _fitting(cells, list(range(len(cells.headers))), width)
    return None if widths is None else list(_table(cells, dict(enumerate(widths)), gap_at=None))


def shortened_lines(cells: Cells, width: int) -> tuple[list[Text], list[str]] | None:
    """Return the lines of a table of the outer columns, and the names of the middle columns left out.

    Returns None if not even the first and the last column fit.
    """
    total = len(cells.headers)
    for shown in range(total - 1, 1, -1):
        left = (shown + 1) // 2
        places = [*range(left), *range(total - (shown - left), total)]
        widths = _fitting(cells, places, width - GAP - len(_ELLIPSIS))
        if widths is not None:
            lines = _table(cells, dict(zip(places, widths, strict=True)), gap_at=left)
            return list(lines), cells.names[left : total - (shown - left)]
    return None


def record_lines(cells: Cells, width: int, *, numbered: bool = False) -> list[Text]:
    """Return a few lines per row: its first cell or its number, and below it the other columns by name."""
    names = cells.names
    lines: list[Text] = []
    for number, row in enumerate(cells.rows, start=1):
        head = f"row {number}" if numbered else row[0]
        lines += [Text(line, style="bold") for line in _folded(head, width)]
        listed = range(0 if numbered else 1, len(names))
        longest = max((cell_len(names[at]) for at in listed), default=0)
        for at in listed:
            lines += _entry(names[at], row[at], cells, longest=longest, at=at, width=width)
    return lines


def _fitting(cells: Cells, places: Sequence[int], width: int) -> list[int] | None:
    """Return the widths at which these columns fit, the flexible ones narrower; None if they do not."""
    natural = cells.widths()
    room = width - GAP * (len(places) - 1)
    found = {
        at: min(natural[at], max(_LEAST, *map(cell_len, cells.headers[at].split("\n"))))
        if at in cells.flexible
        else natural[at]
        for at in places
    }
    spare = room - sum(found.values())
    if spare < 0:
        return None
    for at in sorted(places, key=lambda at: natural[at] - found[at]):
        more = min(spare, natural[at] - found[at])
        found[at] += more
        spare -= more
    return [found[at] for at in places]


def _table(cells: Cells, widths: Mapping[int, int], *, gap_at: int | None) -> Iterator[Text]:
    heads = {at: cells.headers[at].split("\n") for at in widths}
    for line in range(max(map(len, heads.values()))):
        titles = {at: head[line] if line < len(head) else "" for at, head in heads.items()}
        yield _line(titles, cells, widths, gap_at=gap_at, style="bold")
    folded = [
        {at: _folded(row[at], width) if at in cells.flexible else [row[at]] for at, width in widths.items()}
        for row in cells.rows
    ]
    apart = any(len(lines) > 1 for row in folded for lines in row.values())
    for row, parts in zip(cells.rows, folded, strict=True):
        if apart:
            yield Text()
        styles = {at: cells.styles.get(row[at], "") for at in widths}
        for line in range(max(map(len, parts.values()))):
            texts = {at: lines[line] if line < len(lines) else "" for at, lines in parts.items()}
            mark = " " if line else _ELLIPSIS
            yield _line(texts, cells, widths, gap_at=gap_at, mark=mark, styles=styles)


def _line(  # noqa: PLR0913 - the parts of a line
    texts: Mapping[int, str],
    cells: Cells,
    widths: Mapping[int, int],
    *,
    gap_at: int | None,
    mark: str = _ELLIPSIS,
    style: str = "",
    styles: Mapping[int, str] | None = None,
) -> Text:
    line = Text(style=style)
    for place, (at, text) in enumerate(texts.items()):
        if place:
            line.append(" " * GAP)
        if place == gap_at:
            line.append(mark + " " * GAP)
        blanks = " " * (widths[at] - cell_len(text))
        if at in cells.right:
            line.append(blanks)
        line.append(text, style=(styles or {}).get(at, ""))
        if at not in cells.right:
            line.append(blanks)
    line.rstrip()
    return line


def _entry(name: str, value: str, cells: Cells, *, longest: int, at: int, width: int) -> Iterator[Text]:
    style = cells.styles.get(value, "")
    beside = width - _INDENT - longest - GAP
    whole = cell_len(value)
    if whole <= beside or (at not in cells.right and beside >= _LEAST):
        lines = [value] if at in cells.right else _folded(value, beside)
        for number, line in enumerate(lines):
            label = name if number == 0 else ""
            blanks = " " * (longest + GAP - cell_len(label))
            yield Text.assemble(" " * _INDENT, label, blanks, (line, style))
        return
    yield from (Text(" " * _INDENT + line) for line in _folded(name, width - _INDENT))
    room = width - 2 * _INDENT
    for line in [value] if at in cells.right else _folded(value, room):
        # A number wider than the terminal is not broken, so that every digit is shown.
        yield Text.assemble(" " * min(2 * _INDENT, max(0, width - cell_len(line))), (line, style))


def _folded(text: str, width: int) -> list[str]:
    """Break a text at words, and a word that is longer than a line within it."""
    if cell_len(text) <= width:
        return [text]
    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines]

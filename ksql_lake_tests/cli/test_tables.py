"""Tables on terminals of any width: whatever they hold can be read back from what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.cli.terminal.tables import Cells, record_lines, shortened_lines, table_lines
from ksql_lake_tests.cli.conftest import Cli, Orders, Project
from ksql_lake_tests.cli.reading_tables import bare, on_terminal, read_back
from ksql_lake_tests.quick import examples

WIDTHS = range(40, 161)

_WORDS = st.text("abcdefgxyz._/", min_size=1, max_size=30)
_TEXTS = st.lists(_WORDS, min_size=1, max_size=8).map(" ".join)
_NUMBERS = st.integers(-(10**30), 10**30).map(str) | st.decimals(-(10**9), 10**9, places=2).map(str)
_TITLES = st.text("ABCDEFG_", min_size=1, max_size=20)


@st.composite
def tables(draw: st.DrawFn) -> Cells:
    """A table of one to nine columns, some of numbers."""
    titles = draw(st.lists(_TITLES, min_size=1, max_size=9, unique=True))
    right = {at for at in range(1, len(titles)) if draw(st.booleans())}
    cells = [_NUMBERS if at in right else _TEXTS | st.just("NULL") for at in range(len(titles))]
    rows = draw(st.lists(st.tuples(*cells), min_size=1, max_size=5))
    return Cells(titles, rows, right, set(range(len(titles))) - right)


def _read(lines: list[str], titles: list[str]) -> list[list[str]]:
    return read_back("\n".join(lines), titles)


@settings(max_examples=examples(300), deadline=None)
@given(cells=tables(), width=st.sampled_from(WIDTHS))
def test_any_table_is_read_back_equal(cells: Cells, width: int) -> None:
    """As a table, without its middle columns, or as records: every cell that is shown is whole."""
    rows = [list(map(bare, row)) for row in cells.rows]
    numbers = {row[at] for row in cells.rows for at in cells.right}

    table = table_lines(cells, width)
    if table is not None:
        plain = [line.plain for line in table]
        assert all(len(line) <= width for line in plain)
        assert _read(plain, cells.names) == rows
        assert all(any(number in line for line in plain) for number in numbers)
    shortened = shortened_lines(cells, width)
    if shortened is not None:
        plain, left_out = [line.plain for line in shortened[0]], shortened[1]
        assert all(len(line) <= width for line in plain)
        first = cells.names.index(left_out[0])
        gone = range(first, first + len(left_out))
        assert cells.names[first : gone.stop] == left_out
        kept = [at for at in range(len(cells.names)) if at not in gone]
        shown = [cells.names[at] for at in kept]
        assert _read(plain, [*shown[:first], "…", *shown[first:]]) == [
            [*(row[at] for at in kept if at < first), "…", *(row[at] for at in kept if at > first)]
            for row in rows
        ]
    records = [line.plain for line in record_lines(cells, width, numbered=True)]
    assert [row[1:] for row in _read(records, ["", *cells.names])] == rows
    assert all(any(number in line for line in records) for number in numbers)


COMMANDS = {
    "feeds list": ["NAME", "KIND", "SOURCE", "ON", "SCHEDULE", "STATE"],
    "plan --all": ["FEED", "KIND", "READS", "WHY"],
    "retention --dry-run": ["TABLE", "STAYS", "GOES", "VERSIONS", "FILES", "SIZE"],
    "report --offline": ["FEED", "STATUS", "EVIDENCE", "CHECKS", "ROWS", "SIZE", "AGE", "MISSING", "LATE"],
    "register --format delta --all": ["FEED", "FORMAT", "FILES", "ROWS", "ADDED", "REMOVED", "LOCATION"],
    "alerts": ["CHANNEL", "WHERE"],
    "feeds discover": ["SOURCE", "KIND", "PROPOSED FEED", "EXTRACTION"],
}
"""Commands that print a table, with its titles in a pipe."""


def _piped(out: str, titles: list[str]) -> list[str]:
    """The lines of the table in a pipe."""
    lines = out.splitlines()
    first = next(at for at, line in enumerate(lines) if line.split("  ")[0].strip() == titles[0])
    rest = [*lines[first:], ""]
    return rest[: rest.index("")]


def test_every_table_of_the_product_is_read_back_equal(
    cli: Cli, sample: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command's table at 40, 46, ... 160 columns holds what it holds in a pipe."""
    sample.feed(
        {
            "name": "a_rather_long_feed_name_for_merchants",
            "kind": "table",
            "source": "MERCHANTS",
            "schedule": "*/15 * * * *",
            "enabled": False,
        }
    )
    for _ in range(2):
        assert cli("export", "--all").code == 0
    assert cli("register", "--format", "delta", "--all").code == 0
    for command, titles in COMMANDS.items():
        out = cli(*command.split()).out
        piped = _piped(out, titles)
        # A report says more than its table.
        above, below = (part.strip("\n") for part in out.split("\n".join(piped)))
        rows = read_back("\n".join(piped), titles)
        assert len(rows) >= 1, command
        for width in WIDTHS[::6]:
            shown = on_terminal(monkeypatch, width, *command.split())
            # Text above and below is wrapped to the width: its place and its first word identify it.
            shown = shown.partition("\n\n")[2] if above else shown
            shown = shown.partition(f"\n{below.split()[0]} ")[0] if below else shown
            found = read_back(shown.strip("\n"), titles)
            aging = titles.index("AGE") if "AGE" in titles else len(titles)
            for row, again in zip(rows, found, strict=True):
                assert again[:aging] + again[aging + 1 :] == row[:aging] + row[aging + 1 :], (command, width)


@pytest.mark.parametrize("width", [40, 57, 80, 100, 160])
def test_certificates_and_exports_are_read_back_equal(
    cli: Cli, orders: Orders, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """So do the tables of `export`, `certify` and `compact`, with whole checksums."""
    titles = ["FEED", "PARTITIONS", "READ", "NEW", "ALREADY THERE", "LATE", "SIZE", "SECONDS"]
    arguments = ("export", "--stream", "orders", "--from", "2025-01-06", "--to", "2025-01-07")

    shown = on_terminal(monkeypatch, width, *arguments).strip("\n")

    (row,) = read_back(shown, titles)
    assert row[:6] == ["orders", "2of2days", "48", "48", "0", "0"]
    assert orders.source
    titles = ["SIDE", "ROWS", "CHECKSUM"]
    piped = _piped(cli("certify", "orders", "2025-01-06").out, titles)
    shown = on_terminal(monkeypatch, width, "certify", "orders", "2025-01-06")
    assert read_back(shown.partition("\n\n")[2].strip("\n"), titles) == read_back("\n".join(piped), titles)
    orders.append(1, note="late")
    assert cli(*arguments).code == 0
    titles = ["FEED", "DAY", "FILES", "SIZE"]
    piped = _piped(cli("compact", "--all", "--dry-run").out, titles)
    shown = on_terminal(monkeypatch, width, "compact", "--all", "--dry-run").strip("\n")
    assert read_back(shown, titles) == read_back("\n".join(piped), titles)

"""The report on a terminal, as it is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ksql_lake.cli.terminal.output import plain_lines
from ksql_lake.report import Report
from ksql_lake.report.console import WIDTH, feed_table, headline, remarks
from ksql_lake.report.lake_model import CrossCheck, Disagreement, ServerSide
from ksql_lake_tests.report.lakes import report_of

EXPECTED = """\
8 feeds: 1 disabled, 1 failing, 1 never ran, 1 empty, 1 stale, 1 incomplete, 2
healthy. 2,752 rows in 13 files, 275.2 kB; 5 days missing.

FEED    STATUS      EVIDENCE  CHECKS    ROWS      SIZE    AGE  MISSING  LATE
empty   empty       before    not yet      0       0 B    2 h        0     0
failed  failing     before    not yet     15    1.5 kB    2 h        0     0
gaps    incomplete  before    not yet      4     400 B    2 h        2     0
never   never ran   -         -            0       0 B  never        3     0
off     disabled    -         -            0       0 B  never        -     -
stale   stale       before    not yet     15    1.5 kB    2 h        0     0
users   healthy     before    not yet  1,500  270.0 kB    2 h        -     -
whole   healthy     before    not yet     18    1.8 kB    1 h        0     3

failing: failed: 1 failed export, the last 2025-01-18 02:00 UTC: the query
    failed: <b>boom</b> | _x_
    Look at it.
stale: stale: last export 2 h ago, target 1 h
    Is its schedule on? By hand: ksql-lake export --stream stale
never ran: never: no export was tried yet
    ksql-lake export --stream never
empty: empty: exported 2025-01-18 01:00 UTC, and there was no row
    Does EMPTY have rows at all?
incomplete: gaps: 2 days never read: 2025-01-16 to 2025-01-17
    ksql-lake export --stream gaps

Checked 13 of 13 files: the metadata agrees with them. Server not asked.
"""


def text(report: Report) -> str:
    """The report as a pipe gets it."""
    table = feed_table(report)
    right_at = {at for at, header in enumerate(table.headers) if header in table.right}
    rows = plain_lines([[header.upper() for header in table.headers], *table.rows], right_at=right_at)
    return "\n".join([headline(report), "", *rows, "", *remarks(report), ""])


def test_the_whole_text(report: Report) -> None:
    """Headline, table, points by urgency with what to do next, and what was checked."""
    assert text(report) == EXPECTED


def test_it_fits_a_terminal(report: Report) -> None:
    """No line is longer than 80 columns, paths and numbers included."""
    disagreements = tuple(
        Disagreement("whole", f"streams/whole/file_{n}.parquet", "it is gone " * 9) for n in range(8)
    )
    worst = replace(report, cross_check=CrossCheck(13, 13, 7, disagreements))

    assert max(map(len, text(worst).splitlines())) <= WIDTH
    assert text(worst).count("disagreement: whole: ") == 5
    assert "disagreement: the lake: 3 more disagreements\n" in text(worst)
    assert "Checked 13 of 13 files: 8 disagreements with the metadata." in text(worst)


def test_what_the_server_said_is_told(report: Report) -> None:
    """Asked, asked in vain, and not asked read differently."""
    url = "http://ksql:8088"
    asked = replace(report, server=ServerSide(asked=True, url=url))
    in_vain = replace(
        report, server=ServerSide(asked=True, url=url, problem="cannot connect: connection refused")
    )

    assert " ".join(remarks(asked)).endswith("The server at http://ksql:8088 was asked.")
    assert "no answer: the server: cannot connect: connection refused" in remarks(in_vain)
    assert " ".join(remarks(in_vain)).endswith("The server gave no answer.")


def test_without_feeds(tmp_path: Path) -> None:
    """A project that has nothing yet gets a sentence, not an empty table."""
    report = report_of(tmp_path)

    assert headline(report) == "There is no feed yet."
    assert feed_table(report).rows == ()
    assert remarks(report) == ["There are no files to check yet. Server not asked."]


def test_data_nobody_owns_is_a_point(troubled: Report) -> None:
    """A folder without a feed file is named with what it holds."""
    assert "no feed: lost: 3 rows, 300 B: there is no feed file for it" in remarks(troubled)

"""A report for a terminal: a headline, a table, points that need attention, all as text."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from ksql_lake.quantities import age_text, count_text, size_text
from ksql_lake.report.attention import Point, attention
from ksql_lake.report.feed_model import FeedReport, evidence_text
from ksql_lake.report.lake_model import Report, ServerSide
from ksql_lake.report.wording import checks_text, short_count

WIDTH = 80
"""Columns of a line where the terminal reports no width."""


@dataclass(frozen=True, slots=True)
class FeedTable:
    """The table of feeds: titles, cells, and which columns are numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...]


def headline(report: Report, *, width: int = WIDTH) -> str:
    """Return the report in a few sentences, wrapped."""
    totals = report.totals
    if not totals.feeds:
        return "There is no feed yet."
    states = ", ".join(f"{number} {status.label}" for status, number in totals.statuses.items())
    held = (
        f"{count_text(totals.records, 'row')} in {count_text(totals.files, 'file')}, {size_text(totals.bytes)}"
    )
    days = f"; {count_text(totals.missing_days, 'day')} missing" if totals.missing_days else ""
    return _wrapped(f"{count_text(totals.feeds, 'feed')}: {states}. {held}{days}.", width)


def feed_table(report: Report) -> FeedTable:
    """Return the feeds as a table that fits the width, unless a feed's name is very long."""
    headers = ("Feed", "Status", "Evidence", "Checks", "Rows", "Size", "Age", "Missing", "Late")
    return FeedTable(headers, tuple(_row(feed) for feed in report.feeds), right=headers[4:])


def remarks(report: Report, *, width: int = WIDTH) -> list[str]:
    """Return the points that need attention, and how much was checked, as wrapped lines."""
    lines = [line for point in attention(report) for line in _point(point, width)]
    if lines:
        lines.append("")
    return [*lines, *_wrapped(f"{_checked(report)} {_server(report.server)}", width).splitlines()]


def _row(feed: FeedReport) -> tuple[str, ...]:
    covered = feed.coverage
    return (
        feed.name,
        feed.status.label,
        evidence_text(feed).removesuffix(" evidence"),
        checks_text(feed),
        short_count(feed.current_records),
        size_text(feed.bytes),
        age_text(feed.freshness.age_hours),
        f"{covered.missing:,}" if covered else "-",
        short_count(feed.late_rows) if covered else "-",
    )


def _point(point: Point, width: int) -> list[str]:
    lines = _wrapped(f"{point.label}: {point.subject}: {point.text}", width, indent="    ").splitlines()
    steps = point.next_step.splitlines()
    return lines + [f"    {step.strip()}" for step in steps]


def _checked(report: Report) -> str:
    check = report.cross_check
    if not check.files:
        return "There are no files to check yet."
    looked = f"{check.sampled:,} of {count_text(check.files, 'file')}"
    if check.disagreements:
        return f"Checked {looked}: {count_text(len(check.disagreements), 'disagreement')} with the metadata."
    return f"Checked {looked}: the metadata agrees with them."


def _server(server: ServerSide) -> str:
    if not server.asked:
        return "Server not asked."
    return "The server gave no answer." if server.problem else f"The server at {server.url} was asked."


def _wrapped(text: str, width: int, *, indent: str = "") -> str:
    return textwrap.fill(
        text, max(width, 30), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

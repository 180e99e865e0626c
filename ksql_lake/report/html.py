"""The report as one HTML file, and as Markdown for Dagster's UI. Everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ksql_lake import markdown, quantities
from ksql_lake.lake.files.sql_values import sql_name
from ksql_lake.report import wording
from ksql_lake.report.attention import attention
from ksql_lake.report.feed_model import ExportPoint, FeedReport, Status, evidence_text
from ksql_lake.report.lake_model import Report
from ksql_lake.report.plots import (
    Bars,
    CalendarStrip,
    calendar,
    export_durations,
    late_rows,
    outline,
    records_per_day,
    version_growth,
)

EXPORTS_LISTED = 10
"""How many of a feed's newest exports are listed with their numbers."""

POINTS_SHOWN = 12
"""How many points are shown at once; the others open with a click."""

_TRACK = 1.5
"""Length of the track of a freshness bar, as a multiple of the target."""


@dataclass(frozen=True, slots=True)
class FeedView:
    """A feed with its plots."""

    feed: FeedReport
    records: Bars | None
    late: Bars | None
    growth: Bars | None
    durations: Bars | None
    calendar: tuple[CalendarStrip, ...]

    @property
    def spark(self) -> str:
        """The rows of the newest days or versions as one path; empty without any."""
        plot = self.records or self.growth
        return outline(plot) if plot is not None else ""

    @property
    def spark_width(self) -> int:
        """Width of the box around it."""
        plot = self.records or self.growth
        return plot.width if plot is not None else 0

    @property
    def last_exports(self) -> tuple[ExportPoint, ...]:
        """The exports that are listed with their numbers, newest first."""
        return self.feed.exports[: -EXPORTS_LISTED - 1 : -1]

    @property
    def checks_rank(self) -> int:
        """How bad the results of the checks are: errors count most, then warnings, then missing results."""
        failed = self.feed.failed_checks
        return sum(10_000 if check.grave else 100 for check in failed) + len(self.feed.unevaluated)

    @property
    def checks_level(self) -> str:
        """The same as a CSS class."""
        failed = self.feed.failed_checks
        return "bad" if any(check.grave for check in failed) else "odd" if failed else ""

    @property
    def search_text(self) -> str:
        """The text that the search matches, in lower case."""
        feed = self.feed
        columns = " ".join(column.name for column in feed.columns)
        checks = " ".join(check.name for check in feed.failed_checks)
        words = (feed.name, feed.source, feed.kind, feed.description, *feed.owners, columns, checks)
        return " ".join(words).lower()

    @property
    def sql(self) -> str:
        """A query to begin with: the newest day's rows, or a table's."""
        where, day = "", self.feed.last_partition
        if self.feed.kind == "stream" and day is not None:
            year, month, number = (int(part) for part in day.split("-"))
            where = f"\nWHERE year = {year} AND month = {month} AND day = {number}"
        return f"SELECT *\nFROM {sql_name(self.feed.name)}{where}\nLIMIT 20;"

    @property
    def target_percent(self) -> float:
        """The position of the target on its track, in percent."""
        return round(100 / _TRACK, 1)

    @property
    def age_percent(self) -> float:
        """How long the bar of the age is, in percent of its track."""
        fresh = self.feed.freshness
        if fresh.age_hours is None or not fresh.target_hours:
            return 0.0
        return round(min(fresh.age_hours / (fresh.target_hours * _TRACK), 1) * 100, 1)

    @property
    def growth_text(self) -> str:
        """How the newest version differs from the one before it."""
        points = self.feed.versions[-2:]
        if len(points) < 2:
            return "first version"
        change = points[1].records - points[0].records
        return (
            f"{change:+,} rows since v{points[0].version}"
            if change
            else f"as many rows as v{points[0].version}"
        )


def render_html(report: Report) -> str:
    """Return the report as one self-contained HTML file."""
    return _environment().get_template("report.html.jinja").render(_context(report))


def render_markdown(report: Report) -> str:
    """Return the report as Markdown with its plots as embedded images, for Dagster's UI."""
    return _environment().get_template("report.md.jinja").render(_context(report)).strip() + "\n"


def _context(report: Report) -> dict[str, Any]:
    order = {status: at for at, status in enumerate([*list(Status)[1:], Status.DISABLED])}
    found = sorted(report.feeds, key=lambda feed: (order[feed.status], feed.name))
    ages = [feed.freshness.age_hours for feed in report.feeds if feed.freshness.age_hours is not None]
    checks = [check for feed in report.feeds for check in feed.checks]
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "report": report,
        "points": attention(report),
        "shown_points": POINTS_SHOWN,
        # Problems first.
        "views": [_view(feed) for feed in found],
        "states": [
            (status, report.totals.statuses[status]) for status in order if status in report.totals.statuses
        ],
        "healthy": report.totals.statuses.get(Status.HEALTHY, 0),
        "disabled": report.totals.statuses.get(Status.DISABLED, 0),
        "newest_hours": min(ages, default=None),
        "failed_checks": sum(check.state == "failed" for check in checks),
        "grave_checks": sum(check.grave for check in checks),
        "passed_checks": sum(check.state == "passed" for check in checks),
        "script": Markup(script),  # noqa: S704 - our own file
        "script_hash": f"sha256-{digest}",
    }


@cache
def _script() -> str:
    loader = _environment().loader
    assert loader is not None  # noqa: S101 - the environment below has one
    return loader.get_source(_environment(), "report.js")[0]


def _view(feed: FeedReport) -> FeedView:
    return FeedView(
        feed=feed,
        records=records_per_day(feed),
        late=late_rows(feed),
        growth=version_growth(feed),
        durations=export_durations(feed),
        calendar=calendar(feed),
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("ksql_lake.report"),
        autoescape=select_autoescape(["html.jinja", "css.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "count": quantities.count_text,
        "short": wording.short_count,
        "size": quantities.size_text,
        "age": quantities.age_text,
        "seconds": wording.seconds_text,
        "ratio": wording.ratio_text,
        "size_change": wording.size_change_text,
        "moment": wording.moment_text,
        "ranges": wording.ranges_text,
        "evidence": evidence_text,
        "checks": wording.checks_text,
        "image": _image,
        "cell": markdown.plain,
    }
    return found


def _image(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.strip().encode()).decode()

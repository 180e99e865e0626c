"""A report as one HTML file, and as Markdown with the same plots for Dagster's UI.

The file carries its own style and drawings, runs no script, and forbids itself to load anything: it can be
mailed, archived and opened offline. Everything that came from feeds, server or lake is escaped.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ksql_lake import markdown, quantities
from ksql_lake.report import wording
from ksql_lake.report.attention import attention
from ksql_lake.report.feed_model import FeedReport, evidence_text
from ksql_lake.report.lake_model import Report
from ksql_lake.report.plots import (
    Bars,
    CalendarStrip,
    calendar,
    export_durations,
    late_rows,
    records_per_day,
    version_growth,
)

_TRACK = 1.5
"""How much of the target's age the track of a freshness bar is long."""


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
    def seconds(self) -> list[float]:
        """Seconds of the exports that are listed."""
        return [point.seconds for point in self.feed.exports if point.seconds is not None]

    @property
    def median_seconds(self) -> float | None:
        """Their median."""
        return median(self.seconds) if self.seconds else None

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
    views = [_view(feed) for feed in report.feeds]
    ages = [feed.freshness.age_hours for feed in report.feeds if feed.freshness.age_hours is not None]
    return {
        "report": report,
        "points": attention(report),
        "views": views,
        # Those with rows first: a card without a plot is a short one.
        "streams": sorted(
            (view for view in views if view.feed.kind == "stream"), key=lambda view: view.records is None
        ),
        "tables": [view for view in views if view.growth is not None],
        "by_size": sorted(views, key=lambda view: -view.feed.bytes),
        "largest": max((feed.bytes for feed in report.feeds), default=0) or 1,
        "target_percent": round(100 / _TRACK, 1),
        "calm": sum(feed.status.calm for feed in report.feeds),
        "newest_hours": min(ages, default=None),
    }


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
        "moment": wording.moment_text,
        "ranges": wording.ranges_text,
        "evidence": evidence_text,
        "image": _image,
        "cell": markdown.plain,
    }
    return found


def _image(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.strip().encode()).decode()

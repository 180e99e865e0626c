"""The HTML report: well formed, complete, and on its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ksql_lake.lake.days import Days
from ksql_lake.report import FeedReport, Report, Status, render_html, render_markdown
from ksql_lake.report.lake_model import (
    CrossCheck,
    Disagreement,
    FeedWithoutSource,
    KafkaGaps,
    ServerSide,
    SourceWithoutFeed,
)
from ksql_lake_tests.report.lakes import report_of

VOID = {"meta", "br", "rect", "path", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself; only drawings may."""
        assert tag in {"path", "rect"}
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close the last element, and no other."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text outside of style."""
        if self.open[-1:] not in (["style"], ["script"]):
            self.words += data.split()

    @property
    def text(self) -> str:
        """The words of the page."""
        return " ".join(self.words)


def busy(report: Report) -> Report:
    """The report with everything that can be wrong between server, files and lake."""
    days = (Days(report.feeds[2].coverage.first, report.feeds[2].coverage.last),)  # type: ignore[union-attr]
    server = ServerSide(
        asked=True,
        url="http://ksql:8088",
        sources_without_feed=(SourceWithoutFeed("SILENT", "stream"),),
        feeds_without_source=(FeedWithoutSource("stale", "GONE"),),
        gaps=(KafkaGaps("gaps", "GAPS", 1.0, "for 1 h", days, days, days, days),),
    )
    check = CrossCheck(3, 3, 1, (Disagreement("whole", "streams/whole/x.parquet", "the file does not exist"),))
    return replace(report, server=server, cross_check=check)


def test_it_is_well_formed(report: Report, troubled: Report) -> None:
    """Every element is closed in order, in a calm report and in one with every trouble."""
    for shown in (report, troubled, busy(report), replace(report, server=ServerSide(asked=True, problem="no"))):
        text = render_html(shown)
        page = Page(text)

        assert text.startswith('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">')
        assert page.tags.count("h1") == 1


def test_it_loads_nothing(report: Report) -> None:
    """Nothing refers to anything outside the file, which forbids that besides, and all scripts but its own."""
    text = render_html(busy(report))
    page = Page(text)

    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    assert not {name for _, name, _ in page.attributes} & {"src", "srcset", "data", "action", "poster"}
    assert not set(page.tags) & {"link", "iframe", "img", "object", "embed", "base"}
    assert not re.search(r"url\(|@import|expression\(|javascript:", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert ("meta", "content", policy) in page.attributes
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert set(re.findall(r"https?://[^\s<\"']+", text)) == {"http://ksql:8088"}


def test_every_feed_is_there_with_its_numbers(report: Report) -> None:
    """Names, statuses, reasons, rows, ages and sizes stand in the page."""
    text = Page(render_html(report)).text

    for feed in report.feeds:
        assert feed.name in text
        assert feed.status.label in text
        if not feed.status.calm:
            assert " ".join(feed.reason.split()) in text
    assert "2 things to act on" in text
    assert "1,500 rows, +300 rows since v2" in text
    assert "18 rows, 3 late rows, days in UTC" in text
    assert "Server not asked." in text
    assert "Looked at 13 of 13 files and at 6 _metadata.json : they agree." in text


def test_foreign_text_is_escaped(report: Report) -> None:
    """A message with markup in it is text, in the page and in its plots."""
    evil = '"><script>alert(1)</script>'
    feeds = tuple(replace(feed, source=evil, reason=evil, description=evil) for feed in report.feeds)

    page = Page(render_html(replace(report, feeds=feeds, lake=evil)))

    assert page.tags.count("script") == 1
    assert evil in page.text


def test_a_calm_report_says_so(report: Report) -> None:
    """When nothing needs attention, the page says just that."""
    calm = tuple(feed for feed in report.feeds if feed.status.calm)
    totals = replace(report.totals, feeds=len(calm), statuses=Counter(feed.status for feed in calm))

    text = Page(render_html(replace(report, feeds=calm, totals=totals))).text

    assert "2 feeds OK, 1 disabled" in text
    assert "Nothing. Every feed that is enabled is healthy." in text


@pytest.mark.parametrize(
    ("status", "verdict", "nothing"),
    [
        (Status.HEALTHY, "1 feed OK", "Nothing. Every feed is healthy."),
        (Status.DISABLED, "No feed enabled", "Nothing. No feed is enabled."),
    ],
)
def test_disabled_feeds_are_not_called_healthy(
    report: Report, status: Status, verdict: str, nothing: str
) -> None:
    """A lake into which nothing is exported is not shown as one in which all is well."""
    feeds = tuple(feed for feed in report.feeds if feed.status is status)[:1]
    totals = replace(report.totals, feeds=1, statuses={status: 1})

    text = Page(render_html(replace(report, feeds=feeds, totals=totals))).text

    assert verdict in text
    assert nothing in text


def test_a_check_that_warns_is_in_the_headline(report: Report) -> None:
    """A page on which each feed is healthy is not green while a check fails."""
    (feed,) = (feed for feed in report.feeds if feed.name == "whole")
    warned = replace(feed, checks=(replace(feed.checks[0], state="failed", severity="warn"), *feed.checks[1:]))
    totals = replace(report.totals, feeds=1, statuses={Status.HEALTHY: 1})

    page = render_html(replace(report, feeds=(warned,), totals=totals))

    assert "1 feed OK, 1 check warns" in Page(page).text
    assert 'class="verdict healthy"' not in page


def test_small_files_may_be_larger_than_json(report: Report) -> None:
    """A Parquet file of few rows is larger than their JSON, and the page does not call it smaller."""
    feeds = tuple(replace(feed, json_ratio=0.5) for feed in report.feeds)

    text = Page(render_html(replace(report, feeds=feeds))).text

    assert "2.0x larger than the server" in text
    assert "smaller than the server" not in text


def test_an_empty_project_has_a_page(tmp_path: Path) -> None:
    """Without feeds there is still a page, and it says what to do."""
    assert "There is no feed yet: ksql-lake feeds add" in Page(render_html(report_of(tmp_path))).text


def images(text: str) -> Iterator[ET.Element]:
    """The pictures embedded in Markdown, parsed as XML."""
    for data in re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text):
        yield ET.fromstring(base64.b64decode(data))  # noqa: S314 - our own


def test_markdown_has_a_row_and_plots_per_feed(report: Report) -> None:
    """Each feed is a row of the table, problems first; each plot is a drawing that needs nothing else."""
    text = render_markdown(report)

    rows = [line for line in text.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == ["Feed", "failed", "never", "empty", "stale", "gaps", "users", "whole", "off"]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {12}
    drawn = list(images(text))
    assert len(drawn) == _with_rows(report.feeds) + sum(bool(feed.exports) for feed in report.feeds)
    for image in drawn:
        assert image.tag == "{http://www.w3.org/2000/svg}svg"
        assert {"width", "height", "viewBox"} <= set(image.attrib)
    assert "&lt;b>boom&lt;/b> \\| \\_x\\_" in text


def _with_rows(feeds: tuple[FeedReport, ...]) -> int:
    return sum(bool(feed.days or feed.versions) for feed in feeds)


def test_a_command_is_code_and_a_question_is_text(report: Report) -> None:
    """What can be typed stands as code; a question or an advice stands as text."""
    text = render_html(report)

    assert "<code>ksql-lake export --stream never</code>" in text
    assert '<span class="step">Does EMPTY have rows at all?</span>' in text
    assert "<code>Does" not in text

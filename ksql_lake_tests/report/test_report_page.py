"""The HTML report in a real browser, opened as a file: it searches, sorts, opens, and fits a phone.

Pictures of what a person sees go to test-artifacts/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from ksql_lake.report import render_html
from ksql_lake_tests.orchestration.browser import ARTIFACTS, SIZE, chromium_page
from ksql_lake_tests.report.many_feeds import large_report

MANY = 60
"""More feeds than stand in the list at once."""

PHONE = ViewportSize(width=390, height=844)
FEEDS = "details.feed:visible"
FEEDS_OF_MANY = large_report(MANY).feeds


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """A page that notes what it complains about."""
    with chromium_page() as made:
        yield made


def opened(page: Page, folder: Path, count: int, *, anchor: str = "") -> list[str]:
    """Open a report of so many feeds from the disk; gives what the browser complains about from then on."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    path = folder / f"report_{count}.html"
    path.write_text(render_html(large_report(count)), encoding="utf-8")
    page.goto(f"{path.as_uri()}{anchor}")
    return said


@pytest.mark.parametrize("count", [8, 300])
def test_it_fits_and_is_pictured(browser: Page, tmp_path: Path, count: int) -> None:
    """On a wide screen, on a phone and in the dark nothing is wider than the screen; no policy is broken."""
    said = opened(browser, tmp_path, count)
    try:
        for name, size, scheme in (("wide", SIZE, "light"), ("narrow", PHONE, "light"), ("dark", SIZE, "dark")):
            browser.set_viewport_size(size)
            browser.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert browser.evaluate("document.documentElement.scrollWidth") == size["width"]
            browser.screenshot(path=ARTIFACTS / f"report_{count}_{name}.png")
            browser.locator("#feed-orders > summary").click()
            browser.locator("#feed-orders").scroll_into_view_if_needed()
            assert browser.evaluate("document.documentElement.scrollWidth") == size["width"]
            browser.screenshot(path=ARTIFACTS / f"report_{count}_{name}_open.png")
            browser.locator("#feed-orders > summary").click()
            browser.evaluate("scrollTo(0, 0)")
    finally:
        browser.set_viewport_size(SIZE)
        browser.emulate_media(color_scheme="light")
    assert said == []


def test_problems_stand_first(browser: Page, tmp_path: Path) -> None:
    """The list begins with what fails, and of hundreds fifty stand there until all are asked for."""
    opened(browser, tmp_path, MANY)

    expect(browser.locator(FEEDS)).to_have_count(50)
    expect(browser.locator(f"{FEEDS} .pill").first).to_have_text("failing")
    browser.get_by_role("button", name=f"Show all {MANY}").click()
    expect(browser.locator(FEEDS)).to_have_count(MANY)
    expect(browser.locator("nav .names a:visible")).to_have_count(MANY)


def test_search_and_filter(browser: Page, tmp_path: Path) -> None:
    """Words narrow the list by name, owner and column, a chip by status; both narrow together."""
    opened(browser, tmp_path, MANY)
    search = browser.get_by_label("Search feeds")

    search.fill("orders team:web")
    narrowed = sum(feed.name.startswith("orders") and "team:web" in feed.owners for feed in FEEDS_OF_MANY)
    expect(browser.locator("#shown")).to_have_text(f"{narrowed} of {MANY}")
    browser.locator("button[data-filter=failing]").click()
    expect(browser.locator("#shown")).not_to_have_text(f"{narrowed} of {MANY}")
    search.fill("no feed has this")
    expect(browser.get_by_text("No feed matches.")).to_be_visible()


def test_columns_sort(browser: Page, tmp_path: Path) -> None:
    """A title sorts by its numbers, the largest first, and turns around when it is pressed again."""
    opened(browser, tmp_path, MANY)
    first = browser.locator(f"{FEEDS}").first
    by_rows = browser.get_by_role("button", name="Rows", exact=True)

    by_rows.click()
    largest = int(first.get_attribute("data-rows") or 0)
    by_rows.click()
    smallest = int(first.get_attribute("data-rows") or 0)
    browser.get_by_role("button", name="Feed", exact=True).click()

    assert largest == max(feed.current_records for feed in FEEDS_OF_MANY)
    assert smallest == 0
    expect(first).to_have_attribute("data-name", "clicks")


def test_a_link_opens_a_feed(browser: Page, tmp_path: Path) -> None:
    """An address with #feed-NAME opens its section, although the page lists only some of the feeds."""
    last = max(feed.name for feed in FEEDS_OF_MANY if feed.status.calm)

    opened(browser, tmp_path, MANY, anchor=f"#feed-{last}")

    section = browser.locator(f"#feed-{last}")
    expect(section).to_have_attribute("open", "")
    expect(section.get_by_text("Sample SQL")).to_be_visible()
    expect(section.get_by_text(f'FROM "{last}"')).to_be_visible()

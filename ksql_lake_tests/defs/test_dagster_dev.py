"""A running Dagster, with web server, daemon and code location as separate processes, and a real browser on it.

Screenshots of what a person sees go to test-artifacts/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.defs.dev_server import PATIENCE, REPOSITORY, DagsterDev, dagster_dev
from ksql_lake_tests.defs.project import Project

CHROMIUM = Path("/usr/bin/chromium")
ARTIFACTS = REPOSITORY / "test-artifacts"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def running(
    server: DevServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, DagsterDev]]:
    """A project of its own, opened in one `dagster dev` for all tests here."""
    project = Project(tmp_path_factory.mktemp("dagster_dev"))
    project.write_feeds()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in project.environment(server.url).items():
            patch.setenv(name, value)
        with dagster_dev(project) as dagster:
            yield project, dagster


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a browser with a profile of its own."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        made = browser.new_page(viewport={"width": 1600, "height": 1000})
        made.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        yield made
        browser.close()


def _shot(page: Page, name: str) -> None:
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def _materialised(dagster: DagsterDev) -> list[str]:
    query = (
        '{assetNodeOrError(assetKey: {path: ["payments"]})'
        " {... on AssetNode {assetMaterializations {partition}}}}"
    )
    events = dagster.ask(query)["assetNodeOrError"]["assetMaterializations"]
    return [event["partition"] for event in events]


def test_a_day_is_materialised_with_clicks(running: tuple[Project, DagsterDev], page: Page) -> None:
    """From the graph to a green partition with its rows and passed checks, without a line of a shell."""
    project, dagster = running
    page.goto(f"{dagster.url}/asset-groups")
    for group in ("ksqldb", "streams", "tables", "monitoring"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    expect(page.get_by_text("fetching statuses")).to_have_count(0)
    _shot(page, "asset-graph")

    page.goto(f"{dagster.url}/assets/payments?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Clear", exact=True).click()
    dialog.get_by_placeholder("ex: 2025-01-06").fill("2025-01-06")
    dialog.get_by_placeholder("ex: 2025-01-06").press("Enter")
    _shot(page, "materialize-dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    dagster.until(lambda: "2025-01-06" in _materialised(dagster))

    page.goto(f"{dagster.url}/assets/payments?view=partitions&partition=2025-01-06")
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(page.get_by_text("new_rows")).to_be_visible()
    _shot(page, "partition")
    page.goto(f"{dagster.url}/assets/payments?view=checks")
    expect(page.get_by_text("Succeeded")).to_have_count(5)
    _shot(page, "checks")

    assert project.lake("payments").state().partition_keys() == ["2025-01-06"]


def test_feed_files_appear_without_a_restart(running: tuple[Project, DagsterDev]) -> None:
    """A new file becomes an asset, a broken one an entry that says why, an archived one goes; others stay."""
    project, dagster = running
    active = project.folder / "feeds" / "active"
    before = set(dagster.assets())

    (active.parent / "archived").mkdir()
    (active / "refunds.json").rename(active.parent / "archived" / "refunds.json")
    (active / "broken.json").write_text('{"name": "broken",')
    project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01")
    # A tick may come between two of the changes; the next one brings the rest.
    shown = dagster.until(lambda: found if "visits" in (found := dagster.assets()) else None)

    assert {"payments", "refunds", "totals"} <= before
    assert {"payments", "totals", "visits"} <= set(shown)
    assert "refunds" not in shown
    assert "broken.json" in (shown["quarantine/broken"] or "")

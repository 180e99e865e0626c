"""A running Dagster, its web server, daemon and code location processes of their own, and a browser on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.orchestration.browser import choose_days, chromium_page, materialize_dialog, shoot
from ksql_lake_tests.orchestration.dev_server import DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import Project


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
    with chromium_page() as made:
        yield made


def test_a_day_is_materialised_with_clicks(running: tuple[Project, DagsterDev], page: Page) -> None:
    """From the graph to a green partition with its rows and passed checks, without a line of a shell."""
    project, dagster = running
    page.goto(f"{dagster.url}/asset-groups")
    for group in ("ksqldb", "streams", "tables", "monitoring"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    shoot(page, "asset-graph")

    dialog = materialize_dialog(page, dagster.url, "payments")
    choose_days(dialog, "2025-01-06")
    shoot(page, "materialize-dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    # To its end: the checks come after the rows, and a page that is open does not always show the last ones.
    dagster.until(lambda: dagster.runs() and all(run["status"] == "SUCCESS" for run in dagster.runs()))
    assert "2025-01-06" in dagster.materialised("payments")

    page.goto(f"{dagster.url}/assets/payments?view=partitions&partition=2025-01-06")
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(page.get_by_text("new_rows")).to_be_visible()
    shoot(page, "partition")
    page.goto(f"{dagster.url}/assets/payments?view=checks")
    expect(page.get_by_text("Succeeded")).to_have_count(5)
    shoot(page, "checks")

    assert project.lake("payments").state().partition_keys() == ["2025-01-06"]


def test_feed_files_appear_without_a_restart(running: tuple[Project, DagsterDev]) -> None:
    """A new file becomes an asset; a broken one, and an archived one, an entry that says why; others stay."""
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
    assert "This feed is archived" in (shown["refunds"] or "")
    assert "broken.json" in (shown["broken"] or "")

"""What a person sees of checks per day: a failure that stays, and plots."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from playwright.sync_api import expect

from ksql_lake_tests.orchestration.browser import chromium_page, shoot
from ksql_lake_tests.orchestration.dev_server import DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text

FEED = {"kind": "stream", "source": "PAYMENTS", "start_date": "2025-01-06", "checks": {"not_null": ["NOTE"]}}


@pytest.fixture
def dagster(project: Project) -> Iterator[DagsterDev]:
    """Four days, one run each: the first has NULLs, the last two have none."""
    project.write_feed("payments", **FEED)
    with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
        for day in (DAYS[0], DAYS[2], DAYS[3]):
            result = project.materialize(instance, "payments", partition=day)
            assert result.success, failure_text(result)
    with dagster_dev(project) as running:
        yield running


def test_a_failed_day_is_seen_after_later_days_passed(dagster: DagsterDev) -> None:
    """The asset's page shows the check as failed and names the day; its history has each day, and plots."""
    query = (
        "query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path}) {... on AssetNode"
        " {assetChecksOrError {... on AssetChecks {checks {name executionForLatestMaterialization"
        " {status evaluation {severity description partition}}}}}}}}"
    )
    node = dagster.ask(query, path=["payments"])["assetNodeOrError"]
    shown = {
        each["name"]: each["executionForLatestMaterialization"] for each in node["assetChecksOrError"]["checks"]
    }
    assert shown["not_null"]["status"] == "FAILED"
    assert shown["not_null"]["evaluation"]["partition"] is None
    assert DAYS[0] in shown["not_null"]["evaluation"]["description"]
    assert shown["day_boundaries"]["status"] == "SUCCEEDED"

    with chromium_page() as page:
        page.goto(f"{dagster.url}/assets/payments?view=overview")
        expect(page.get_by_text("not_null").first).to_be_visible()
        shoot(page, "checks-asset", height=1600)
        page.goto(f"{dagster.url}/assets/payments?view=checks&checkDetail=not_null")
        expect(page.get_by_text(f"until they are read again and pass: {DAYS[0]}").first).to_be_visible()
        shoot(page, "checks-failed-day", height=1600)
        expect(page.get_by_text("null_rows").first).to_be_visible()
        shoot(page, "checks-plots", height=1800)

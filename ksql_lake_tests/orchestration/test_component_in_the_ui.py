"""What a person sees of a project that takes ksql-lake in as a Component: the one in examples/, in `dg dev`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.orchestration.browser import choose_days, chromium_page, materialize_dialog, shoot
from ksql_lake_tests.orchestration.dev_server import REPOSITORY, DagsterDev, dg_dev

DAY = "2025-01-07"
STREAM, TABLE = "shop/transaction_stream", "shop/user_transaction_summary"

_WHERE = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"
_LAUNCH = """mutation($params: ExecutionParams!) {launchRun(executionParams: $params) {
  __typename ... on PythonError {message}}}"""
_GRAPH = "{assetNodes {assetKey {path} groupName dependencyKeys {path}}}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """The example project over a server with the sample."""
    folder = tmp_path_factory.mktemp("example") / "shop"
    shutil.copytree(REPOSITORY / "examples" / "shop", folder)
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((REPOSITORY / "deploy" / "dagster.yaml").read_text())
    with (
        DevServer.start(sample=True, arguments=("--sample-rows", "500", "--sample-days", "3")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in list(os.environ):  # noqa: TID251 - taken away, not read
            if name.startswith(("KSQL", "DAGSTER")):
                patch.delenv(name)
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # noqa: TID251 - handed on
            "PYTHONPATH": "src",
            "KSQLDB_URL": server.url,
            "DAGSTER_HOME": str(home),
            "DAGSTER_DG_CLI_DISABLE_TELEMETRY": "1",
        }
        with dg_dev(folder, environment, asset=STREAM) as running:
            yield running


def _launch(shop: DagsterDev, job: str, *, asset: str | None = None, partition: str | None = None) -> None:
    """Start a run as the UI does."""
    (here,) = shop.ask(_WHERE)["repositoriesOrError"]["nodes"]
    selector: dict[str, Any] = {
        "repositoryLocationName": here["location"]["name"],
        "repositoryName": here["name"],
        "jobName": job,
    }
    if asset is not None:
        selector["assetSelection"] = [{"path": asset.split("/")}]
    tags = [{"key": "dagster/partition", "value": partition}] if partition else []
    params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
    told = shop.ask(_LAUNCH, params=params)["launchRun"]
    assert told["__typename"] == "LaunchRunSuccess", told


def test_an_asset_of_the_users_stands_below_ours(shop: DagsterDev) -> None:
    """Our feeds are exported by a click and by a job, the user's asset is made of both, and all is drawn."""
    upstream = {
        "/".join(node["assetKey"]["path"]): {"/".join(key["path"]) for key in node["dependencyKeys"]}
        for node in shop.ask(_GRAPH)["assetNodes"]
    }
    assert upstream["daily_sales"] == {STREAM, TABLE}
    assert upstream[STREAM] == {"shop/ksqldb/TRANSACTION_STREAM"}

    with chromium_page() as page:
        dialog = materialize_dialog(page, shop.url, STREAM)
        choose_days(dialog, DAY)
        shoot(page, "component-dialog")
        dialog.get_by_role("button", name="Launch 1 run").click()
        # On a slow machine the sensor `lake_in_step` may record it too, before the run does.
        shop.until(lambda: DAY in shop.materialised(STREAM))
        _launch(shop, "shop_table_user_transaction_summary")
        shop.until(lambda: "v1" in shop.materialised(TABLE))
        _launch(shop, "__ASSET_JOB", asset="daily_sales", partition=DAY)
        shop.until(lambda: shop.materialised("daily_sales") == [DAY])

        page.goto(f"{shop.url}/assets/daily_sales?view=lineage&lineageScope=upstream&lineageDepth=5")
        for name in ("daily_sales", "transaction_stream", "user_transaction_summary", "TRANSACTION_STREAM"):
            expect(page.locator("svg").get_by_text(name, exact=True).first).to_be_visible()
        expect(page.locator("svg").get_by_text("Loading")).to_have_count(0)
        shoot(page, "component-lineage")
        page.goto(f"{shop.url}/assets/{STREAM}?view=overview")
        for told in ("shop_streams", "TRANSACTION_STREAM", "payments", "Storage"):
            expect(page.get_by_text(told).first).to_be_visible()
        shoot(page, "component-asset", height=2200)
        page.goto(f"{shop.url}/assets/daily_sales?view=overview")
        expect(page.get_by_text("of_known_customers").first).to_be_visible()
        shoot(page, "component-below", height=1600)
        page.goto(f"{shop.url}/automation")
        for name in ("shop_streams_due", "shop_tables_due", "daily_sales_job_schedule", "shop_lake_in_step"):
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
        shoot(page, "component-automation", height=1400)

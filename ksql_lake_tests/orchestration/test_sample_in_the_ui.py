"""The repository's own sample project in a running Dagster, used with clicks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from ksql_lake.devserver.process import DevServer
from ksql_lake.export.topology import read_topology, save_topology
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.browser import choose_days, chromium_page, materialize_dialog, shoot
from ksql_lake_tests.orchestration.dev_server import REPOSITORY, DagsterDev, dagster_dev
from ksql_lake_tests.orchestration.project import Project

FIRST, LAST = "2025-01-08", "2025-01-17"
KSQLDB_SIDE = ("TRANSACTION_STREAM", "TRANSACTION_FLATTENED", "USER_TRANSACTION_SUMMARY")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, DagsterDev]]:
    """The sample feeds over a server with the sample, in one `dagster dev` for all tests here."""
    project = Project(tmp_path_factory.mktemp("sample"))
    project.copy_feeds(REPOSITORY / "feeds" / "active")
    with (
        DevServer.start(sample=True, arguments=["--sample-rows", "14000"]) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in project.environment(server.url).items():
            patch.setenv(name, value)
        with KsqlClient(load_settings()) as client:
            save_topology(read_topology(client), Lake(project.folder / "data_lake"))
        with dagster_dev(project, asset="transaction_stream") as dagster:
            yield project, dagster


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a browser with a profile of its own."""
    with chromium_page() as made:
        yield made


def test_the_graph_shows_what_ksqldb_makes_of_what(sample: tuple[Project, DagsterDev], page: Page) -> None:
    """The chain of derived sources is drawn on the ksqlDB side, each with its lake asset beside it."""
    _, dagster = sample
    query = "{assetNodes {assetKey {path} dependencyKeys {path}}}"
    upstream = {
        "/".join(node["assetKey"]["path"]): {"/".join(key["path"]) for key in node["dependencyKeys"]}
        for node in dagster.ask(query)["assetNodes"]
    }
    assert upstream["ksqldb/TRANSACTION_STREAM"] == set()
    assert upstream["ksqldb/TRANSACTION_FLATTENED"] == {"ksqldb/TRANSACTION_STREAM"}
    assert upstream["ksqldb/USER_TRANSACTION_SUMMARY"] == {"ksqldb/TRANSACTION_FLATTENED"}
    for source in KSQLDB_SIDE:
        assert upstream[source.lower()] == {f"ksqldb/{source}"}

    page.set_viewport_size({"width": 1600, "height": 1500})
    page.goto(f"{dagster.url}/asset-groups")
    expect(page.get_by_text("monitoring", exact=True).first).to_be_visible()
    page.keyboard.press("Alt+KeyE")
    for name in ("TRANSACTION_STREAM", "transaction_stream", "monitoring_report"):
        expect(_drawn(page, name)).to_be_visible()
    shoot(page, "sample-graph", height=1500)
    page.goto(
        f"{dagster.url}/assets/user_transaction_summary?view=lineage&lineageScope=upstream&lineageDepth=5"
    )
    for name in (*KSQLDB_SIDE, "user_transaction_summary"):
        expect(_drawn(page, name)).to_be_visible()
    shoot(page, "sample-lineage")
    page.goto(f"{dagster.url}/assets/ksqldb/USER_TRANSACTION_SUMMARY?view=overview")
    expect(page.get_by_text("CREATE TABLE").first).to_be_visible()
    shoot(page, "sample-source")


def _drawn(page: Page, name: str) -> Locator:
    return page.locator("svg").get_by_text(name, exact=True)


def test_ten_days_are_one_run(sample: tuple[Project, DagsterDev], page: Page) -> None:
    """A backfill over ten days launches one run with one query and one commit; the page then shows it all."""
    project, dagster = sample
    dialog = materialize_dialog(page, dagster.url, "transaction_stream")
    choose_days(dialog, f"[{FIRST}...{LAST}]")
    expect(dialog.get_by_text("Backfills all partitions in a single run.")).to_be_visible()
    shoot(page, "backfill-dialog")
    dialog.get_by_role("button", name="Launch backfill").click()
    # On a slow machine the sensor `lake_in_step` may record days too, before the run does.
    done = dagster.until(lambda: len(set(dagster.materialised("transaction_stream"))) == 10)

    assert done
    (run,) = dagster.until(lambda: [run for run in dagster.runs() if run["status"] == "SUCCESS"])
    assert run["tags"]["dagster/asset_partition_range_start"] == FIRST
    assert run["tags"]["dagster/asset_partition_range_end"] == LAST
    assert len(dagster.runs()) == 1
    state = project.lake("transaction_stream").state()
    assert (state.sequence, len(state.partitions), state.records) == (1, 10, 10_000)

    page.goto(f"{dagster.url}/runs/{run['runId']}?levels=INFO")
    expect(page.get_by_text("10,000 rows read, 10,000 new").first).to_be_visible()
    shoot(page, "run-log")
    page.goto(f"{dagster.url}/assets/transaction_stream?view=overview")
    for told in ("10,000", "Storage", "FROM read_parquet(", "DECIMAL(12, 2)", "payments"):
        expect(page.get_by_text(told).first).to_be_visible()
    shoot(page, "asset-page", height=2600)
    page.get_by_text("[Show Markdown]").click()
    expect(page.get_by_role("dialog").get_by_text(f"The first rows of {LAST}")).to_be_visible()
    shoot(page, "asset-sample")
    page.goto(f"{dagster.url}/assets/transaction_stream?view=overview")
    page.get_by_role("button", name="Plots").click()
    page.get_by_role("button", name="Events").click()
    expect(page.get_by_text("partition_rows")).to_be_visible()
    shoot(page, "asset-plots", height=2600)
    page.goto(f"{dagster.url}/assets/transaction_stream?view=partitions")
    expect(page.get_by_text("Materialized (10)")).to_be_visible()
    shoot(page, "backfill-partitions")


def test_a_version_is_materialised_and_an_old_one_refused(
    sample: tuple[Project, DagsterDev], page: Page
) -> None:
    """v1 lands with clicks, and v2 when it is asked for; v1 again fails and says which version is open."""
    project, dagster = sample
    table = "user_transaction_summary"
    before = {run["runId"] for run in dagster.runs()}
    dagster.until(lambda: _offered(dagster, table) == ["v1"])
    dialog = materialize_dialog(page, dagster.url, table)
    dialog.get_by_role("button", name="Missing", exact=True).click()
    shoot(page, "version-dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    dagster.until(lambda: set(dagster.materialised(table)) == {"v1"})

    page.goto(f"{dagster.url}/assets/{table}?view=partitions&partition=v1")
    expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
    expect(page.get_by_text("Materialized (1)")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    shoot(page, "version")
    assert _offered(dagster, table) == ["v1"]
    page.goto(f"{dagster.url}/assets/{table}?view=checks")
    expect(page.get_by_text("Succeeded").first).to_be_visible()
    shoot(page, "version-checks")

    dialog = materialize_dialog(page, dagster.url, table)
    dialog.get_by_text("Add a partition").click()
    page.get_by_placeholder("name", exact=True).fill("v2")
    page.get_by_role("button", name="Save").click()
    shoot(page, "next-version-dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    dagster.until(lambda: set(dagster.materialised(table)) == {"v1", "v2"})
    assert _offered(dagster, table) == ["v1", "v2"]

    dialog = materialize_dialog(page, dagster.url, table)
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_text("v2").first.click()
    page.locator("[role=menuitem]").filter(has_text="v2").click()
    dialog.get_by_text("Launch runs to materialize").click()
    shoot(page, "old-version-dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    failed = dagster.until(
        lambda: [run for run in dagster.runs() if run["runId"] not in before and run["status"] == "FAILURE"]
    )
    page.goto(f"{dagster.url}/runs/{failed[0]['runId']}")
    said = (
        "v1 exists already: a snapshot shows the table as it is now, so only the open version v3 can be written"
    )
    expect(page.get_by_text(said).first).to_be_visible()
    shoot(page, "old-version-refused")
    assert project.lake(table).state().partition_keys() == ["v1", "v2"]


def _offered(dagster: DagsterDev, table: str) -> list[str]:
    query = (
        "query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path})"
        " {... on AssetNode {partitionKeys}}}"
    )
    keys: list[str] = dagster.ask(query, path=[table])["assetNodeOrError"]["partitionKeys"]
    return keys

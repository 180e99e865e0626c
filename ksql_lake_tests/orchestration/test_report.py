"""The monitoring report as an asset below all feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text, materialized


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _report(project: Project, instance: dg.DagsterInstance) -> dict[str, Any]:
    result = project.materialize(instance, "monitoring_report")
    assert result.success, failure_text(result)
    return materialized(result, "monitoring_report")[None]


def test_the_report_lies_in_the_lake_and_on_its_page(project: Project, instance: dg.DagsterInstance) -> None:
    """One HTML file, the same as Markdown on the asset, and the figures one would plot."""
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    facts = _report(project, instance)

    html = (project.folder / "data_lake" / "metadata" / "monitoring_report.html").read_text()
    assert facts["file"].endswith("data_lake/metadata/monitoring_report.html")
    assert "payments" in html
    assert "payments" in facts["report"]
    assert facts["records"] == 8
    assert (facts["feeds"], facts["feeds_never_ran"]) == (3, 2)


def test_there_is_a_report_without_the_server(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away is a line of the report, not a failed run."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    assert _report(project, instance)["feeds"] == 3


def test_duckdb_is_there_for_the_report_and_for_assets_of_ones_own(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """The report reads with dagster-duckdb's resource, and an asset below a feed asks the lake with it."""
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))
    counted: list[Any] = []

    @dg.asset(deps=["payments"])
    def amounts(lake_duckdb: DuckDBResource) -> None:
        files = f"{project.lake('payments').dataset_path}/**/*.parquet"
        with lake_duckdb.get_connection() as connection:
            counted.append(connection.execute("SELECT count(*) FROM read_parquet(?)", [files]).fetchone())

    defs = dg.Definitions.merge(project.definitions(), dg.Definitions(assets=[amounts]))
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(asset_selection=[amounts.key], instance=instance).success
    assert counted == [(8,)]
    report = defs.get_repository_def().assets_defs_by_key[dg.AssetKey(["monitoring_report"])]
    assert {"lake", "lake_duckdb"} <= report.required_resource_keys


def test_the_report_is_below_every_feed(project: Project) -> None:
    """In the graph each feed leads to the report, and its job makes nothing else."""
    defs = project.definitions()
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}

    above = {dep.asset_key.to_user_string() for dep in specs["monitoring_report"].deps}

    assert above == {"payments", "refunds", "totals"}
    job = defs.get_repository_def().get_job("report")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {"monitoring_report"}

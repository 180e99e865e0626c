"""Dagster over a lake in a bucket: assets land there, inputs come from there, the report is written there."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pandas as pd
import pytest

from ksql_lake.lake import Lake
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project, failure_text, materialized
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.servers import Store


@pytest.fixture
def bucket(store: Store, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An unused lake in a bucket, as the environment's; in the end nothing was written beside it."""
    root = store.fresh()
    monkeypatch.setenv("KSQL_LAKE_ROOT", root)
    yield Place(root)
    assert not (project.folder / "data_lake").exists()


def test_assets_and_io_manager_work_in_a_bucket(project: Project, bucket: Place) -> None:
    """A range of days lands; an asset below loads it; metadata name addresses; the report is there."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))
        assert result.success, failure_text(result)
        told = materialized(result, "payments")
        report = project.materialize(instance, "monitoring_report")
        assert report.success, failure_text(report)
    assert {day: facts["partition_rows"] for day, facts in told.items()} == ROWS_PER_DAY
    assert told[DAYS[0]]["dagster/uri"] == f"{bucket.root}/streams/payments/year=2025/month=01/day=06"
    assert "metadata/monitoring_report.html" in set(bucket.keys())
    assert len(bucket.rows("streams/payments")) == sum(ROWS_PER_DAY.values())

    seen: list[int] = []

    @dg.asset(ins={"payments": dg.AssetIn(input_manager_key="lake_io_manager")})
    def below(payments: pd.DataFrame) -> None:
        seen.append(len(payments))

    definitions = project.definitions()
    manager = definitions.resources["lake_io_manager"]  # type: ignore[index]
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [below, dg.AssetSpec("payments")], resources={"lake_io_manager": manager}, instance=instance
        )
    assert done.success
    assert seen == [sum(ROWS_PER_DAY.values())]
    assert Lake(bucket.root).root == bucket.root

"""What an asset below a feed gets as its input."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """An instance in whose project five days and two versions are exported."""
    with dg.DagsterInstance.ephemeral() as made:
        assert project.materialize(made, "payments", days=(DAYS[0], DAYS[-1])).success
        assert project.materialize(made, "totals", partition="v1").success
        assert project.materialize(made, "totals", partition="v2").success
        yield made


def _load(
    project: Project,
    instance: dg.DagsterInstance,
    feed: str,
    annotation: object,
    *,
    mapping: dg.PartitionMapping | None = None,
    **below: Any,
) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    """Run an asset that takes the feed as `rows`, and give what it got."""
    got: list[Any] = []

    def take(rows: Any) -> None:
        # Lazy ones are read inside, while the asset runs.
        got.append(rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows)

    take.__annotations__["rows"] = annotation
    inputs = {"rows": dg.AssetIn(dg.AssetKey([feed]), partition_mapping=mapping)}
    asset = dg.asset(name="below", ins=inputs, partitions_def=below.get("partitions_def"))(take)
    defs = dg.Definitions.merge(project.definitions(), dg.Definitions(assets=[asset]))
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(["below"])],
        instance=instance,
        partition_key=below.get("partition_key"),
        raise_on_error=False,
    )
    return result, got


def _as_arrow(rows: Any) -> pa.Table:
    match rows:
        case pd.DataFrame():
            return pa.Table.from_pandas(rows)
        case ds.Dataset():
            return rows.to_table()
        case duckdb.DuckDBPyRelation():
            rows = rows.to_arrow_table()
    assert isinstance(rows, pa.Table)
    return rows


@pytest.mark.parametrize(
    "annotation", [pd.DataFrame, pa.Table, ds.Dataset, pa.RecordBatchReader, duckdb.DuckDBPyRelation]
)
def test_the_annotation_decides_the_type(
    project: Project, instance: dg.DagsterInstance, annotation: type
) -> None:
    """Each known annotation gives all rows, with values exact to the last digit."""
    result, got = _load(project, instance, "payments", annotation)

    assert result.success, failure_text(result)
    (rows,) = got
    assert isinstance(rows, pa.Table if annotation is pa.RecordBatchReader else annotation)
    arrow = _as_arrow(rows)
    ids = sorted(arrow.column("ID").to_pylist())
    assert ids == [9007199254740993 + number for number in range(1, 9)]
    assert Decimal("8.25") in arrow.column("AMOUNT").to_pylist()
    assert {"year", "month", "day"} <= set(arrow.column_names)


def test_without_an_annotation_pandas_it_is(project: Project, instance: dg.DagsterInstance) -> None:
    """No annotation means a data frame whose integers stay integers."""
    _, got = _load(project, instance, "payments", Any)

    assert isinstance(got[0], pd.DataFrame)
    assert got[0]["ID"].max() == 9007199254740993 + 8


def test_an_unknown_annotation_is_refused_with_the_known_ones(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """Nothing is guessed; the message lists what can be had."""
    result, got = _load(project, instance, "payments", dict)

    assert got == []
    assert "a feed cannot be loaded as <class 'dict'>" in failure_text(result)
    assert "pyarrow.RecordBatchReader" in failure_text(result)


def test_a_day_below_gets_the_day_above(project: Project, instance: dg.DagsterInstance) -> None:
    """An asset with the same days gets exactly its own."""
    days = dg.DailyPartitionsDefinition("2025-01-06", timezone="UTC")

    _, got = _load(project, instance, "payments", pa.Table, partitions_def=days, partition_key="2025-01-07")

    assert set(got[0].column("day").to_pylist()) == {7}
    assert got[0].num_rows == 2


def test_an_empty_day_is_an_empty_table_with_columns(project: Project, instance: dg.DagsterInstance) -> None:
    """A day without rows still has its columns and types."""
    days = dg.DailyPartitionsDefinition("2025-01-06", timezone="UTC")

    _, got = _load(project, instance, "payments", pa.Table, partitions_def=days, partition_key="2025-01-08")

    assert got[0].num_rows == 0
    assert got[0].schema.field("AMOUNT").type == pa.decimal128(10, 2)


def test_a_table_gives_its_latest_version(project: Project, instance: dg.DagsterInstance) -> None:
    """Without a mapping it is the newest version in the lake, not the open one and not all of them."""
    _, got = _load(project, instance, "totals", pa.Table)

    assert set(got[0].column("version").to_pylist()) == {"v2"}
    assert got[0].num_rows == 4


def test_a_mapped_version_is_that_version(project: Project, instance: dg.DagsterInstance) -> None:
    """Who asks for v1 gets v1."""
    _, got = _load(project, instance, "totals", pa.Table, mapping=dg.SpecificPartitionsPartitionMapping(["v1"]))

    assert set(got[0].column("version").to_pylist()) == {"v1"}


def test_the_open_version_cannot_be_loaded(project: Project, instance: dg.DagsterInstance) -> None:
    """Asking for a version that is not there yet is an error, never an older one in disguise."""
    result, got = _load(
        project, instance, "totals", pa.Table, mapping=dg.SpecificPartitionsPartitionMapping(["v3"])
    )

    assert got == []
    assert "v3 is not in the lake; it holds v1, v2" in failure_text(result)


def test_a_feed_without_an_export_says_so(project: Project, instance: dg.DagsterInstance) -> None:
    """Nothing exported means no columns to give, and the way to change that."""
    result, _ = _load(project, instance, "refunds", pd.DataFrame)

    assert "nothing was exported yet" in failure_text(result)


def test_a_notebook_loads_a_feed_by_its_key(project: Project, instance: dg.DagsterInstance) -> None:
    """Outside a run, one day and everything can be had from the definitions alone."""
    defs, key = project.definitions(), dg.AssetKey(["payments"])

    day: Any = defs.load_asset_value(key, python_type=pa.Table, instance=instance, partition_key="2025-01-07")
    everything: Any = defs.load_asset_value(key, python_type=pd.DataFrame, instance=instance)

    assert day.num_rows == 2
    assert len(everything) == 8


def test_only_feeds_can_be_written(project: Project, instance: dg.DagsterInstance) -> None:
    """An asset that returns something else to the lake's IO manager gets an error that says so."""

    @dg.asset(io_manager_key="lake_io_manager")
    def numbers() -> list[int]:
        return [1, 2]

    defs = dg.Definitions.merge(project.definitions(), dg.Definitions(assets=[numbers]))
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[numbers.key], instance=instance, raise_on_error=False
    )

    assert "the lake's IO manager got list from numbers" in failure_text(result)

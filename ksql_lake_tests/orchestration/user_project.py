"""What a user may have below our feeds: assets in pandas, polars, DuckDB and Arrow, in one location with ours.

`dagster dev` loads it too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa

from ksql_lake import definitions as ours
from ksql_lake_tests.orchestration.project import DAYS

ENGINES: dict[str, Any] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "polars_lazy": pl.LazyFrame,
    "duckdb": duckdb.DuckDBPyRelation,
    "arrow": pa.Table,
}

TICK = "*/2 * * * *"
EAGER, CRON = dg.AutomationCondition.eager(), dg.AutomationCondition.on_cron(TICK)


class Nowhere(dg.ConfigurableIOManager):
    """Keeps nothing, of any number of partitions: what the user makes of our rows is their affair."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Drop it."""

    def load_input(self, context: dg.InputContext) -> object:
        """Refuse it."""
        raise NotImplementedError(context.asset_key)


def days() -> dg.DailyPartitionsDefinition:
    """The days of the user's own assets."""
    return dg.DailyPartitionsDefinition(DAYS[0], timezone="UTC")


def values(rows: Any, column: str) -> list[Any]:
    """The values of a column, sorted, whatever the rows came as."""
    match rows:
        case pd.DataFrame():
            found = rows[column].tolist()
        case pl.LazyFrame():
            found = rows.collect()[column].to_list()
        case pl.DataFrame():
            found = rows[column].to_list()
        case duckdb.DuckDBPyRelation():
            found = [value for (value,) in rows.project(f'"{column}"').fetchall()]
        case _:
            found = rows.column(column).to_pylist()
    return sorted(found, key=str)


def below(
    name: str, *, reads: str, column: str, as_: object = pd.DataFrame, **asset: Any
) -> dg.AssetsDefinition:
    """Return an asset that reads one feed and returns the values of a column.

    Args:
        name: The asset.
        reads: The feed.
        column: Whose values it returns.
        as_: What it wants the rows as.
        asset: Its partitions, backfill policy, condition; `mapping` and `metadata` are those of the input.
    """

    def take(rows: Any) -> list[Any]:
        return values(rows, column)

    take.__annotations__ = {"rows": as_, "return": list}
    given = dg.AssetIn(
        dg.AssetKey([reads]), partition_mapping=asset.pop("mapping", None), metadata=asset.pop("metadata", None)
    )
    with warnings.catch_warnings():
        # Of the backfill policy.
        warnings.simplefilter("ignore", dg.BetaWarning)
        made: dg.AssetsDefinition = dg.asset(name=name, ins={"rows": given}, io_manager_key="nowhere", **asset)(
            take
        )
    return made


def user_assets() -> list[dg.AssetsDefinition]:
    """A day, everything and the table in every engine; a daily asset of both; one that only comes after."""

    @dg.asset(
        partitions_def=days(),
        ins={"totals": dg.AssetIn(partition_mapping=dg.LastPartitionMapping())},
    )
    def day_and_totals(payments: pl.DataFrame, totals: pd.DataFrame | None) -> list[int]:
        assert totals is not None
        return [payments.height, len(totals)]

    @dg.asset(deps=["payments", "totals"])
    def only_after() -> None: ...

    made: Sequence[dg.AssetsDefinition] = [
        asset
        for engine, kind in ENGINES.items()
        for asset in (
            below(f"day_{engine}", reads="payments", column="ID", as_=kind, partitions_def=days()),
            below(f"all_{engine}", reads="payments", column="ID", as_=kind),
            below(f"table_{engine}", reads="totals", column="version", as_=kind),
        )
    ]
    return [*made, day_and_totals, only_after]


def conditional_assets() -> list[dg.AssetsDefinition]:
    """The same below conditions of Dagster's own."""
    asked = {"eager": EAGER, "cron": CRON}
    return [
        asset
        for name, condition in asked.items()
        for asset in (
            below(
                f"{name}_day",
                reads="payments",
                column="ID",
                partitions_def=days(),
                automation_condition=condition,
            ),
            below(f"{name}_all", reads="payments", column="ID", automation_condition=condition),
            below(f"{name}_table", reads="totals", column="version", automation_condition=condition),
        )
    ]


@dg.definitions
def user_project() -> dg.Definitions:
    """Ours and the user's in one code location."""
    theirs = dg.Definitions(
        assets=[*user_assets(), *conditional_assets()],
        resources={"nowhere": Nowhere()},
        jobs=[dg.define_asset_job("theirs", selection=dg.AssetSelection.assets("all_pandas").upstream())],
    )
    return dg.Definitions.merge(ours.ksql_lake(), theirs)

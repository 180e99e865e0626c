"""What the shop makes of its feeds: an asset below a stream and a table, its check and its schedule."""

import dagster as dg
import pandas as pd

DAYS = dg.DailyPartitionsDefinition("2025-01-06", timezone="UTC")


@dg.asset(
    partitions_def=DAYS,
    group_name="sales",
    ins={
        "transactions": dg.AssetIn(key=["shop", "transaction_stream"]),
        "customers": dg.AssetIn(
            key=["shop", "user_transaction_summary"], partition_mapping=dg.LastPartitionMapping()
        ),
    },
)
def daily_sales(transactions: pd.DataFrame, customers: pd.DataFrame) -> dg.MaterializeResult:
    """Sales of a day, and how many of the shop's customers bought something."""
    buyers = transactions["USER_ID"].isin(customers["USER_ID"]).sum() if len(transactions) else 0
    return dg.MaterializeResult(
        metadata={"transactions": len(transactions), "of_known_customers": int(buyers)},
    )


@dg.asset_check(
    asset=daily_sales, additional_ins={"customers": dg.AssetIn(["shop", "user_transaction_summary"])}
)
def there_are_customers(customers: pd.DataFrame) -> dg.AssetCheckResult:
    """The newest version of the table of customers is not empty."""
    return dg.AssetCheckResult(passed=len(customers) > 0, metadata={"customers": len(customers)})


daily_sales_schedule = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("daily_sales_job", selection=[daily_sales], partitions_def=DAYS), hour_of_day=1
)

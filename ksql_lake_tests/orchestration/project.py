"""A small project on disk, and the ways a test drives its definitions in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.orchestration.project import scope_definitions
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import load_settings

DAYS = ("2025-01-06", "2025-01-07", "2025-01-08", "2025-01-09", "2025-01-10")
ROWS_PER_DAY = {"2025-01-06": 3, "2025-01-07": 2, "2025-01-08": 0, "2025-01-09": 1, "2025-01-10": 2}
"""What PAYMENTS holds; the eighth is a day without a row."""

VISITS = {
    datetime(2025, 2, 3, 12, tzinfo=UTC) + timedelta(weeks=week): count
    for week, count in enumerate((20, 21, 19, 20, 22, 2))
}
"""Visits of six Mondays; the last one lost most of them."""

_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def write_source_files(folder: Path) -> None:
    """Write what the server is filled from."""
    (folder / "1_payments.sql").write_text(
        "CREATE STREAM PAYMENTS (ID BIGINT, AMOUNT DECIMAL(10, 2), NOTE STRING) "
        "WITH (KAFKA_TOPIC='payments', VALUE_FORMAT='JSON', PARTITIONS=1);\n"
    )
    rows, number = [], 0
    for day, count in ROWS_PER_DAY.items():
        for hour in range(count):
            number += 1
            at = datetime.fromisoformat(f"{day}T{hour:02d}:30:00").replace(tzinfo=UTC)
            # Beyond what a float holds exactly, and a NULL: what a careless reader would lose.
            row = {
                "ROWTIME": int(at.timestamp() * 1000),
                "ID": 9007199254740993 + number,
                "AMOUNT": f"{number}.25",
                "NOTE": None if number % 2 else f"note {number}",
            }
            rows.append(json.dumps(row))
    (folder / "1_payments.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "2_refunds.sql").write_text(
        "CREATE STREAM REFUNDS (ID BIGINT) WITH (KAFKA_TOPIC='refunds', VALUE_FORMAT='JSON', PARTITIONS=1);\n"
    )
    (folder / "3_totals.sql").write_text(
        "CREATE TABLE TOTALS AS SELECT NOTE, COUNT(*) AS N FROM PAYMENTS GROUP BY NOTE;\n"
        "CREATE STREAM OTHER_PAYMENTS AS SELECT ID + 1000 AS ID FROM PAYMENTS;\n"
        "CREATE TABLE FEWER AS SELECT NOTE, COUNT(*) AS N FROM PAYMENTS WHERE AMOUNT < 8 GROUP BY NOTE;\n"
    )
    (folder / "4_visits.sql").write_text(
        "CREATE STREAM VISITS (ID BIGINT) WITH (KAFKA_TOPIC='visits', VALUE_FORMAT='JSON', PARTITIONS=1);\n"
    )
    visits = [
        json.dumps({"ROWTIME": int(at.timestamp() * 1000) + number, "ID": number})
        for at, count in VISITS.items()
        for number in range(count)
    ]
    (folder / "4_visits.jsonl").write_text("\n".join(visits) + "\n")


@dataclass(frozen=True)
class Project:
    """A project folder; its settings must be in the environment."""

    folder: Path

    def environment(self, url: str) -> dict[str, str]:
        """The environment of this project's processes."""
        (self.folder / "home").mkdir(exist_ok=True)
        return {
            "KSQLDB_URL": url,
            "KSQLDB_ATTEMPTS": "1",
            "KSQL_LAKE_ROOT": str(self.folder / "data_lake"),
            "KSQL_LAKE_FEEDS": str(self.folder / "feeds"),
            "DAGSTER_HOME": str(self.folder / "home"),
        }

    def write_feed(self, name: str, **keys: object) -> Path:
        """Write one feed file."""
        path = self.folder / "feeds" / "active" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name, **keys}))
        return path

    def copy_feeds(self, active: Path) -> None:
        """Take the feed files of a folder."""
        shutil.copytree(active, self.folder / "feeds" / "active")

    def write_feeds(self) -> None:
        """Write the two streams and the table."""
        self.write_feed("payments", kind="stream", source="PAYMENTS", start_date="2025-01-06")
        self.write_feed("refunds", kind="stream", source="REFUNDS", start_date="2025-01-09")
        self.write_feed("totals", kind="table", source="TOTALS")

    def lake(self, name: str) -> FeedLake:
        """The lake of one feed."""
        feed = FeedStore(self.folder / "feeds").load().get(name)
        return Lake(self.folder / "data_lake").feed(feed)

    def definitions(self) -> dg.Definitions:
        """The definitions of this moment; further attempts come at once instead of after half a minute."""
        return scope_definitions(Scope(load_settings(), retry_wait=0.0, whole_location=True))

    def materialize(
        self,
        instance: dg.DagsterInstance,
        *names: str,
        partition: str | None = None,
        days: tuple[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialise feeds in this process: one partition, a range of days, or without a partition."""
        defs = self.definitions()
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey([name]) for name in names],
            partition_key=partition,
            tags=dict(zip(_RANGE, days, strict=True)) if days else None,
            instance=instance,
            raise_on_error=False,
        )


def materialized(result: dg.ExecuteInProcessResult, name: str) -> dict[str | None, dict[str, Any]]:
    """Return the metadata of a feed's materialisations by partition."""
    found = result.get_asset_materialization_events()
    return {
        event.partition: {key: value.value for key, value in event.materialization.metadata.items()}
        for event in found
        if event.asset_key == dg.AssetKey([name])
    }


def checked(result: dg.ExecuteInProcessResult, name: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Return what the checks of a feed found in a run."""
    found = result.get_asset_check_evaluations()
    return {each.check_name: each for each in found if each.asset_key == dg.AssetKey([name])}


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """Return what the failed steps of a run say."""
    texts: Sequence[str] = [
        str(event.step_failure_data.user_failure_data.description)
        for event in result.get_step_failure_events()
        if event.step_failure_data.user_failure_data
    ]
    return "\n".join(texts)

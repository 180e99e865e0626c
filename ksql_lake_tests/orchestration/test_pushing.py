"""A feed that is read by push query is an asset like any other."""

from __future__ import annotations

import dagster as dg
import pytest

from ksql_lake.export.facts import ROWS
from ksql_lake_tests.orchestration.project import (
    DAYS,
    ROWS_PER_DAY,
    Project,
    failure_text,
    materialized,
)


def test_push_feeds_materialise_days_and_versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range of days is one query whose end was judged, which Dagster is told; a table gets its version."""
    monkeypatch.setenv("KSQLDB_QUIET_SECONDS", "0.5")
    dated = {"kind": "stream", "source": "PAYMENTS", "start_date": "2025-01-06"}
    project.write_feed("payments", **dated, extraction="push")
    project.write_feed("totals", kind="table", source="TOTALS", extraction="push", deleted=True)
    with dg.DagsterInstance.ephemeral() as instance:
        days = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))
        again = project.materialize(instance, "payments", partition=DAYS[0])
        table = project.materialize(instance, "totals")

        assert days.success, failure_text(days)
        told = materialized(days, "payments")
        assert {day: facts[ROWS] for day, facts in told.items()} == ROWS_PER_DAY
        assert told[DAYS[-1]]["caught_up"].startswith(
            "every partition of payments was read to where Kafka's log ended when the query began (8 in 1)"
        )
        assert "caught_up" not in told[DAYS[0]]
        assert materialized(again, "payments")[DAYS[0]]["new_rows"] == 0
        assert table.success, failure_text(table)
        (facts,) = materialized(table, "totals").values()
        assert facts["dagster/row_count"] > 0
    assert [column.name for column in project.lake("totals").state().columns or ()] == ["NOTE", "N", "deleted"]

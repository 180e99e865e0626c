"""A feed that is read by push query, or on from its marks, is an asset like any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export.facts import ROWS
from ksql_lake_tests.export.continuing.scene import ARGUMENTS, Scene
from ksql_lake_tests.export.push.server import DAY, Server
from ksql_lake_tests.orchestration.project import (
    DAYS,
    ROWS_PER_DAY,
    Project,
    failure_text,
    materialized,
)


def test_push_feeds_materialise_days_and_versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range of days is one query whose end was judged, as Dagster records; a table gets its version."""
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
        told = materialized(table, "totals")
        assert set(told) == {"v1", None}
        assert told["v1"]["dagster/row_count"] > 0
    assert [column.name for column in project.lake("totals").state().columns or ()] == ["NOTE", "N", "deleted"]


def test_rows_of_other_days_are_recorded_with_the_run_that_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one day reads what is new of every day; Dagster gets those days at once, and no other."""
    made, scene = Project(tmp_path), Scene("SALES")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, yesterday = (today - timedelta(days=9)), today - timedelta(days=1)
    days = [(start + timedelta(days=day)).date().isoformat() for day in range(10)]
    rows = [{"ID": day, "ROWTIME": int(start.timestamp() * 1000) + day * DAY} for day in range(3)]
    with DevServer.start(arguments=ARGUMENTS) as process, dg.DagsterInstance.ephemeral() as instance:
        server = Server(process.url)
        scene.create(server)
        server.append(scene.source, *rows)
        for name, value in made.environment(server.url).items():
            monkeypatch.setenv(name, value)
        made.write_feed(**scene.feed(start_date=days[0]).model_dump(mode="json", exclude_defaults=True))
        first = made.materialize(instance, "sales", partition=days[0])
        assert first.success, failure_text(first)
        known = instance.get_materialized_partitions(dg.AssetKey("sales"))
        late = [
            {"ID": 77, "ROWTIME": rows[2]["ROWTIME"]},
            {"ID": 78, "ROWTIME": int(yesterday.timestamp() * 1000)},
            {"ID": 79, "ROWTIME": int(today.timestamp() * 1000)},
        ]
        server.append(scene.source, *late)
        second = made.materialize(instance, "sales", partition=days[0])

    assert second.success, failure_text(second)
    assert known == set(days[:3])
    told = materialized(second, "sales")
    assert {day: facts[ROWS] for day, facts in told.items()} == {days[0]: 1, days[2]: 2, days[8]: 1}

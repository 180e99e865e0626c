"""Steps on worker processes, with PostgreSQL and Redis as in production, and a worker that dies."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import duckdb
import psycopg2
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import SettingsError
from ksql_lake.orchestration.execution import executor
from ksql_lake.orchestration.project import build_definitions
from ksql_lake.settings import load_settings
from ksql_lake_tests.deploy.fleet import Fleet, fleet
from ksql_lake_tests.orchestration.project import Project

FEEDS = tuple(f"sensor_{number}" for number in range(4))
SLOW = FEEDS[2]
ROWS = 400
FIRST = datetime.combine(datetime.now(UTC).date() - timedelta(days=20), time(), UTC)
"""Three weeks ago: Dagster records every day since, which takes long for years."""


def _write_sources(folder: Path) -> None:
    """Write four streams of 400 rows over four days."""
    for number, name in enumerate(FEEDS):
        (folder / f"{number}_{name}.sql").write_text(
            f"CREATE STREAM {name.upper()} (ID BIGINT, VALUE DECIMAL(10, 2)) "
            f"WITH (KAFKA_TOPIC='{name}', VALUE_FORMAT='JSON', PARTITIONS=1);\n"
        )
        rows = [
            {
                "ROWTIME": int((FIRST + timedelta(minutes=14 * row)).timestamp() * 1000),
                "ID": number * 1_000_000 + row,
                "VALUE": f"{row}.25",
            }
            for row in range(ROWS)
        ]
        (folder / f"{number}_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_killed_worker_costs_no_row_and_no_run(tmp_path: Path) -> None:
    """Four feeds go over two workers; one is killed with an export in flight; the run succeeds, rows exact."""
    (tmp_path / "sources").mkdir()
    _write_sources(tmp_path / "sources")
    project = Project(tmp_path)
    for name in FEEDS:
        project.write_feed(name, kind="stream", source=name.upper(), start_date=FIRST.date().isoformat())
    # Twenty seconds for the first who asks, no time for whoever asks again.
    slow = f"slow:source={SLOW.upper()},rows_per_second=20,times=1"
    with DevServer.start(data=tmp_path / "sources", arguments=["--fault", slow]) as server:
        environment = {**project.environment(server.url), "KSQL_LAKE_CELERY_VISIBILITY_TIMEOUT": "20"}
        del environment["DAGSTER_HOME"]
        with fleet(environment) as running:
            run = running.launch("streams")
            running.until(lambda: _reading(server))
            victim = running.until(lambda: dict(running.executions(run)).get(SLOW))
            running.kill(victim)

            assert running.until(lambda: running.ended(run)) == "SUCCESS"

            executions = running.executions(run)
            assert {name for name, _ in executions} == set(FEEDS)
            assert {worker for _, worker in executions} == {"worker1", "worker2"}
            assert next(worker for name, worker in executions if name == SLOW) == victim
            assert len([name for name, _ in executions if name == SLOW]) > 1
            assert _runs_in_postgres(running) == [(run, "SUCCESS")]
    for number, name in enumerate(FEEDS):
        assert _rows(project.folder / "data_lake" / "streams" / name) == [
            (number * 1_000_000 + row, f"{row}.25") for row in range(ROWS)
        ]


def _reading(server: DevServer) -> bool:
    told = requests.get(f"{server.url}/devserver/queries", timeout=30).json()
    return any(SLOW.upper() in json.dumps(query) for query in told)


def _rows(dataset: Path) -> list[tuple[int, str]]:
    query = f"SELECT ID, VALUE::VARCHAR FROM read_parquet('{dataset}/**/*.parquet') ORDER BY ID"
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def _runs_in_postgres(running: Fleet) -> list[tuple[str, str]]:
    secret = (running.state / "secret").read_text().strip()
    port = (running.state / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    with (
        psycopg2.connect(
            host="127.0.0.1", port=int(port), user="dagster", password=secret, dbname="dagster"
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT run_id, status FROM runs")
        return list(cursor.fetchall())


def test_without_the_package_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """KSQL_LAKE_EXECUTOR=celery on a machine without Celery names the extra to install."""
    monkeypatch.setitem(sys.modules, "dagster_celery", None)

    with pytest.raises(SettingsError) as caught:
        executor(load_settings(executor="celery"))

    assert str(caught.value).startswith("KSQL_LAKE_EXECUTOR=celery needs packages that are not installed")
    assert "pip install 'ksql-lake[celery]'" in str(caught.value)


def test_the_brokers_password_stays_out_of_dagsters_pages(tmp_path: Path) -> None:
    """Nothing of a job that the UI shows holds the address of the broker."""
    project = Project(tmp_path)
    project.write_feeds()
    settings = load_settings(
        executor="celery",
        celery_broker="redis://:correct-horse@127.0.0.1:6379/0",
        feeds_root=tmp_path / "feeds",
        lake_root=str(tmp_path / "data_lake"),
    )

    job = build_definitions(settings).resolve_job_def("streams")

    assert job.executor_def.name == "celery"
    assert "correct-horse" not in str(job.get_job_snapshot())

"""The jobs that keep house."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import dagster as dg
import pytest

from ksql_lake.devserver.door import append
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _run(project: Project, instance: dg.DagsterInstance, job: str) -> dg.ExecuteInProcessResult:
    return project.definitions().get_job_def(job).execute_in_process(instance=instance, raise_on_error=False)


def test_retention_removes_versions_here_and_there(project: Project, instance: dg.DagsterInstance) -> None:
    """After `retention` was lowered the job removes the older versions from the lake and from Dagster."""
    for _ in range(3):
        assert project.materialize(instance, "totals").success
    project.write_feed("totals", kind="table", source="TOTALS", retention=1)

    result = _run(project, instance, "retention")

    assert result.success, failure_text(result)
    assert project.lake("totals").state().partition_keys() == ["v3"]
    assert instance.get_dynamic_partitions("totals_versions") == ["v3"]
    assert _run(project, instance, "retention").success


def test_compaction_merges_and_keeps_every_row(project: Project, instance: dg.DagsterInstance) -> None:
    """A day of two files becomes one of one file with the same rows."""
    noon = int(datetime.fromisoformat(f"{DAYS[0]}T12:00:00+00:00").timestamp() * 1000)
    url = load_settings().ksqldb_url
    project.write_feed("payments", kind="stream", source="SPLIT", start_date="2025-01-06")
    with KsqlClient(load_settings()) as client:
        made = "CREATE STREAM SPLIT (ID BIGINT) WITH (KAFKA_TOPIC='split', VALUE_FORMAT='JSON', PARTITIONS=1);"
        client.execute(made)
        for first in (1, 3):
            append(url, "SPLIT", [{"ROWTIME": noon + number, "ID": number} for number in (first, first + 1)])
            assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[0])).success
        client.execute("DROP STREAM SPLIT;")
    before = project.lake("payments").state()

    result = _run(project, instance, "compaction")

    assert result.success, failure_text(result)
    after = project.lake("payments").state()
    assert len(before.files_of(DAYS[0])) == 2
    assert len(after.files_of(DAYS[0])) == 1
    assert after.records == before.records == 4


def test_one_broken_feed_stops_no_other(project: Project, instance: dg.DagsterInstance) -> None:
    """The run fails and names the feed whose manifests cannot be read; the others were done."""
    project.write_feed("fewer", kind="table", source="FEWER")
    for name in ("fewer", "totals", "totals"):
        assert project.materialize(instance, name).success
    project.write_feed("totals", kind="table", source="TOTALS", retention=1)
    commits = project.folder / "data_lake" / "metadata" / "tables" / "fewer" / "commits"
    (commits / f"{1:020d}.json").write_text("torn")

    result = _run(project, instance, "retention")

    assert not result.success
    assert "feed fewer" in failure_text(result)
    assert project.lake("totals").state().partition_keys() == ["v2"]

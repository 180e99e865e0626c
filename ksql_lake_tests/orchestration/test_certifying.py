"""Closed days against their source, from Dagster."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import DAYS, Project, checked, failure_text


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _certify(
    project: Project, instance: dg.DagsterInstance, day: str, *feeds: str, job: str = "certify"
) -> dg.ExecuteInProcessResult:
    ops = {f"_{job}_day": {"config": {"feeds": list(feeds)}}}
    found = project.definitions().get_job_def(job)
    return found.execute_in_process(
        instance=instance, partition_key=day, run_config={"ops": ops}, raise_on_error=False
    )


def _evaluation(instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey([name]), "certificate")
    (record,) = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
    event = record.event.dagster_event if record.event else None
    assert event is not None
    return event.asset_check_evaluation_data


def test_a_day_that_is_whole_passes(project: Project, instance: dg.DagsterInstance) -> None:
    """All streams that have begun are compared; the evaluation has rows and checksums of both sides."""
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    result = _certify(project, instance, DAYS[0])

    assert result.success, failure_text(result)
    found = _evaluation(instance, "payments")
    assert found.passed
    assert (
        found.description
        == f"{DAYS[0]}, read again from the server: the 3 rows of the lake equal those of the source."
    )
    assert found.metadata["lake_checksum"] == found.metadata["source_checksum"]


def test_rows_that_are_missing_fail_the_run(project: Project, instance: dg.DagsterInstance) -> None:
    """A day that was never exported is missing hour by hour, and the failure names the way out."""
    project.materialize(instance, "payments", partition=DAYS[0])

    result = _certify(project, instance, DAYS[1], "payments")

    assert not result.success
    said = failure_text(result)
    assert "2025-01-07 00:00 UTC: 1 row is missing in the lake" in said
    assert "ksql-lake export --stream payments --date 2025-01-07" in said
    assert not _evaluation(instance, "payments").passed


def test_what_kafka_has_deleted_since_is_nobodys_fault(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that only the lake still has are reported, and the check passes."""
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))
    with DevServer.start() as server:
        monkeypatch.setenv("KSQLDB_URL", server.url)
        _create_payments(server.url)
        result = _certify(project, instance, DAYS[0], "payments")

    assert result.success, failure_text(result)
    found = _evaluation(instance, "payments")
    assert found.passed
    assert "in the lake only" in str(found.description)


def test_a_column_that_was_not_compared_is_named(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation does not call a column equal that the day's files lack."""
    with DevServer.start() as server, KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        monkeypatch.setenv("KSQLDB_URL", server.url)
        _create_payments(server.url)
        client.execute("INSERT INTO PAYMENTS (ROWTIME, ID, NOTE) VALUES (1736121600000, 1, 'one');")
        project.materialize(instance, "payments", partition=DAYS[0])
        client.execute("ALTER STREAM PAYMENTS ADD COLUMN PLACE STRING;")
        result = _certify(project, instance, DAYS[0], "payments")

    assert result.success, failure_text(result)
    assert str(_evaluation(instance, "payments").description).endswith(
        "the 1 rows of the lake equal those of the source, without what cannot be compared: PLACE."
    )


def _create_payments(url: str) -> None:
    """Make PAYMENTS on a server that has lost its rows."""
    with KsqlClient(load_settings(ksqldb_url=url)) as client:
        client.execute(
            "CREATE STREAM PAYMENTS (ID BIGINT, AMOUNT DECIMAL(10, 2), NOTE STRING) "
            "WITH (KAFKA_TOPIC='payments', VALUE_FORMAT='JSON', PARTITIONS=1);"
        )


def test_each_time_zone_has_its_own_days(project: Project, instance: dg.DagsterInstance) -> None:
    """Streams of another zone have a job of their own; a name that is no stream of the zone is refused."""
    project.write_feed(
        "berlin", kind="stream", source="PAYMENTS", start_date="2025-01-06", timezone="Europe/Berlin"
    )
    project.materialize(instance, "berlin", partition=DAYS[1])

    berlin = _certify(project, instance, DAYS[1], job="certify_Europe_Berlin")
    wrong = _certify(project, instance, DAYS[1], "berlin")

    assert berlin.success, failure_text(berlin)
    assert "there is no stream named berlin in this job; it has payments, refunds" in failure_text(wrong)


def test_a_day_that_is_not_as_certified_is_found(project: Project, instance: dg.DagsterInstance) -> None:
    """The check of an export compares what its days hold with their certificates."""
    found = checked(project.materialize(instance, "payments", days=(DAYS[0], DAYS[1])), "payments")

    assert found["certificate"].passed
    assert found["certificate"].description == "2 of 2 closed days hold what was certified."

"""The ksqlDB side of the asset graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export.topology import KEY, kept_topology, read_topology, save_topology
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration import build_definitions
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import Project, failure_text

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def _refresh(project: Project, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = project.definitions().get_job_def("ksqldb_sources")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def _upstream(spec: dg.AssetSpec) -> set[str]:
    return {dep.asset_key.to_user_string() for dep in spec.deps}


def test_the_sample_shows_how_its_sources_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transaction_stream feeds transaction_flattened, that one user_transaction_summary, as the server says."""
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(REPOSITORY / "feeds"))
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(tmp_path))
    with (
        DevServer.start(sample=True) as server,
        KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client,
    ):
        save_topology(read_topology(client), Lake(tmp_path))

    specs = _specs(build_definitions(load_settings()))

    summary, flattened = specs["ksqldb/USER_TRANSACTION_SUMMARY"], specs["ksqldb/TRANSACTION_FLATTENED"]
    assert _upstream(summary) == {"ksqldb/TRANSACTION_FLATTENED"}
    assert _upstream(flattened) == {"ksqldb/TRANSACTION_STREAM"}
    assert _upstream(specs["ksqldb/TRANSACTION_STREAM"]) == set()
    assert _upstream(specs["transaction_flattened"]) == {"ksqldb/TRANSACTION_FLATTENED"}


def test_a_source_tells_what_the_server_tells(project: Project, instance: dg.DagsterInstance) -> None:
    """After the job ran, a source shows its statement, columns, topic, formats and the query that writes it."""
    assert set(_specs(project.definitions())["ksqldb/TOTALS"].metadata) >= {"server", "source_kind"}

    result = _refresh(project, instance)

    assert result.success, failure_text(result)
    specs = _specs(project.definitions())
    totals, payments = specs["ksqldb/TOTALS"], specs["ksqldb/PAYMENTS"]
    assert _upstream(totals) == {"ksqldb/PAYMENTS"}
    assert "CREATE TABLE TOTALS" in (totals.description or "")
    assert (payments.metadata["topic"], payments.metadata["value_format"]) == ("payments", "JSON")
    schema = payments.metadata["dagster/column_schema"]
    assert [(column.name, column.type) for column in schema.columns] == [
        ("ID", "BIGINT"),
        ("AMOUNT", "DECIMAL(10, 2)"),
        ("NOTE", "STRING"),
    ]
    (query,) = [value for name, value in totals.metadata.items() if name.startswith("query ")]
    assert "GROUP BY" in query.value
    assert "ksqldb/VISITS" not in specs


def test_a_server_that_is_away_changes_nothing(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job fails and names the server; what was known stays, and the location loads without the server."""
    _refresh(project, instance)
    before = _specs(project.definitions())
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    result = _refresh(project, instance)

    assert not result.success
    assert "http://127.0.0.1:9" in failure_text(result)
    assert set(_specs(project.definitions())) == set(before)


def test_what_cannot_be_read_counts_as_unknown(project: Project, instance: dg.DagsterInstance) -> None:
    """A torn file hides no feed; the next run of the job replaces it."""
    path = project.folder / "data_lake" / KEY
    path.parent.mkdir(parents=True)
    path.write_text('{"server": ')
    assert "ksqldb/PAYMENTS" in _specs(project.definitions())

    _refresh(project, instance)

    assert {"PAYMENTS", "REFUNDS", "TOTALS"} <= set(kept_topology(Lake(project.folder / "data_lake")).sources)


def test_the_same_answer_is_written_once(project: Project, server: DevServer) -> None:
    """An unchanged server leaves the file alone, so nothing is reloaded for it."""
    lake = Lake(project.folder / "data_lake")
    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        assert save_topology(read_topology(client), lake)
        assert not save_topology(read_topology(client), lake)

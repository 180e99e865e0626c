"""Exports from the shell as the Dagster instance sees them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from ksql_lake.errors import ConfigError
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.export.expiry import kept_retention
from ksql_lake.export.facts import ROWS
from ksql_lake.export.judging import judge_export
from ksql_lake.export.topology import Topology
from ksql_lake.feeds import FeedStore, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration.recording import export_seconds, record
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project, checked, materialized


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """The project's own instance."""
    with dg.DagsterInstance.from_config(str(project.folder / "home")) as made:
        yield made


def _export(project: Project, name: str, *, days: Days | None = None) -> ExportResult:
    """Export one feed as the shell does."""
    feed = FeedStore(project.folder / "feeds").load().get(name)
    with KsqlClient(load_settings()) as client:
        return export_feed(feed, client, Lake(project.folder / "data_lake"), days=days)


JANUARY = Days(date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[-1]))


_CHECKED = (
    "min_records",
    "not_null",
    "day_boundaries",
    "volume",
    "certificate",
    "schema_unchanged",
    "files_match",
    "topic_retention",
)


def _events(instance: dg.DagsterInstance, name: str) -> dict[str | None, dg.AssetMaterialization]:
    records = instance.fetch_materializations(dg.AssetKey([name]), limit=1000).records
    return {each.partition_key: each.asset_materialization for each in records if each.asset_materialization}


def test_a_shell_export_looks_like_a_run(project: Project, instance: dg.DagsterInstance) -> None:
    """Each day is materialised with the very metadata a run would have given it."""
    record([_export(project, "payments", days=JANUARY)], settings=load_settings())

    events = _events(instance, "payments")
    assert {day: event.metadata[ROWS].value for day, event in events.items()} == ROWS_PER_DAY
    in_run = materialized(project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])), "payments")
    assert {day: set(event.metadata) for day, event in events.items()} == {
        day: set(facts) for day, facts in in_run.items()
    }
    for name in ("dagster/column_schema", "dagster/row_count", "sample", "duckdb"):
        assert events[DAYS[-1]].metadata[name].value == in_run[DAYS[-1]][name]


def test_the_page_shows_the_whole_feed_after_news_of_an_older_day(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """Dagster's page takes rows, size and columns from the last materialisation, whatever its day."""
    later = Days(date.fromisoformat(DAYS[2]), date.fromisoformat(DAYS[-1]))
    record([_export(project, "payments", days=later)], settings=load_settings())

    record([_export(project, "payments", days=JANUARY)], settings=load_settings())

    newest = instance.get_latest_materialization_event(dg.AssetKey(["payments"]))
    assert newest is not None
    event = newest.asset_materialization
    assert event is not None
    assert (event.partition, event.metadata[ROWS].value) == (DAYS[1], ROWS_PER_DAY[DAYS[1]])
    assert event.metadata["dagster/row_count"].value == sum(ROWS_PER_DAY.values())
    assert {"dagster/size_bytes", "dagster/column_schema", "duckdb"} < set(event.metadata)


def test_a_shell_export_is_checked_like_a_run(project: Project, instance: dg.DagsterInstance) -> None:
    """The instance holds what each check of the feed found, in a run's very words and with its severity."""
    checks = {"min_records": 2, "not_null": ["NOTE"], "severity": {"min_records": "error"}}
    project.write_feed(
        "payments",
        kind="stream",
        source="PAYMENTS",
        start_date="2025-01-06",
        checks=checks,
        topic_retention_hours=1e6,
    )
    _export(project, "payments", days=JANUARY)
    result = _export(project, "payments", days=JANUARY)
    assert isinstance(result.feed, StreamFeed)
    judged = judge_export(result, project.lake("payments"), kept_retention(result.feed, Topology()))
    record([result], settings=load_settings(), checks={"payments": judged})

    keys = [dg.AssetCheckKey(dg.AssetKey(["payments"]), name) for name in _CHECKED]
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    told = {}
    for key, execution in found.items():
        event = execution.event.dagster_event if execution.event else None
        assert event is not None
        told[key.name] = event.asset_check_evaluation_data
    in_run = checked(project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])), "payments")
    assert {name: (each.passed, each.severity, each.description) for name, each in told.items()} == {
        name: (each.passed, each.severity, each.description) for name, each in in_run.items()
    }
    assert [name for name, each in told.items() if not each.passed] == ["min_records", "not_null"]
    assert told["not_null"].metadata["partitions"].value == f"{DAYS[0]} to {DAYS[-1]}"


def test_the_running_day_is_only_observed(project: Project, instance: dg.DagsterInstance) -> None:
    """What may still grow is not called materialised; every day before it is, quiet ones too."""
    result = _export(project, "payments")

    record([result], settings=load_settings())

    today = result.partitions[-1].partition
    events = _events(instance, "payments")
    assert today not in events
    assert set(ROWS_PER_DAY) <= set(events)
    assert set(events) == {part.partition for part in result.partitions[:-1]}
    observed = instance.fetch_observations(dg.AssetKey(["payments"]), limit=2).records
    assert [each.partition_key for each in observed] == [today]


def test_versions_are_kept_in_step(project: Project, instance: dg.DagsterInstance) -> None:
    """A table exported from the shell is materialised and its versions are those of the lake in Dagster."""
    record([_export(project, "totals"), _export(project, "totals")], settings=load_settings())

    assert set(_events(instance, "totals")) == {"v1", "v2"}
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]


def test_dagster_remembers_how_long_an_export_took(project: Project) -> None:
    """The demo's table reads the seconds back from the instance."""
    result = _export(project, "payments", days=JANUARY)
    record([result], settings=load_settings())

    assert export_seconds(["payments", "refunds"], home=project.folder / "home") == {
        "payments": round(result.seconds, 3)
    }


def test_without_dagster_home_nothing_is_recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not use Dagster hears nothing of it."""
    monkeypatch.delenv("DAGSTER_HOME")

    record([_export(project, "payments", days=JANUARY)], settings=load_settings())

    assert list((project.folder / "home").iterdir()) == []


def test_an_unusable_home_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that the exports landed, and what to correct."""
    result = _export(project, "payments", days=JANUARY)
    home: Path = project.folder / "home"
    (home / "dagster.yaml").write_text("no_such_key: 1\n")

    with pytest.raises(ConfigError) as broken:
        record([result], settings=load_settings())
    monkeypatch.setenv("DAGSTER_HOME", str(project.folder / "nowhere"))
    with pytest.raises(ConfigError) as missing:
        record([result], settings=load_settings())

    assert "the exports landed, but Dagster's records could not be updated" in str(broken.value)
    assert "no_such_key" in str(broken.value)
    assert str(missing.value).startswith(f"dagster_home {project.folder / 'nowhere'}: the exports landed")
    assert "there is no such folder" in str(missing.value)

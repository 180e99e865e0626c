"""Feeds that export nothing keep their asset keys, so that assets of a user below them load."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pandas as pd
import pytest

from ksql_lake_tests.orchestration.project import DAYS, Project, failure_text

TORN = '{"name": "payments", "kind": "stream", "source": "PAY'


def _disable(project: Project) -> None:
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date="2025-01-06", enabled=False)
    project.write_feed("totals", kind="table", source="TOTALS", enabled=False)


def _archive(project: Project) -> None:
    active, archived = (project.folder / "feeds" / name for name in ("active", "archived"))
    archived.mkdir()
    for name in ("payments.json", "totals.json"):
        (active / name).rename(archived / name)


def _break(project: Project) -> None:
    active = project.folder / "feeds" / "active"
    (active / "payments.json").write_text(TORN)
    (active / "totals.json").write_text('{"name": "totals", "kind": "table", "retention": "many"}')


def _empty(project: Project) -> None:
    for name in ("payments.json", "totals.json"):
        (project.folder / "feeds" / "active" / name).write_text("")


STATES = {"disabled": _disable, "archived": _archive, "quarantine": _break}


def _below() -> list[dg.AssetsDefinition]:
    """What a user may have below a stream and a table, with every kind of partition mapping."""
    days = dg.DailyPartitionsDefinition("2025-01-06", timezone="UTC")
    two_days = dg.TimeWindowPartitionMapping(start_offset=-1)

    @dg.asset(
        partitions_def=days,
        ins={
            "payments": dg.AssetIn(partition_mapping=two_days),
            "totals": dg.AssetIn(partition_mapping=dg.LastPartitionMapping()),
        },
    )
    def daily(payments: pd.DataFrame, totals: pd.DataFrame) -> int:
        return len(payments) + len(totals)

    @dg.asset
    def everything(payments: pd.DataFrame, totals: pd.DataFrame) -> int:
        return len(payments) * 1000 + len(totals)

    @dg.asset(deps=["payments", "totals"])
    def after() -> None: ...

    return [daily, everything, after]


def _user(project: Project) -> dg.Definitions:
    job = dg.define_asset_job("nightly", selection=dg.AssetSelection.assets("everything").upstream())
    return dg.Definitions.merge(project.definitions(), dg.Definitions(assets=_below(), jobs=[job]))


def _run(defs: dg.Definitions, instance: dg.DagsterInstance, name: str) -> dg.ExecuteInProcessResult:
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey([name])],
        instance=instance,
        partition_key="2025-01-07" if name == "daily" else None,
        raise_on_error=False,
    )


@pytest.mark.parametrize("state", STATES)
def test_what_is_below_loads_and_the_reason_is_shown(project: Project, state: str) -> None:
    """The keys stay, external, in a group of their own, and their descriptions say what is the matter."""
    STATES[state](project)

    defs = _user(project)

    defs.get_repository_def().load_all_definitions()
    graph = defs.get_repository_def().asset_graph
    for name, says in (("payments", "payments.json"), ("totals", "retention")):
        node = graph.get(dg.AssetKey([name]))
        assert node.is_external
        assert node.group_name == state
        assert "nothing is exported" in (node.description or "")
        if state == "quarantine":
            assert says in (node.description or "")
    assert {"daily", "everything", "after", "refunds"} <= {
        key.path[-1] for key in graph.materializable_asset_keys
    }
    assert "streams" in defs.get_repository_def().job_names
    assert "table_totals" not in defs.get_repository_def().job_names


@pytest.mark.parametrize("state", STATES)
def test_what_is_below_gets_rows_or_the_reason(project: Project, state: str) -> None:
    """Rows of an archived or disabled feed can be read; the meaning of a broken feed's rows is unknown."""
    with dg.DagsterInstance.ephemeral() as instance:
        assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])).success
        assert project.materialize(instance, "totals").success
        STATES[state](project)
        defs = _user(project)

        results = {name: _run(defs, instance, name) for name in ("daily", "everything", "after")}

    assert results["after"].success
    if state == "quarantine":
        assert "payments.json" in failure_text(results["daily"])
        assert "payments.json" in failure_text(results["everything"])
        assert not results["daily"].success
        assert not results["everything"].success
    else:
        assert results["daily"].output_for_node("daily") == 3 + 2 + 4
        assert results["everything"].output_for_node("everything") == 8004


@pytest.mark.parametrize("spoil", [_break, _empty])
def test_a_broken_file_keeps_its_partitions(project: Project, spoil: Callable[[Project], None]) -> None:
    """Of a file that says nothing the lake knows the kind; mappings of assets below stay valid."""
    with dg.DagsterInstance.ephemeral() as instance:
        assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])).success
        assert project.materialize(instance, "totals").success
    spoil(project)

    repository = _user(project).get_repository_def()

    repository.load_all_definitions()
    days = repository.asset_graph.get(dg.AssetKey(["payments"])).partitions_def
    versions = repository.asset_graph.get(dg.AssetKey(["totals"])).partitions_def
    assert isinstance(days, dg.DailyPartitionsDefinition)
    assert days.get_first_partition_key() == "2025-01-06"
    assert isinstance(versions, dg.DynamicPartitionsDefinition)
    assert versions.name == "totals_versions"


def test_an_archived_file_that_is_broken_keeps_its_key_too(project: Project) -> None:
    """Archived and then spoilt, a feed is still there; a twin of an active feed is not shown twice."""
    _archive(project)
    archived = project.folder / "feeds" / "archived"
    (archived / "totals.json").write_text('{"kind": "table"')
    (archived / "refunds.json").write_text("{}")

    graph = _user(project).get_repository_def().asset_graph

    assert "archived" in (graph.get(dg.AssetKey(["totals"])).description or "")
    assert graph.get(dg.AssetKey(["refunds"])).is_materializable


def test_a_feed_may_be_called_like_the_report(project: Project) -> None:
    """Also where it is archived: the report takes another key."""
    project.write_feed(
        "monitoring_report", kind="stream", source="VISITS", start_date="2025-02-01", enabled=False
    )

    repository = project.definitions().get_repository_def()

    repository.load_all_definitions()
    assert repository.asset_graph.get(dg.AssetKey(["ksql_lake", "monitoring_report"])).is_materializable

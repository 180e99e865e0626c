"""What Dagster sees of a project folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import available_timezones

import dagster as dg
import pytest

from ksql_lake.feeds import StreamFeed
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.orchestration import build_definitions
from ksql_lake.orchestration.internals import next_tick
from ksql_lake.orchestration.partitions import daily_partitions, first_days
from ksql_lake.orchestration.schedules import stream_job
from ksql_lake.settings import load_settings
from ksql_lake_tests.orchestration.project import Project
from ksql_lake_tests.orchestration.sample_definitions import KEPT, sample_definitions

REPOSITORY = Path(__file__).parents[2]


def _node(defs: dg.Definitions, *path: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if list(spec.key.path) == list(path))


def test_the_sample_project_has_exactly_these_definitions(tmp_path: Path) -> None:
    """Keys, partitions, checks, jobs, schedules and sensors of the sample project change only on purpose.

    After such a change: python -m ksql_lake_tests.orchestration.sample_definitions
    """
    assert sample_definitions(tmp_path).splitlines() == KEPT.read_text(encoding="utf-8").splitlines()


def test_an_asset_says_who_owns_it_and_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Description, owners, tags, kinds and the source above it come from the feed file."""
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(REPOSITORY / "feeds"))

    spec = _node(build_definitions(load_settings()), "transaction_stream")

    assert spec.description
    assert list(spec.owners) == ["team:payments"]
    assert spec.tags["domain"] == "payments"
    assert spec.kinds == {"kafka", "parquet"}
    assert spec.metadata["dagster/table_name"] == "transaction_stream"
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert reference.file_path == str(REPOSITORY / "feeds" / "active" / "transaction_stream.json")
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["ksqldb/TRANSACTION_STREAM"]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # of `backfill_policy`
@pytest.mark.parametrize("name", ["payments", "totals"])
def test_an_asset_is_the_one_that_dagsters_decorator_makes(project: Project, name: str) -> None:
    """Assets are made without `dg.asset`, which takes longer; only their outputs repeat no descriptions."""
    made = next(asset for asset in project.definitions().assets or () if asset_keys(asset) == [name])
    assert isinstance(made, dg.AssetsDefinition)
    spec = made.get_asset_spec()

    @dg.asset(
        key=spec.key,
        description=spec.description,
        group_name=spec.group_name,
        kinds=spec.kinds,
        code_version=spec.code_version,
        owners=spec.owners,
        tags={tag: text for tag, text in spec.tags.items() if "/kind/" not in tag},
        metadata=spec.metadata,
        deps=[dep.asset_key for dep in spec.deps],
        partitions_def=spec.partitions_def,
        automation_condition=spec.automation_condition,
        backfill_policy=made.backfill_policy,
        check_specs=list(made.check_specs),
        io_manager_key="lake_io_manager",
        required_resource_keys={"ksqldb", "lake"},
        pool="ksqldb",
    )
    def expected() -> Iterator[dg.Output[None]]:
        yield dg.Output(None)

    assert facts(made) == facts(expected)


def asset_keys(asset: object) -> list[str]:
    """Return the keys of an asset that runs, as text."""
    if not isinstance(asset, dg.AssetsDefinition) or not asset.is_executable:
        return []
    return [key.to_user_string() for key in asset.keys]


def facts(asset: dg.AssetsDefinition) -> dict[str, object]:
    """Return what Dagster sees of an asset and of its op."""
    op = asset.op
    return {
        "spec": asset.get_asset_spec(),
        "op": (op.name, op.description, op.pool, op.required_resource_keys, op.tags),
        "inputs": {read.name: read.dagster_type.display_name for read in op.input_defs},
        "outputs": {
            out.name: (out.dagster_type.display_name, out.is_required, out.io_manager_key, out.code_version)
            for out in op.output_defs
        },
        "input keys": asset.keys_by_input_name,
        "output keys": asset.keys_by_output_name,
        "checks": asset.check_specs_by_output_name,
        "policy": (asset.backfill_policy, asset.can_subset),
    }


def test_the_code_version_follows_what_a_feed_means(project: Project) -> None:
    """It changes with what decides about rows and columns, not with words, times and owners."""

    def version(**keys: object) -> str | None:
        project.write_feed("visits", kind="stream", source="VISITS", start_date="2025-02-01", **keys)
        return _node(project.definitions(), "visits").code_version

    plain = version()

    assert plain
    assert (
        version(
            schedule="@daily", description="Visits", owners=["team:web"], tags={"group": "web"}, sample_rows=0
        )
        == plain
    )
    assert version(descriptions={"ID": "number"}, checks={"min_records": 1}, automation="condition") == plain
    assert (
        len({plain, version(columns=["ID"]), version(rename={"ID": "n"}), version(timezone="Asia/Tokyo")}) == 4
    )


def test_a_tag_puts_a_feed_into_a_group(project: Project) -> None:
    """With hundreds of feeds the graph shows a box per group; what a group cannot be called is replaced."""
    project.write_feed(
        "visits", kind="stream", source="VISITS", start_date="2025-02-01", tags={"group": "web-shop.eu"}
    )

    defs = project.definitions()

    assert [_node(defs, name).group_name for name in ("visits", "payments", "totals")] == [
        "web_shop_eu",
        "streams",
        "tables",
    ]


def test_schedules_wait_for_a_person(project: Project) -> None:
    """No schedule runs before it is switched on, nor a sensor that asks the server; the others do."""
    repository = project.definitions().get_repository_def()

    assert {schedule.default_status for schedule in repository.schedule_defs} == {
        dg.DefaultScheduleStatus.STOPPED
    }
    assert {
        sensor.name
        for sensor in repository.sensor_defs
        if sensor.default_status is not dg.DefaultSensorStatus.RUNNING
    } == {"streams_due", "streams_closing", "tables_due", "new_sources"}


def test_a_tick_asks_for_what_is_due(project: Project) -> None:
    """Days that have ended are a run over their range, the running day is one without a partition."""
    project.write_feed(
        "visits", kind="stream", source="VISITS", start_date="2025-02-01", schedule="0 6-8 * * MON"
    )
    repository = project.definitions().get_repository_def()
    cursor = json.dumps({"since": "2026-01-01T00:00:00+00:00", "waiting": {}})

    def asked(name: str) -> list[tuple[str | None, list[str]]]:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
            tick = repository.get_sensor_def(name).evaluate_tick(context)
        return [
            (
                run.tags.get("dagster/asset_partition_range_start"),
                [key.to_user_string() for key in run.asset_selection or []],
            )
            for run in tick.run_requests or []
        ]

    days = [("2025-01-06", ["payments"]), ("2025-01-09", ["refunds"]), ("2025-02-01", ["visits"])]
    assert asked("streams_due") == [*days, (None, ["payments", "refunds", "visits"])]
    assert asked("streams_closing") == days
    assert asked("tables_due") == [(None, ["totals"])]
    assert repository.get_schedule_def("compaction_schedule").cron_schedule == "0 4 * * *"


@pytest.mark.parametrize(("day", "hours"), [("2025-03-30", 23), ("2025-10-26", 25), ("2025-10-27", 24)])
def test_an_hourly_feed_is_due_once_in_every_hour_there_is(project: Project, day: str, hours: int) -> None:
    """A Berlin day has 23 hours in March and 25 in October, and as many ticks of the default expression."""
    project.write_feed(
        "berlin", kind="stream", source="VISITS", start_date="2025-02-01", timezone="Europe/Berlin"
    )
    days = project.definitions().get_repository_def().asset_graph.get(dg.AssetKey("berlin")).partitions_def
    assert isinstance(days, dg.TimeWindowPartitionsDefinition)
    window = days.time_window_for_partition_key(day)
    ticks, moment = set(), window.start

    while moment < window.end:
        moment = next_tick(DEFAULT_SCHEDULES["stream"], "Europe/Berlin", moment)
        ticks |= {moment} if moment < window.end else set()

    assert len(ticks) == hours


def test_a_broken_feed_file_is_shown_and_hides_nothing(project: Project) -> None:
    """A file that is no JSON becomes an entry of the group `quarantine` that says where and what is wrong.

    No feed can be called like this one, so it is no asset of that name either.
    """
    broken = project.folder / "feeds" / "active" / "bro ken.json"
    broken.write_text('{"name": "broken",')

    defs = project.definitions()

    names = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert {"payments", "refunds", "totals"} <= names
    shown = _node(defs, "quarantine", "bro ken")
    assert shown.group_name == "quarantine"
    assert shown.description is not None
    assert "bro ken.json" in shown.description
    assert "line 1" in shown.description


def test_disabled_and_archived_feeds_export_nothing(project: Project) -> None:
    """Only what is active and enabled can be materialised; the others keep their keys."""
    project.write_feed("refunds", kind="stream", source="REFUNDS", start_date="2025-01-09", enabled=False)
    archived = project.folder / "feeds" / "archived"
    archived.mkdir()
    (project.folder / "feeds" / "active" / "totals.json").rename(archived / "totals.json")

    graph = project.definitions().get_repository_def().asset_graph

    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
        "payments",
        "monitoring_report",
    }
    assert {key.to_user_string() for key in graph.external_asset_keys} == {
        "ksqldb/PAYMENTS",
        "refunds",
        "totals",
    }


def test_loading_writes_nothing_and_asks_no_server(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code location loads while the server is down, and leaves the lake and DAGSTER_HOME untouched."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    before = sorted(project.folder.rglob("*"))

    project.definitions().get_repository_def()

    assert sorted(project.folder.rglob("*")) == before


def test_feeds_of_one_source_share_its_external_asset(project: Project) -> None:
    """Two feeds that read the same stream hang below one external asset."""
    project.write_feed("payments_berlin", kind="stream", source="PAYMENTS", start_date="2025-01-01",
                       timezone="Europe/Berlin")  # fmt: skip

    shown = _node(project.definitions(), "ksqldb", "PAYMENTS")

    assert shown.description == "The ksqlDB stream `PAYMENTS`, read by payments, payments_berlin."


def test_streams_of_a_zone_share_one_daily_partitioning() -> None:
    """The earliest start date of a zone's feeds begins its partitions, and the running day is none of them."""

    def feed(name: str, start: str, timezone: str) -> StreamFeed:
        return StreamFeed.model_validate(
            {"name": name, "kind": "stream", "source": "S", "start_date": start, "timezone": timezone}
        )

    feeds = [
        feed("a", "2025-03-05", "UTC"),
        feed("b", "2025-03-01", "UTC"),
        feed("c", "2025-03-29", "Europe/Berlin"),
    ]

    found = daily_partitions(first_days(feeds))

    assert set(found) == {"UTC", "Europe/Berlin"}
    assert found["UTC"].get_first_partition_key() == "2025-03-01"
    assert found["UTC"].end_offset == 0
    berlin = found["Europe/Berlin"]
    assert berlin.get_first_partition_key() == "2025-03-29"
    window = berlin.time_window_for_partition_key("2025-03-30")
    assert window.end.timestamp() - window.start.timestamp() == 23 * 3600


def test_every_zone_has_a_job_name_of_its_own() -> None:
    """Every time zone gives a name that Dagster takes, and no two zones the same one."""
    names = {stream_job(zone) for zone in available_timezones()}

    assert len(names) == len(available_timezones())
    assert all(name.isascii() and name.replace("_", "").isalnum() for name in names)


def test_no_name_of_a_feed_takes_the_location_down(project: Project) -> None:
    """Feeds may be called like our own jobs and ops; Dagster has one namespace for all of them."""
    for name in (
        "streams",
        "streams_job",
        "table_totals",
        "sync",
        "certify",
        "retention",
        "compaction",
        "compaction_open",
        "ksqldb_sources",
        "report",
        "monitoring_report",
    ):
        project.write_feed(name, kind="stream", source="VISITS", start_date="2025-02-01")

    repository = project.definitions().get_repository_def()

    repository.load_all_definitions()
    assert {"streams_job_job", "table_totals_job", "sync", "retention"} <= set(repository.job_names)


def test_the_feeds_room_stays_free_of_dagster() -> None:
    """Importing the export room loads no Dagster: the shell stays fast, and the edge stays an edge."""
    code = "import sys, ksql_lake.export.facts, ksql_lake.export.version_keys; print('dagster' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"

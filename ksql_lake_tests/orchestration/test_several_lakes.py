"""Two lakes of two servers in one code location and one Dagster instance, with feeds of the same names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.orchestration.project import build_definitions, build_feed_assets
from ksql_lake.settings import Settings, load_settings

FEEDS: dict[str, dict[str, object]] = {
    "orders": {"kind": "stream", "source": "ORDERS", "start_date": "2025-01-06"},
    "sums": {"kind": "table", "source": "SUMS", "retention": 5},
}
DAYS = ("2025-01-06", "2025-01-07")


@dataclass(frozen=True)
class Twin:
    """One of the two: a server with its own number of orders a day, feeds and a lake."""

    name: str
    orders: int
    settings: Settings

    def lake(self, feed: str) -> FeedLake:
        """The lake of one feed."""
        return Lake(self.settings.lake_root).feed(FeedStore(self.settings.feeds_root).load().get(feed))

    def keep_versions(self, count: int) -> None:
        """Change how many versions of the table are kept."""
        path = self.settings.feeds_root / "active" / "sums.json"
        path.write_text(json.dumps({"name": "sums", **FEEDS["sums"], "retention": count}))


def _write_sources(folder: Path, orders: int) -> None:
    folder.mkdir()
    rows = [
        {"ROWTIME": int(pd.Timestamp(f"{day}T{hour:02d}:00Z").timestamp() * 1000), "ID": hour}
        for day in DAYS
        for hour in range(orders)
    ]
    (folder / "1_orders.sql").write_text(
        "CREATE STREAM ORDERS (ID BIGINT) WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', PARTITIONS=1);\n"
        "CREATE TABLE SUMS AS SELECT ID, COUNT(*) AS N FROM ORDERS GROUP BY ID;\n"
    )
    (folder / "1_orders.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DevServer]]:
    """Two servers: three orders a day in `eu`, five in `us`."""
    folder = tmp_path_factory.mktemp("servers")
    for name, orders in (("eu", 3), ("us", 5)):
        _write_sources(folder / name, orders)
    with DevServer.start(data=folder / "eu") as eu, DevServer.start(data=folder / "us") as us:
        yield {"eu": eu, "us": us}


@pytest.fixture
def twins(servers: dict[str, DevServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Twin]:
    """Both, and an environment that names neither."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(tmp_path / "nobody"))
    made = []
    for name, orders in (("eu", 3), ("us", 5)):
        active = tmp_path / name / "feeds" / "active"
        active.mkdir(parents=True)
        for feed, keys in FEEDS.items():
            (active / f"{feed}.json").write_text(json.dumps({"name": feed, **keys}))
        settings = load_settings(
            ksqldb_url=servers[name].url,
            attempts=1,
            feeds_root=tmp_path / name / "feeds",
            lake_root=str(tmp_path / name / "lake"),
        )
        made.append(Twin(name, orders, settings))
    return made


def _location(twins: list[Twin]) -> dg.Definitions:
    return dg.Definitions.merge(
        *(build_definitions(twin.settings, key_prefix=twin.name, whole_location=False) for twin in twins)
    )


def _run(
    location: dg.Definitions, instance: dg.DagsterInstance, *keys: str, days: tuple[str, str] | None = None
) -> None:
    tags = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    done = location.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey.from_user_string(key) for key in keys],
        tags=dict(zip(tags, days, strict=True)) if days else None,
        instance=instance,
    )
    assert done.success


def _counts(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[object]:
    found = [record.asset_materialization for record in instance.fetch_materializations(key, limit=10).records]
    return [event.metadata["partition_rows"].value for event in found if event is not None]


def test_both_load_in_one_code_location(twins: list[Twin]) -> None:
    """Nothing of the two has a name in common: keys, jobs, ticking things, pools, resources, partitions."""
    names = []
    for twin in twins:
        defs = build_definitions(twin.settings, key_prefix=twin.name, whole_location=False)
        repository = defs.get_repository_def()
        graph = repository.asset_graph
        dynamic = {
            node.partitions_def.name
            for node in graph.asset_nodes
            if isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
        }
        names.append(
            {
                *(f"key {key.to_user_string()}" for key in graph.get_all_asset_keys()),
                *(f"job {job.name}" for job in repository.get_all_jobs() if not job.name.startswith("__")),
                *(f"op {op.name}" for job in repository.get_all_jobs() for op in job.all_node_defs),
                *(f"schedule {each.name}" for each in repository.schedule_defs),
                *(f"sensor {each.name}" for each in repository.sensor_defs),
                *(f"resource {key}" for key in repository.get_top_level_resources()),
                *(f"pool {pool}" for node in graph.asset_nodes for pool in node.pools or ()),
                *(f"partitions {name}" for name in dynamic),
            }
        )
    assert names[0] & names[1] == set()
    assert len(names[0]) == len(names[1])
    assert {"partitions eu/sums_versions", "pool eu_ksqldb", "job eu_streams", "key eu/orders"} <= names[0]
    assert len(_location(twins).get_repository_def().sensor_defs) == sum(
        len(build_definitions(twin.settings, key_prefix=twin.name).get_repository_def().sensor_defs)
        for twin in twins
    )


def test_each_reads_its_own_server_into_its_own_lake(twins: list[Twin]) -> None:
    """One run over both exports from each server into its lake, whatever the environment says."""
    with dg.DagsterInstance.ephemeral() as instance:
        location = _location(twins)
        _run(location, instance, "eu/orders", "us/orders", days=DAYS)
        counts = {twin.name: _counts(instance, dg.AssetKey([twin.name, "orders"])) for twin in twins}

    assert counts == {"eu": [3, 3], "us": [5, 5]}
    for twin in twins:
        assert twin.lake("orders").state().partition_keys() == list(DAYS)


def test_versions_of_one_are_not_those_of_the_other(twins: list[Twin]) -> None:
    """Retention and sync in one lake leave the versions that Dagster offers of the other's table."""
    with dg.DagsterInstance.ephemeral() as instance:
        location = _location(twins)
        for twin, times in zip(twins, (2, 3), strict=True):
            for _ in range(times):
                _run(location, instance, f"{twin.name}/sums")
        before = {name: instance.get_dynamic_partitions(f"{name}/sums_versions") for name in ("eu", "us")}
        twins[0].keep_versions(1)
        location = _location(twins)
        done = location.get_job_def("eu_retention").execute_in_process(instance=instance)
        after = {name: instance.get_dynamic_partitions(f"{name}/sums_versions") for name in ("eu", "us")}
        instance.delete_dynamic_partition("us/sums_versions", "v2")
        location.get_job_def("eu_sync").execute_in_process(instance=instance)
        still = instance.get_dynamic_partitions("us/sums_versions")
        location.get_job_def("us_sync").execute_in_process(instance=instance)
        mended = instance.get_dynamic_partitions("us/sums_versions")

    assert done.success
    assert before == {"eu": ["v1", "v2"], "us": ["v1", "v2", "v3"]}
    assert after == {"eu": ["v2"], "us": ["v1", "v2", "v3"]}
    assert list(twins[1].lake("sums").state().partition_keys()) == ["v1", "v2", "v3"]
    assert sorted(still) == ["v1", "v3"]
    assert sorted(mended) == ["v1", "v2", "v3"]


def test_an_asset_below_loads_from_the_lake_it_names(twins: list[Twin]) -> None:
    """Inputs come from the lake of their prefix, although both feeds are called the same."""
    seen: dict[str, int] = {}

    @dg.asset(ins={"eu": dg.AssetIn(key=["eu", "orders"]), "us": dg.AssetIn(key=["us", "orders"])})
    def both(eu: pd.DataFrame, us: pd.DataFrame) -> None:
        seen.update(eu=len(eu), us=len(us))

    with dg.DagsterInstance.ephemeral() as instance:
        location = dg.Definitions.merge(_location(twins), dg.Definitions(assets=[both]))
        _run(location, instance, "eu/orders", "us/orders", days=DAYS)
        _run(location, instance, "both")

    assert seen == {"eu": 6, "us": 10}


def test_feed_assets_alone_bring_their_resources(twins: list[Twin]) -> None:
    """`build_feed_assets` gives assets that run among definitions that know nothing of a lake."""
    with dg.DagsterInstance.ephemeral() as instance:
        assets = [asset for twin in twins for asset in build_feed_assets(twin.settings, key_prefix=twin.name)]
        defs = dg.Definitions(assets=assets)
        _run(defs, instance, "eu/orders", "us/orders", days=DAYS)

    assert {asset.key.to_user_string() for asset in assets} == {"eu/orders", "eu/sums", "us/orders", "us/sums"}
    assert [len(twin.lake("orders").state().partition_keys()) for twin in twins] == [2, 2]

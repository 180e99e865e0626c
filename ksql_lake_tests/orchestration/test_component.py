"""The Component `ksql_lake.KsqlFeeds`, as `defs.yaml` says it and as Python makes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import create_defs_folder_sandbox

import ksql_lake
from ksql_lake.errors import ConfigError, SettingsError
from ksql_lake.feeds import Feed, FeedStore
from ksql_lake.orchestration import project
from ksql_lake.orchestration.component import KsqlFeeds, KsqlServer
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import load_settings

# Dagster's own: it gives what a component builds a link to its defs.yaml.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

ORDERS = {"kind": "stream", "source": "ORDERS", "start_date": "2025-01-06"}
SUMS = {"kind": "table", "source": "SUMS", "owners": ["team:sales"], "tags": {"tier": "raw"}}


def _write(folder: Path, **feeds: object) -> None:
    (folder / "active").mkdir(parents=True, exist_ok=True)
    for name, keys in feeds.items():
        text = keys if isinstance(keys, str) else json.dumps({"name": name, **keys})  # type: ignore[dict-item]
        (folder / "active" / f"{name}.json").write_text(text)


@contextmanager
def _loaded(folder: Path, **attributes: Any) -> Iterator[dg.Definitions]:
    """The definitions of a project whose defs.yaml has these attributes."""
    said = {"feeds": str(folder / "feeds"), "lake": str(folder / "lake"), **attributes}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=KsqlFeeds,
            defs_yaml_contents={"type": "ksql_lake.KsqlFeeds", "attributes": said},
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            yield defs


def _specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_dg_finds_it_under_its_public_name() -> None:
    """Its entry point leads to `ksql_lake`, whose names need no extra; importing it loads no Dagster."""
    script = (
        "import sys\n"
        "import ksql_lake\n"
        "assert 'dagster' not in sys.modules\n"
        "for extra in ('h2', 'sqlglot', 'obstore', 'fsspec', 'polars', 'deltalake', 'pyiceberg', 'celery'):\n"
        "    sys.modules[extra] = None\n"
        "from dagster.components.core.package_entry import discover_entry_point_package_objects as found\n"
        "print(*(key.to_typename() for key in found() if key.namespace == 'ksql_lake'))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert told.stdout.split() == ["ksql_lake.KsqlFeeds"]
    assert ksql_lake.KsqlFeeds is KsqlFeeds


def test_attributes_name_and_choose(tmp_path: Path) -> None:
    """Prefix, name, group, schedules, sensors, checks and translation are what defs.yaml says."""
    _write(tmp_path / "feeds", orders=ORDERS, sums=SUMS)
    with _loaded(
        tmp_path,
        key_prefix="eu",
        name="shop",
        group="raw",
        schedules=["retention_schedule"],
        sensors=["lake_in_step", "feed_files"],
        checks=["files_match", "volume"],
        translation={
            "key": "lake/{{ feed.kind }}/{{ feed.name }}",
            "tags": {"source": "{{ feed.source }}"},
            "owners": ["team:{{ feed.kind }}s"],
            "description": "The {{ feed.kind }} {{ feed.source }}.",
        },
    ) as defs:
        specs, repository = _specs(defs), defs.get_repository_def()

    orders, sums = specs["lake/stream/orders"], specs["lake/table/sums"]
    assert (orders.group_name, orders.owners, orders.description) == (
        "raw",
        ["team:streams"],
        "The stream ORDERS.",
    )
    assert sums.tags["source"] == "SUMS"
    assert sums.tags["tier"] == "raw"
    assert [dep.asset_key.to_user_string() for dep in orders.deps] == ["eu/ksqldb/ORDERS"]
    assert [each.name for each in repository.schedule_defs] == ["shop_retention_schedule"]
    assert sorted(each.name for each in repository.sensor_defs) == ["shop_feed_files", "shop_lake_in_step"]
    assert {(key.asset_key.to_user_string(), key.name) for key in repository.asset_graph.asset_check_keys} == {
        ("lake/stream/orders", "files_match"),
        ("lake/stream/orders", "volume"),
        ("lake/table/sums", "files_match"),
    }


def test_a_subclass_says_what_an_asset_is_like(tmp_path: Path) -> None:
    """`get_asset_spec` of a subclass is asked for every feed, as with other integrations' components."""

    class Named(KsqlFeeds):
        def get_asset_spec(self, spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
            return spec.replace_attributes(key=["mine", feed.name.upper()])

    _write(tmp_path / "feeds", orders=ORDERS)
    made = Named(feeds=str(tmp_path / "feeds"), lake=str(tmp_path / "lake"), key_prefix="eu")

    assert "mine/ORDERS" in _specs(_built(made))


def _built(component: KsqlFeeds) -> dg.Definitions:
    return component.build_defs(dg.ComponentTree.for_test().load_context)


def test_a_broken_feed_stops_a_check_and_no_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading shows it in quarantine, under its translated key; `dg check defs` names its problems."""
    broken = '{"name": "sums", "kind": "table", "source": "SUMS", "retention": "many"}'
    _write(tmp_path / "feeds", orders=ORDERS, sums=broken)
    translation = {"key": "lake/{{ feed.kind }}/{{ feed.name }}"}
    with _loaded(tmp_path, translation=translation) as defs:
        specs = _specs(defs)
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")

    assert specs["lake/table/sums"].group_name == "quarantine"
    with pytest.raises(ComponentTreeException) as refused, _loaded(tmp_path, translation=translation):
        pass
    assert isinstance(refused.value.__cause__, ConfigError)
    assert "1 feed file cannot be used" in str(refused.value.__cause__)
    assert "retention" in str(refused.value.__cause__)


def test_a_missing_folder_stops_a_check_and_no_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose feeds folder is gone loads the rest of its definitions."""
    with _loaded(tmp_path) as defs:
        assert set(_specs(defs)) == set()
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(ComponentTreeException) as refused, _loaded(tmp_path):
        pass
    assert "there is no feeds folder" in str(refused.value.__cause__)


def test_a_server_takes_its_credentials_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the environment's server are not those of the server that a component names."""
    monkeypatch.setenv("KSQLDB_URL", "http://us:8088")
    monkeypatch.setenv("KSQLDB_USER", "us")
    monkeypatch.setenv("KSQLDB_PASSWORD", "secret")
    named = KsqlFeeds(server=KsqlServer(url="http://eu:8088"), settings={"attempts": 2})._settings(tmp_path)
    unnamed = KsqlFeeds()._settings(tmp_path)

    assert (named.ksqldb_url, named.ksqldb_user, named.ksqldb_password) == ("http://eu:8088", None, None)
    assert named.attempts == 2
    assert (unnamed.ksqldb_url, unnamed.ksqldb_user) == ("http://us:8088", "us")


def test_paths_begin_at_the_root_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the shell, used there, and the component mean the same folders; buckets stay what they are."""
    monkeypatch.delenv("KSQL_LAKE_ROOT", raising=False)
    monkeypatch.delenv("KSQL_LAKE_FEEDS", raising=False)
    plain, told = KsqlFeeds()._settings(tmp_path), KsqlFeeds(feeds="a", lake="s3://b/c")._settings(tmp_path)

    assert (plain.feeds_root, plain.lake_root) == (tmp_path / "feeds", str(tmp_path / "data_lake"))
    assert (told.feeds_root, told.lake_root) == (tmp_path / "a", "s3://b/c")


def test_the_folders_may_be_settings_too(tmp_path: Path) -> None:
    """They mean the same as the attributes, which count if both are given."""
    asked = {"feeds_root": "a", "lake_root": "b"}
    said = KsqlFeeds(settings=asked)._settings(tmp_path)
    both = KsqlFeeds(settings=asked, feeds="c", lake="d")._settings(tmp_path)

    assert (said.feeds_root, said.lake_root) == (tmp_path / "a", str(tmp_path / "b"))
    assert (both.feeds_root, both.lake_root) == (tmp_path / "c", str(tmp_path / "d"))


def test_a_setting_that_there_is_not_is_named(tmp_path: Path) -> None:
    """A misspelt setting is an error that lists those there are."""
    with pytest.raises(SettingsError, match="there is no setting named atempts"):
        KsqlFeeds(settings={"atempts": 2})._settings(tmp_path)


def test_definitions_are_built_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often Dagster loads them, until a feed file changes."""
    _write(tmp_path / "feeds", orders=ORDERS)
    built: list[Scope] = []
    real = project.scope_definitions

    def counted(scope: Scope) -> dg.Definitions:
        built.append(scope)
        return real(scope)

    monkeypatch.setattr(project, "scope_definitions", counted)
    settings = load_settings(feeds_root=tmp_path / "feeds", lake_root=str(tmp_path / "lake"))
    made = [project.definitions_of(Scope(settings)) for _ in range(3)]
    _write(tmp_path / "feeds", sums=SUMS)
    later = project.definitions_of(Scope(settings))

    assert len(built) == 2
    assert made[0] is made[1] is made[2]
    assert {"orders", "sums"} <= set(_specs(later))


def test_a_process_that_loaded_definitions_ends_in_silence(tmp_path: Path) -> None:
    """What stays for the whole process is given back at its end, so that no library reports it as leaked."""
    _write(tmp_path / "feeds", orders=ORDERS)
    script = (
        "import gc; from ksql_lake.definitions import ksql_lake; ksql_lake(); print(gc.get_freeze_count() > 0)"
    )
    environment = {
        "PATH": os.defpath,
        "KSQL_LAKE_ROOT": str(tmp_path),
        "KSQL_LAKE_FEEDS": str(tmp_path / "feeds"),
    }

    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.split() == ["True"]
    assert "leaked" not in told.stderr


def test_a_bucket_that_is_down_stops_no_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code location loads without what the lake keeps, broken feeds included."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    broken = '{"name": "sums", "kind": "table", "source": "SUMS", "retention": "many"}'
    _write(tmp_path / "feeds", orders=ORDERS, sums=broken)
    scope = Scope(
        load_settings(feeds_root=tmp_path / "feeds", lake_root="s3://bucket/lake"), whole_location=True
    )

    specs = _specs(project.scope_definitions(scope))

    assert {"orders", "sums"} <= set(specs)
    assert specs["sums"].group_name == "quarantine"


def test_feeds_that_share_a_translated_key_export_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are in quarantine and name each other; the rest loads, and `dg check defs` fails."""
    twin = {**ORDERS, "start_date": "2025-01-08"}
    _write(tmp_path / "feeds", orders=ORDERS, orders_again=twin, sums=SUMS)
    by_source = {"key": "lake/{{ feed.source }}"}
    with _loaded(tmp_path, translation=by_source) as defs:
        specs, graph = _specs(defs), defs.get_repository_def().asset_graph
        made = {key.to_user_string() for key in graph.materializable_asset_keys}

    assert "lake/SUMS" in made
    assert not made & {"lake/ORDERS", "quarantine/orders_again"}
    for key, other in (("lake/ORDERS", "orders_again"), ("quarantine/orders_again", "orders")):
        assert specs[key].group_name == "quarantine"
        said = f"its translated asset key lake/ORDERS is also that of {other}"
        assert said in specs[key].metadata["error"]
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(ComponentTreeException) as told, _loaded(tmp_path, translation=by_source):
        pass
    assert "2 feed files cannot be used" in str(told.value.__cause__)


def test_the_feed_that_exports_keeps_a_key_that_others_had(tmp_path: Path) -> None:
    """A disabled feed beside it, and a broken one, are in quarantine under keys of their own."""
    _write(tmp_path / "feeds", old={**ORDERS, "enabled": False}, orders=ORDERS, broken='{"name": "broken", ')
    with _loaded(tmp_path, translation={"key": "lake/orders"}) as defs:
        specs, repository = _specs(defs), defs.get_repository_def()

    made = {key.to_user_string() for key in repository.asset_graph.materializable_asset_keys}
    assert made == {"lake/orders", "monitoring_report"}
    assert {"quarantine/old", "quarantine/broken"} < set(specs)


def test_a_key_that_no_step_can_have_names_its_feed(tmp_path: Path) -> None:
    """A translation that makes one is an error of the component, with the feed and the key."""
    _write(tmp_path / "feeds", orders=ORDERS)
    with (
        pytest.raises(ComponentTreeException) as told,
        _loaded(tmp_path, translation={"key": "the {{ feed.name }}"}),
    ):
        pass
    assert "feed orders: its translation makes the asset key 'the orders'" in str(told.value.__cause__)


def test_a_feed_that_the_translation_fails_for_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in quarantine with the reason; the rest loads, and `dg check defs` fails."""
    _write(tmp_path / "feeds", orders=ORDERS, sums=SUMS)
    by_tag = {"key": "lake/{{ feed.name }}", "group_name": "{{ feed.tags.tier }}"}
    with _loaded(tmp_path, translation=by_tag) as defs:
        specs = _specs(defs)

    assert specs["lake/sums"].group_name == "raw"
    assert specs["orders"].group_name == "quarantine"
    assert "its translation cannot be used" in specs["orders"].metadata["error"]
    assert isinstance(specs["orders"].partitions_def, dg.DailyPartitionsDefinition)
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(ComponentTreeException) as told, _loaded(tmp_path, translation=by_tag):
        pass
    assert "1 feed file cannot be used" in str(told.value.__cause__)


def test_a_function_may_fail_for_a_feed_as_a_template_may(tmp_path: Path) -> None:
    """Whatever it raises, for a feed that it did not expect or for a broken file, the others load."""
    broken = '{"name": "broken", "kind": "table", "source": "SUMS", "retention": "many"}'
    _write(tmp_path / "feeds", orders=ORDERS, sums=SUMS, broken=broken)

    def translate(spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
        return spec.replace_attributes(key=[feed.tags["tier"], feed.name])

    settings = load_settings(feeds_root=tmp_path / "feeds", lake_root=str(tmp_path / "lake"))
    specs = _specs(project.scope_definitions(Scope(settings, translate=translate)))

    assert "raw/sums" in specs
    assert {specs[name].group_name for name in ("orders", "broken")} == {"quarantine"}
    assert "KeyError: 'tier'" in specs["orders"].metadata["error"]


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        (
            {"partitions_def": {"type": "weekly", "start_date": "2025-01-05"}},
            "its translation sets partitions_def",
        ),
        ({"key": "ksqldb/{{ feed.source }}"}, "'ksqldb/ORDERS', which means a source of ksqlDB"),
    ],
)
def test_a_translation_that_would_say_what_is_not_so_is_refused(
    tmp_path: Path, attributes: dict[str, Any], says: str
) -> None:
    """A week would be green that was not read, and a feed would depend on itself."""
    _write(tmp_path / "feeds", orders=ORDERS)
    with pytest.raises(ComponentTreeException) as told, _loaded(tmp_path, translation=attributes):
        pass
    assert says in str(told.value.__cause__)


def test_a_check_that_no_feed_has_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelt check leaves the others as chosen and is said in the log; `dg check defs` fails."""
    _write(tmp_path / "feeds", orders=ORDERS)
    with _loaded(tmp_path, checks=["files_mach", "volume"]) as defs:
        checks = {key.name for key in defs.get_repository_def().asset_graph.asset_check_keys}
    assert checks == {"volume"}
    assert "checks: there is none named files_mach" in caplog.text

    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with (
        pytest.raises(ComponentTreeException) as told,
        _loaded(tmp_path, checks=["files_mach"]),
    ):
        pass
    assert "files_match, freshness, " in str(told.value.__cause__)


def test_a_setting_of_the_component_is_not_one_of_the_environment(tmp_path: Path) -> None:
    """What is wrong in defs.yaml is not said to be wrong in the environment."""
    with pytest.raises(SettingsError, match="the settings cannot be used: attempts: ") as told:
        KsqlFeeds(settings={"attempts": "many"})._settings(tmp_path)
    assert "environment" not in str(told.value)


def test_a_translation_is_asked_twice_per_feed(tmp_path: Path) -> None:
    """Once for the key and once for the asset, however often a key is needed; again for a changed feed."""
    _write(tmp_path / "feeds", orders=ORDERS, sums=SUMS)
    asked: list[str] = []

    def translate(spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
        asked.append(feed.name)
        return spec.replace_attributes(key=["lake", feed.source])

    settings = load_settings(feeds_root=tmp_path / "feeds", lake_root=str(tmp_path / "lake"))
    scope = Scope(settings, translate=translate)
    project.scope_definitions(scope).get_repository_def()

    assert sorted(asked) == ["orders", "orders", "sums", "sums"]
    changed = FeedStore(tmp_path / "feeds").load().get("orders").model_copy(update={"source": "OTHER"})
    assert scope.key(changed) == dg.AssetKey(["lake", "OTHER"])

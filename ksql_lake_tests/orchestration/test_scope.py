"""The names that keep several lakes apart in one Dagster instance."""

from __future__ import annotations

import dagster as dg
import pytest

from ksql_lake.errors import ConfigError
from ksql_lake.feeds import TableFeed
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import load_settings

ORDERS = TableFeed(name="orders", kind="table", source="ORDERS")


def _names(scope: Scope) -> list[str]:
    return [
        scope.key(ORDERS).to_user_string(),
        scope.versions("orders"),
        scope.named("streams"),
        scope.named("_tell_dagster"),
        scope.pool,
        scope.io_manager_key,
        scope.feed_group(ORDERS),
        scope.own_key("monitoring_report").to_user_string(),
    ]


def test_the_scope_without_a_name_has_the_plain_names() -> None:
    """An instance that knows a project keeps its history: the names are those that there always were."""
    assert _names(Scope(load_settings())) == [
        "orders",
        "orders_versions",
        "streams",
        "_tell_dagster",
        "ksqldb",
        "lake_io_manager",
        "tables",
        "monitoring_report",
    ]


def test_a_prefix_is_in_every_name() -> None:
    """Keys, dynamic partitions, jobs, ops, pools, resources and groups of two lakes differ."""
    assert _names(Scope(load_settings(), prefix=("eu", "shop"))) == [
        "eu/shop/orders",
        "eu/shop/orders_versions",
        "eu_shop_streams",
        "_eu_shop_tell_dagster",
        "eu_shop_ksqldb",
        "eu_shop_lake_io_manager",
        "eu_shop_tables",
        "eu/shop/monitoring_report",
    ]


def test_a_label_names_what_has_no_key() -> None:
    """A label alone leaves the keys of feeds, and is in every other name; beside a prefix it is shorter."""
    alone, beside = Scope(load_settings(), label="x"), Scope(load_settings(), label="x", prefix=("eu", "shop"))

    assert [alone.key(ORDERS).to_user_string(), alone.versions("orders"), alone.named("sync")] == [
        "orders",
        "x/orders_versions",
        "x_sync",
    ]
    assert [beside.key(ORDERS).to_user_string(), beside.versions("orders"), beside.named("sync")] == [
        "eu/shop/orders",
        "eu/shop/orders_versions",
        "x_sync",
    ]


def test_a_translated_key_is_the_key_everywhere() -> None:
    """What a translation makes of a feed's key is what everything else calls it."""
    scope = Scope(
        load_settings(),
        prefix=("eu",),
        translate=lambda spec, feed: spec.replace_attributes(key=["raw", feed.kind, *spec.key.path]),
    )

    assert scope.key(ORDERS) == dg.AssetKey(["raw", "table", "eu", "orders"])


@pytest.mark.parametrize("prefix", [("a/b",), ("",), ("a b",), ("ä",)])
def test_a_prefix_that_dagster_refuses_is_an_error(prefix: tuple[str, ...]) -> None:
    """The error says which part, and what may stand there."""
    with pytest.raises(ConfigError, match=r"cannot be part of Dagster's names") as refused:
        Scope(load_settings(), prefix=prefix)

    assert "digits and underscores" in str(refused.value)

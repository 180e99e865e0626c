"""What the checks of an export read: the columns that a promise is about, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import export_feed
from ksql_lake.export.checks import check_export
from ksql_lake.feeds.model import TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

TABLE: dict[str, Any] = {"name": "merchants", "kind": "table", "source": "MERCHANTS"}


@pytest.mark.parametrize(("asked", "read"), [({}, False), ({"not_null": ["NAME"]}, True)])
def test_values_are_read_only_for_a_promise_about_them(
    asked: dict[str, Any], read: bool, tmp_path: Path
) -> None:
    """A data file that cannot be read is met by `not_null`; checks of counts and sizes never open it."""
    feed, lake = TableFeed(**TABLE, checks=asked), Lake(tmp_path)
    arguments = ["--sample-rows", "50", "--sample-days", "1"]
    with (
        DevServer.start(sample=True, arguments=arguments) as server,
        KsqlClient(load_settings(ksqldb_url=server.url)) as client,
    ):
        result = export_feed(feed, client, lake)
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(b"?" * path.stat().st_size)

    outcomes = {each.name: each for each in check_export(result, lake.feed(feed))}

    assert [name for name, each in outcomes.items() if not each.passed] == (["not_null"] if read else [])
    if read:
        assert "v1 could not be read" in outcomes["not_null"].says

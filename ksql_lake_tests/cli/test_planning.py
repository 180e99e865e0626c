"""`ksql-lake plan --server`: what an export will cost the server."""

from __future__ import annotations

import json
import re

import pytest
import requests

from ksql_lake.export import advice, cost
from ksql_lake_tests.cli.conftest import Cli, Orders

DAYS = ("--from", "2025-01-06", "--to", "2025-01-07")


def read_by_a_query(orders: Orders) -> None:
    """Let another query read the stream, so that the server reports its topic's offsets."""
    orders.run(f"CREATE STREAM {orders.source}_READ AS SELECT ID FROM {orders.source} EMIT CHANGES;")


def test_plan_tells_the_records_that_an_export_scans(cli: Cli, orders: Orders) -> None:
    """The whole topic is scanned for a single day; no query is sent, and the lake stays as it is."""
    read_by_a_query(orders)
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    before = requests.get(f"{orders.url}/devserver/queries", timeout=30).json()

    said = cli("plan", "--stream", "orders", "--date", "2025-01-06", "--server")
    entry = json.loads(cli("plan", "--stream", "orders", "--date", "2025-01-06", "--server", "--json").out)

    assert (said.code, said.err) == (0, "")
    header, row = said.out.splitlines()
    assert re.fullmatch(r"FEED +KIND +READS +WHY +SCANS +TAKES", header)
    assert re.fullmatch(r"orders +stream +2025-01-06 +as asked +48 +\d+\.\d s", row)
    found = entry["plans"][0]["cost"]
    assert (found["scanned"], found["received"], found["advice"]) == (48, 48, "")
    assert re.fullmatch(r"all of \w+, by Kafka's offsets \(\d partitions?\)", found["basis"])
    assert requests.get(f"{orders.url}/devserver/queries", timeout=30).json() == before


def test_plan_says_why_it_cannot_tell(cli: Cli, orders: Orders) -> None:
    """A topic that no query reads has no reported offsets; an export that was never made took no time."""
    said = cli("plan", "--stream", "orders", "--date", "2025-01-06", "--server")

    assert said.code == 0
    assert said.out.splitlines()[1].split()[-2:] == ["-", "-"]
    assert re.fullmatch(
        r"note: orders: the number of scanned records is unknown: no query on the server reads \w+, "
        r"so its offsets are not reported\n",
        said.err,
    )
    orders.run(f"DROP STREAM {orders.source};")
    gone = cli("plan", "--stream", "orders", "--date", "2025-01-06", "--server")
    assert (gone.code, gone.out.splitlines()[1].split()[-2:]) == (0, ["-", "-"])
    assert f"Could not find STREAM/TABLE '{orders.source}'" in gone.err


def test_plan_names_the_ways_out_of_a_long_topic(
    cli: Cli, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a stream whose exports scan many records the plan says what would be cheaper, the best way first."""
    for judged in (advice, cost):
        monkeypatch.setattr(judged, "LONG", 48)
    read_by_a_query(orders)
    assert cli("export", "--stream", "orders", "--date", "2025-01-06").code == 0

    said = cli("plan", "--stream", "orders", "--date", "2025-01-07", "--server")

    told = said.err.removeprefix(
        "note: orders: each export scans 48 records, and the last export received 24. "
    )
    assert told != said.err
    ways = ["feeds prepare orders --continue", "RETENTION_MS", "fewer columns", "fewer exports"]
    assert [told.index(way) for way in ways] == sorted(told.index(way) for way in ways)


@pytest.mark.usefixtures("sample")
def test_a_table_is_scanned_as_a_whole(cli: Cli) -> None:
    """A table has as many rows to scan as its last version has; without one that is not known."""
    first = cli("plan", "--table", "merchants", "--server")
    assert cli("export", "--table", "merchants").code == 0
    entry = json.loads(cli("plan", "--table", "merchants", "--server", "--json").out)["plans"][0]

    assert "merchants: the number of scanned records is unknown: the lake holds no version yet" in first.err
    assert entry["cost"]["scanned"] == entry["cost"]["received"] > 0
    assert entry["cost"]["basis"] == "all rows of the table, as many as v1 has"
    assert entry["cost"]["seconds"] >= 0


@pytest.mark.usefixtures("orders")
def test_a_server_that_does_not_answer_is_an_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server `plan` works and `plan --server` does not."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    assert cli("plan", "--stream", "orders").code == 0
    said = cli("plan", "--stream", "orders", "--server")

    assert (said.code, said.out) == (1, "")
    assert "http://127.0.0.1:9" in said.err

"""The command line over a lake in a bucket: one journey through every command, on each of the servers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import duckdb
import pandas as pd
import pytest

import ksql_lake
from ksql_lake_tests.cli.conftest import SAMPLE_ROWS, Cli, Project, Server
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.servers import Store

DAY = "2025-01-06"


@pytest.fixture
def bucket(store: Store, sample: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An unused lake in a bucket, as the environment's; in the end nothing was written beside it."""
    root = store.fresh()
    monkeypatch.setenv("KSQL_LAKE_ROOT", root)
    yield Place(root)
    assert sorted(path.name for path in sample.root.iterdir()) == ["feeds"]


def test_every_command_works_in_a_bucket(cli: Cli, bucket: Place, server: Server) -> None:
    """Plan, export, report, certify, compact, retention, diff and doctor say what they say of a folder."""
    assert cli("doctor").err.startswith(f"error: path {bucket.root}: there is no lake here")
    assert cli("plan", "--all").code == 0
    first = cli("export", "--all", "--json")
    assert (first.code, first.err) == (0, "")
    again = json.loads(cli("export", "--all", "--from", DAY, "--to", "2025-01-07", "--json").out)
    assert [export["new"] for export in again["exports"]] == [0, 500, 0]
    assert len(bucket.rows("streams/transactions")) == SAMPLE_ROWS

    report = json.loads(cli("report", "--format", "json").out)
    assert {feed["name"]: feed["records"] for feed in report["feeds"]}["transactions"] == SAMPLE_ROWS
    assert report["cross_check"]["disagreements"] == []
    assert report["cross_check"]["sampled"] == 6

    assert cli("certify", "transactions", DAY).code == 0
    assert cli("compact", "--all").code == 0
    assert cli("retention").code == 0
    changes = json.loads(cli("diff", "merchants", "v1", "v2", "--format", "json").out)
    assert (changes["inserted"], changes["updated"], changes["deleted"], changes["unchanged"]) == (0, 0, 0, 500)
    sound = cli("doctor")
    assert (sound.code, sound.err) == (0, "")
    assert server.queries == []


def test_doctor_repairs_a_bucket(cli: Cli, bucket: Place) -> None:
    """A lost manifest and summary come back; a foreign file is found, and moved away with `--apply`."""
    assert cli("export", "--all").code == 0
    for key in ("commits/00000000000000000001.json", "_metadata.json"):
        bucket.delete(f"metadata/streams/transactions/{key}")
    foreign = "streams/transactions/year=2025/month=01/day=06/foreign.parquet"
    bucket.write(foreign, b"not ours")

    found = json.loads(cli("doctor", "--json").out)
    mended = cli("doctor", "--repair", "--apply")

    (feed,) = [feed for feed in found["feeds"] if feed["feed"] == "transactions"]
    problems = {finding["problem"] for finding in feed["findings"]}
    assert {"manifest missing", "foreign file"} <= problems
    assert mended.code == 0, mended.err
    assert cli("doctor").code == 0
    assert foreign not in set(bucket.keys())
    assert [key for key in set(bucket.keys()) if "quarantine" in key and key.endswith("foreign.parquet")]
    assert len(bucket.rows("streams/transactions")) == SAMPLE_ROWS


def test_a_failure_is_noted_in_a_bucket(cli: Cli, bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is noted beside the manifests, for the report, and forgotten after a success."""
    url = os.environ["KSQLDB_URL"]  # noqa: TID251
    assert cli("export", "--stream", "logins").code == 0
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    assert cli("export", "--stream", "logins").code == 1

    assert "metadata/streams/logins/failures.json" in set(bucket.keys())

    monkeypatch.setenv("KSQLDB_URL", url)
    assert cli("export", "--stream", "logins").code == 0
    assert "metadata/streams/logins/failures.json" not in set(bucket.keys())


def test_readers_read_a_bucket(cli: Cli, bucket: Place) -> None:
    """`connect`, and pandas and pyarrow without anything of ours, read what was exported."""
    assert cli("export", "--all").code == 0

    connection = ksql_lake.connect()
    assert connection.execute("SELECT count(*) FROM transactions WHERE day = 6").fetchone()[0] > 0  # type: ignore[index]
    assert connection.execute("SELECT count(*) FROM transactions").fetchone() == (SAMPLE_ROWS,)
    assert connection.execute("SELECT count(*) FROM merchants").fetchone() == (500,)
    frame = pd.read_parquet(f"{bucket.root}/streams/transactions")
    assert len(frame) == SAMPLE_ROWS
    assert isinstance(connection, duckdb.DuckDBPyConnection)


def test_an_unreachable_store_is_one_line(
    cli: Cli, sample: Project, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is down ends each command with the address and what to look at, without a traceback."""
    monkeypatch.setenv("KSQL_LAKE_ROOT", store.fresh())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("ksql_lake.lake.storage.bucket._RETRY", {"max_retries": 0})

    for command in (["report"], ["doctor"]):
        said = cli(*command)
        assert (said.code, said.out) == (1, "")
        assert "the object store did not answer as it should" in said.err
        assert "Traceback" not in said.err
    assert sample.root.is_dir()

"""Exports from a real server process into a real lake, with everything that goes wrong on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import duckdb
import msgspec
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import (
    ConfigError,
    IncompleteResponseError,
    KsqlLakeError,
    NotQueryableError,
    QueryFailedError,
    ServerUnavailableError,
    SnapshotRefusedError,
    StatementError,
)
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

DAYS = Days(date(2025, 1, 6), date(2025, 1, 19))
ROWS = 5000


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    """A server with the payments sample."""
    with DevServer.start(sample=True, arguments=["--sample-rows", str(ROWS)]) as running:
        yield running


@pytest.fixture
def url(server: DevServer) -> Iterator[str]:
    """The server's address; its faults are off again afterwards."""
    yield server.url
    requests.delete(f"{server.url}/devserver/faults", timeout=10)


def faults(url: str, *switches: dict[str, Any]) -> None:
    """Switch faults on."""
    requests.put(f"{url}/devserver/faults", json=list(switches), timeout=10).raise_for_status()


def sample_feed(name: str, **keys: object) -> Feed:
    """One of the project's own sample feeds, with keys changed."""
    path = Path(__file__).parents[2] / "feeds" / "active" / f"{name}.json"
    return FEED_ADAPTER.validate_python({**msgspec.json.decode(path.read_bytes()), **keys})


def export(url: str, lake: Lake, feed: Feed, *, days: Days | None = DAYS, attempts: int = 1) -> ExportResult:
    """Export a feed with a client of its own."""
    settings = load_settings(ksqldb_url=url, attempts=attempts, read_timeout=2)
    with KsqlClient(settings) as client:
        return export_feed(feed, client, lake, days=days if feed.kind == "stream" else None)


def transactions(lake: Lake) -> Counter[str]:
    """Transaction ids as an independent reader sees them."""
    pattern = f"{lake.root}/streams/transaction_flattened/*/*/*/*.parquet"
    rows = duckdb.read_parquet(pattern).project("TRANSACTION_ID").fetchall()
    return Counter(row[0] for row in rows)


def visible(root: Path) -> list[str]:
    """Every file under the lake that any reader could see."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.parquet"))


def test_every_sample_feed_lands_whole_and_once(url: str, tmp_path: Path) -> None:
    """All eight feeds land; a second round adds no stream row and one version per table."""
    lake = Lake(tmp_path)
    names = sorted(path.stem for path in (Path(__file__).parents[2] / "feeds" / "active").glob("*.json"))
    assert len(names) == 8

    first = [export(url, lake, sample_feed(name)) for name in names]
    files = visible(tmp_path)
    second = [export(url, lake, sample_feed(name)) for name in names]

    for before, after in zip(first, second, strict=True):
        assert before.new == before.read > 0
        if before.feed.kind == "stream":
            assert (after.new, after.already_there) == (0, before.read)
        else:
            assert (before.partitions[0].partition, after.partitions[0].partition) == ("v1", "v2")
            assert after.read == before.read
    assert [path for path in visible(tmp_path) if path.startswith("streams")] == [
        path for path in files if path.startswith("streams")
    ]
    assert sum(transactions(lake).values()) == ROWS
    assert set(transactions(lake).values()) == {1}


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"kind": "cut_row", "after_rows": 1000}, IncompleteResponseError, "row 1001: the answer was cut off"),
        (
            {"kind": "cut_chunk", "after_rows": 1000},
            IncompleteResponseError,
            "row 1001: the answer was cut off",
        ),
        ({"kind": "no_final"}, IncompleteResponseError, "without the mark of a complete one"),
        ({"kind": "no_bracket"}, IncompleteResponseError, "without the mark of a complete one"),
        ({"kind": "error", "after_rows": 1000}, QueryFailedError, "boom"),
        ({"kind": "hang", "after_rows": 1000}, ServerUnavailableError, "silent"),
        ({"kind": "not_ready"}, ServerUnavailableError, "not yet ready"),
    ],
    ids=lambda value: str(value["kind"]) if isinstance(value, dict) else "",
)
def test_a_broken_answer_changes_nothing_visible(
    url: str, tmp_path: Path, fault: dict[str, Any], error: type[KsqlLakeError], reason: str
) -> None:
    """The error names feed and reason, readers see what they saw before, and the next export is whole."""
    lake, feed = Lake(tmp_path), sample_feed("transaction_flattened")
    export(url, lake, feed, days=Days(DAYS.first, DAYS.first))
    before = visible(tmp_path)
    faults(url, fault)

    with pytest.raises(error) as caught:
        export(url, lake, feed)

    assert str(caught.value).startswith("feed transaction_flattened")
    assert reason in str(caught.value)
    assert visible(tmp_path) == before
    assert not any((tmp_path / "metadata/streams/transaction_flattened/staging").iterdir())
    faults(url)
    assert export(url, lake, feed).already_there > 0
    assert sum(transactions(lake).values()) == ROWS
    assert set(transactions(lake).values()) == {1}


def test_what_may_pass_is_tried_again(url: str, tmp_path: Path) -> None:
    """A retry is a fresh query and a fresh staging: rows of the broken attempt are not mixed in."""
    lake, feed = Lake(tmp_path), sample_feed("transaction_flattened")
    faults(url, {"kind": "cut_row", "after_rows": 2500, "times": 2})

    result = export(url, lake, feed, attempts=4)

    assert result.attempts == 3
    assert result.new == ROWS
    assert set(transactions(lake).values()) == {1}


def test_a_suspicious_snapshot_is_read_twice_then_refused(url: str, tmp_path: Path) -> None:
    """A snapshot that is suddenly small never becomes a version, unless the feed allows it."""
    lake, feed = Lake(tmp_path), sample_feed("merchants")
    rows = export(url, lake, feed).read
    faults(url, {"kind": "short", "after_rows": 3})

    with pytest.raises(SnapshotRefusedError) as caught:
        export(url, lake, feed)

    assert str(caught.value).startswith(
        f"feed merchants: the snapshot has 3 rows, v1 has {rows}: less than 50%, read twice"
    )
    assert "min_ratio_to_previous" in str(caught.value)
    assert lake.feed(feed).state().latest_version == 1
    allowed = sample_feed("merchants", min_ratio_to_previous=0)
    assert export(url, lake, allowed).read == 3


def test_a_snapshot_that_was_small_once_is_read_again(url: str, tmp_path: Path) -> None:
    """A single short answer, as a restarting server gives, costs a second reading and nothing else."""
    lake, feed = Lake(tmp_path), sample_feed("merchants")
    rows = export(url, lake, feed).read
    faults(url, {"kind": "short", "after_rows": 0, "times": 1})

    assert export(url, lake, feed).read == rows


def test_rows_a_server_repeats_are_kept_once(url: str, tmp_path: Path) -> None:
    """Rows of a table that come twice, as after a fall-back to a standby, are one row each."""
    lake, feed = Lake(tmp_path), sample_feed("merchants")
    rows = export(url, lake, feed).new
    faults(url, {"kind": "duplicate", "rows": 40})

    result = export(url, lake, feed)

    assert (result.read, result.new) == (rows + 40, rows)


def test_two_exports_at_once_double_nothing(url: str, tmp_path: Path) -> None:
    """Two exports of the same feed at the same moment land each row once."""
    feed = sample_feed("transaction_flattened")
    results: list[ExportResult] = []
    threads = [Thread(target=lambda: results.append(export(url, Lake(tmp_path), feed))) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(result.new for result in results) == [0, ROWS]
    assert set(transactions(Lake(tmp_path)).values()) == {1}


def test_a_late_row_lands(url: str, tmp_path: Path) -> None:
    """A row appended to an old day on the server is the only thing the next export adds."""
    lake, feed = Lake(tmp_path), sample_feed("login_events")
    export(url, lake, feed)
    row = {"USER_ID": 424242, "SESSION_ID": "late", "ROWTIME": 1736208000000 + 5}
    answer = requests.post(
        f"{url}/devserver/sources/LOGIN_EVENTS/rows", data=msgspec.json.encode(row), timeout=10
    )
    assert answer.ok, answer.text

    result = export(url, lake, feed)

    assert (result.new, result.late) == (1, 1)
    assert [part.partition for part in result.partitions if part.new] == ["2025-01-07"]


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    """Nothing is made on disk, and the first line names the address."""
    with pytest.raises(ServerUnavailableError) as caught:
        export("http://127.0.0.1:9", Lake(tmp_path / "lake"), sample_feed("merchants"))

    assert "http://127.0.0.1:9" in str(caught.value).splitlines()[0]
    assert not (tmp_path / "lake" / "tables").exists()


@pytest.mark.parametrize(
    ("name", "keys", "error", "reason"),
    [
        ("merchants", {"source": "MERCHANTZ"}, StatementError, "MERCHANTZ"),
        ("merchants", {"source": "LOGIN_EVENTS"}, ConfigError, "LOGIN_EVENTS is a stream on the server"),
        ("login_events", {"columns": ["USER_IDD"], "checks": {}}, ConfigError, "Did you mean 'USER_ID'?"),
    ],
)
def test_a_feed_that_does_not_fit_the_server(
    url: str, tmp_path: Path, name: str, keys: dict[str, object], error: type[KsqlLakeError], reason: str
) -> None:
    """A wrong name is another error than a broken server, and says what to change."""
    with pytest.raises(error) as caught:
        export(url, Lake(tmp_path), sample_feed(name, **keys))

    assert reason in str(caught.value)
    assert visible(tmp_path) == []


def test_a_table_that_no_pull_query_reads_is_refused_with_the_fix(url: str, tmp_path: Path) -> None:
    """A plain CREATE TABLE is refused before reading, with the statement that makes it queryable."""
    statement = (
        "CREATE TABLE PLAIN (ID INTEGER PRIMARY KEY, N STRING) WITH (KAFKA_TOPIC='plain', VALUE_FORMAT='JSON', "
        "PARTITIONS=1);"
    )
    requests.post(f"{url}/ksql", json={"ksql": statement}, timeout=10).raise_for_status()

    with pytest.raises(NotQueryableError) as caught:
        export(url, Lake(tmp_path), sample_feed("merchants", source="PLAIN"))

    assert "CREATE TABLE" in str(caught.value)
    assert "PLAIN" in str(caught.value)


def test_a_failed_export_is_noted_until_the_next_success(url: str, tmp_path: Path) -> None:
    """The note says what the raised error says; the next export that lands removes it."""
    lake, feed = Lake(tmp_path), sample_feed("login_events")
    faults(url, {"kind": "cut_row", "source": feed.source, "after_rows": 3})
    with pytest.raises(IncompleteResponseError) as raised:
        export(url, lake, feed)

    failures = lake.feed(feed).failures()
    assert failures.count == 1
    assert failures.newest[0].error == "IncompleteResponseError"
    assert failures.newest[0].message == raised.value.message
    assert failures.newest[0].where["feed"] == feed.name

    faults(url)
    export(url, lake, feed)
    assert lake.feed(feed).failures().count == 0

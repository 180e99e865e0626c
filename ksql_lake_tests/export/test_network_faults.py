"""Exports through a network that cuts, stalls, delays, throttles and corrupts anywhere: whole or not at all."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import duckdb
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import KsqlLakeError, Recovery, ServerUnavailableError
from ksql_lake.export import ExportResult, export_feed
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient, QueryKind
from ksql_lake.lake import Lake
from ksql_lake.settings import Settings, load_settings
from ksql_lake_tests.export.test_export import DAYS, sample_feed, visible
from ksql_lake_tests.fakes.faulty_proxy import Direction, Fault, FaultyProxy, Kind
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer, chunked
from ksql_lake_tests.ksqldb.conftest import DONE, HEADER, info
from ksql_lake_tests.ksqldb.test_tls import Authority

ROWS = 200
STREAM, TABLE = "transaction_stream", "user_transaction_summary"
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
WORDS = (
    "the answer was cut off",
    "the connection broke in the middle of the answer",
    "the connection was closed without an answer",
    "fell silent",
    "no answer within",
    "without the mark of a complete one",
)
Rows = Counter[str]
Clean = dict[str, tuple[dict[str, int], Rows]]


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    """A proxy before a server with a small payments sample."""
    with (
        DevServer.start(sample=True, arguments=["--sample-rows", str(ROWS)]) as server,
        FaultyProxy(int(server.url.rsplit(":", 1)[1])) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def clean(proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """How many bytes a clean export of each feed passes, and the rows it lands."""
    found: Clean = {}
    for name in (STREAM, TABLE):
        lake = Lake(tmp_path_factory.mktemp(name))
        proxy.set(None)
        export(proxy, lake, sample_feed(name))
        found[name] = (dict(proxy.passed), landed(lake, sample_feed(name)))
        assert found[name][1].total() > 0
    return found


def export(proxy: FaultyProxy, lake: Lake, feed: Feed, *, attempts: int = 1, idle: float = 20) -> ExportResult:
    """Export with a client of its own."""
    given = load_settings(ksqldb_url=proxy.url, attempts=attempts, read_timeout=idle)
    with KsqlClient(given, sleep=lambda _seconds: None) as client:
        return export_feed(feed, client, lake, days=DAYS if feed.kind == "stream" else None)


def told(proxy: FaultyProxy, lake: Lake, feed: Feed, *, idle: float = 20) -> KsqlLakeError | None:
    """Export, and give what was said if it failed."""
    try:
        export(proxy, lake, feed, idle=idle)
    except KsqlLakeError as error:
        return error
    return None


def landed(lake: Lake, feed: Feed) -> Rows:
    """Every row as text, with its multiplicity, by a reader that knows nothing of manifests."""
    if not visible(Path(lake.root)):
        return Counter()
    pattern = f"{lake.root}/{feed.kind}s/{feed.name}/**/*.parquet"
    query = "SELECT CAST(row AS VARCHAR) FROM read_parquet(?, hive_partitioning = false) AS row"
    with duckdb.connect() as connection:
        return Counter(text for (text,) in connection.execute(query, [pattern]).fetchall())


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    name=st.sampled_from([STREAM, TABLE]),
    kind=st.sampled_from([kind for kind in get_args(Kind) if kind not in ("flip", "stall")]),
    direction=st.sampled_from(get_args(Direction)),
    place=st.floats(0, 1, exclude_max=True),
)
def test_whatever_breaks_at_any_byte_an_export_lands_whole_or_not_at_all(
    proxy: FaultyProxy, clean: Clean, name: str, kind: Kind, direction: Direction, place: float
) -> None:
    """A cut lands nothing and says what happened, where and what to do; the next export lands it all."""
    passed, expected = clean[name]
    feed = sample_feed(name)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        proxy.set(Fault(kind, direction, int(place * passed[direction])))
        broken = told(proxy, lake, feed)
        if broken is not None:
            assert visible(Path(folder)) == []
            assert broken.recovery is Recovery.RETRY
            assert str(broken).startswith(f"feed {name}, server {proxy.url}")
            assert any(words in str(broken) for words in WORDS), str(broken)
            assert broken.hint
            export(proxy, lake, feed)
        assert landed(lake, feed) == expected


@settings(max_examples=10, deadline=None, suppress_health_check=SLOW)
@given(
    name=st.sampled_from([STREAM, TABLE]),
    kind=st.sampled_from(["fin", "rst"]),
    direction=st.sampled_from(get_args(Direction)),
    place=st.floats(0, 1, exclude_max=True),
)
def test_a_network_that_breaks_twice_is_outlived_by_four_attempts(
    proxy: FaultyProxy, clean: Clean, name: str, kind: Kind, direction: Direction, place: float
) -> None:
    """Each attempt is a fresh query: rows of a broken one are never mixed with those of the next."""
    passed, expected = clean[name]
    with tempfile.TemporaryDirectory() as folder:
        proxy.set(Fault(kind, direction, int(place * passed[direction]), times=2))
        export(proxy, Lake(folder), sample_feed(name), attempts=4)
        assert landed(Lake(folder), sample_feed(name)) == expected


@pytest.mark.parametrize(
    ("direction", "place"),
    # The last third of what is asked is the question for the server's clock, which an export can do without.
    [
        ("request", 0.05),
        ("request", 0.5),
        ("request", 0.65),
        ("response", 0.05),
        ("response", 0.5),
        ("response", 0.99),
    ],
)
def test_a_stalled_network_trips_the_idle_limit(
    proxy: FaultyProxy, clean: Clean, tmp_path: Path, direction: Direction, place: float
) -> None:
    """Whoever falls silent, a request or an answer, is waited for as long as KSQLDB_READ_TIMEOUT says."""
    passed, _ = clean[STREAM]
    proxy.set(Fault("stall", direction, int(place * passed[direction])))

    with pytest.raises(ServerUnavailableError, match=r"within 1 s|fell silent for 1 s") as caught:
        export(proxy, Lake(tmp_path), sample_feed(STREAM), idle=1)

    assert "KSQLDB_READ_TIMEOUT" in caught.value.hint
    assert visible(tmp_path) == []


@settings(max_examples=50, deadline=None, suppress_health_check=SLOW)
@given(
    name=st.sampled_from([STREAM, TABLE]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_of_an_answer_is_refused_or_changes_one_value(
    proxy: FaultyProxy, clean: Clean, name: str, place: float, bit: int
) -> None:
    """Framing, types and counts are checked; a value that is another valid value is not known to be wrong."""
    passed, expected = clean[name]
    feed = sample_feed(name)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        proxy.set(Fault("flip", "response", int(place * passed["response"]), bit=bit))
        if told(proxy, lake, feed, idle=1) is not None:
            assert visible(Path(folder)) == []
            return
        found = landed(lake, feed)
        assert found.total() == expected.total()
        assert (found - expected).total() <= 1


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_request_never_lands_a_row_that_is_none(
    proxy: FaultyProxy, clean: Clean, place: float, bit: int
) -> None:
    """A question that arrives as another one is refused, or answered with rows that are true."""
    passed, expected = clean[STREAM]
    feed = sample_feed(STREAM)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        proxy.set(Fault("flip", "request", int(place * passed["request"]), bit=bit))
        if told(proxy, lake, feed, idle=1) is not None:
            assert visible(Path(folder)) == []
            return
        assert landed(lake, feed) <= expected


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One authority for all tests; making keys takes time."""
    return Authority(tmp_path_factory.mktemp("tls"))


def test_under_tls_every_flipped_bit_is_noticed(authority: Authority) -> None:
    """What TCP lets through TLS refuses: an answer that is read is the one that was sent."""
    rows = [b'{"row":{"columns":[%d]}},\n' % number for number in range(300)]
    refused = read = 0
    with ScriptedServer(authority.server()) as server, FaultyProxy(server.port) as proxy:
        server.script("/info", answer(info()))
        server.script("/query", chunked(HEADER, *rows, DONE))
        url = f"https://localhost:{proxy.port}"

        def ask() -> bytes:
            # One attempt: what the server is, which is asked first, would be asked again.
            given = Settings(ksqldb_url=url, ksqldb_ca_file=authority.ca_file, read_timeout=2.0, attempts=1)
            with (
                KsqlClient(given) as client,
                client.query("SELECT 1", kind=QueryKind.PULL_STREAM) as response,
            ):
                return b",\n".join(block.data for block in response)

        proxy.set(None)
        expected, passed = ask(), dict(proxy.passed)
        for direction in get_args(Direction):
            for place in range(0, passed[direction], max(1, passed[direction] // 25)):
                proxy.set(Fault("flip", direction, place, bit=place % 8))
                try:
                    found = ask()
                except KsqlLakeError:
                    refused += 1
                else:
                    # A byte that TLS itself ignores: the version in a record's head.
                    assert found == expected
                    read += 1
    assert refused > 40
    assert read < refused


def test_a_proxy_without_a_fault_changes_nothing(proxy: FaultyProxy) -> None:
    """What these tests find is the fault's doing."""
    proxy.set(None)
    assert requests.get(f"{proxy.url}/info", timeout=20).json()["KsqlServerInfo"]["serverStatus"] == "RUNNING"
    assert proxy.struck == 0

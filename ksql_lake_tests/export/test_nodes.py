"""Tables read from services whose nodes come, go, pause, or lose rows between them: whole, or nothing lands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from ksql_lake.devserver.process import DevCluster, DevServer
from ksql_lake.errors import EvidenceError, IncompleteResponseError, KsqlLakeError, NotBuiltError
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake_tests.devserver.conversation import Client
from ksql_lake_tests.devserver.nodes import PULL, SETUP, Pulled, pull, state, until
from ksql_lake_tests.export.orders import export, fill, held, keys, table_feed
from ksql_lake_tests.fakes.balancer import Balancer

KEYS = 60
MANY = 400
"""So many that 7.5.1, which loses up to 50 rows, never loses all of a node's."""
FEED = table_feed()


@pytest.fixture(scope="module")
def started() -> Iterator[DevCluster]:
    """Two nodes with a table of 60 keys."""
    arguments = ["--session-seconds", "4", "--phase", "restoring=0.5"]
    with DevCluster.start(arguments=arguments) as nodes:
        Client(nodes.urls[0]).ksql(SETUP)
        fill(nodes.urls[0], KEYS)
        yield nodes


@pytest.fixture
def cluster(started: DevCluster) -> Iterator[DevCluster]:
    """The two nodes; afterwards both are there again, without faults."""
    yield started
    until(lambda: [state(url)["group"] for url in started.urls] == [[1, 2], [1, 2]])
    for url in started.urls:
        Client(url).faults()
    until(lambda: all(len(pull(url).rows) == KEYS for url in started.urls))


def midway(url: str) -> bool:
    """Whether a node is in the midst of an answer."""
    return any(query["state"] == "running" and query["rows"] for query in Client(url).asked())


def while_asleep(action: Callable[[], object]) -> Callable[[float], None]:
    """Stand for `sleep`: does something the first time, and sleeps too."""
    actions = [action]

    def sleep(seconds: float) -> None:
        if actions:
            actions.pop()()
        time.sleep(seconds)

    return sleep


def test_nodes_are_read_one_by_one(cluster: DevCluster, tmp_path: Path) -> None:
    """Two healthy nodes: each partition comes from the one that holds it, and the version is proven."""

    def sent() -> int:
        return sum(query["rows"] for url in cluster.urls for query in Client(url).asked())

    before = sent()
    done = export(cluster.urls[1], tmp_path, FEED)

    assert sent() - before == KEYS
    assert done.evidence.level == "proven"
    assert "each of the 4 partitions was answered by the one of 2 nodes that holds it" in done.evidence.text
    assert held(tmp_path, FEED) == keys(KEYS)


@pytest.mark.parametrize("action", ["kill", "stop", "pause"])
def test_a_node_that_goes_while_it_answers_takes_no_row_along(
    cluster: DevCluster, tmp_path: Path, action: str
) -> None:
    """SIGKILL, SIGTERM, SIGSTOP of a node midway: the version that lands is whole and proven."""
    first, second = cluster.urls
    Client(second).faults({"kind": "slow", "rows_per_second": 5, "source": "TOTALS"})
    struck: list[bool] = []

    def strike() -> None:
        until(lambda: midway(second))
        getattr(cluster, f"{action}_node")(2)
        struck.append(True)

    striker = Thread(target=strike)
    striker.start()
    try:
        done = export(first, tmp_path, FEED, attempts=6, read_timeout=5)
    finally:
        striker.join()
        (cluster.resume_node if action == "pause" else cluster.start_node)(2)

    assert struck
    assert done.evidence.level == "proven"
    assert held(tmp_path, FEED) == keys(KEYS)


def test_a_node_that_stays_away_for_longer_than_we_wait_leaves_no_version(
    cluster: DevCluster, tmp_path: Path
) -> None:
    """While no node has its part no export lands; what the newer writer calls whole lacks that part."""
    cluster.kill_node(2)
    try:
        lost = pull(cluster.urls[0], legacy=False)
        with pytest.raises(KsqlLakeError):
            export(cluster.urls[0], tmp_path, FEED, table_wait=0, sleep=lambda _seconds: None)
    finally:
        cluster.start_node(2)

    assert lost.well
    assert 0 < len(lost.rows) < KEYS
    assert held(tmp_path, FEED) == {}


def test_nodes_behind_a_balancer_are_read_twice(cluster: DevCluster, tmp_path: Path) -> None:
    """Their own addresses lead nowhere: two readings agree, which is "checked", and a feed can refuse that."""
    with Balancer(cluster.urls) as balancer:
        done = export(balancer.url, tmp_path / "lake", FEED)
        with pytest.raises(EvidenceError) as caught:
            export(balancer.url, tmp_path / "other", table_feed(evidence="proven"))

    assert done.evidence.level == "checked"
    assert "two readings agree" in done.evidence.text
    assert "cannot be asked from here" in done.evidence.text
    assert held(tmp_path / "lake", FEED) == keys(KEYS)
    assert "KSQLDB_NODES" in caught.value.hint
    assert '"extraction": "push"' in caught.value.hint
    assert held(tmp_path / "other", FEED) == {}


def test_a_node_that_goes_before_two_readings_makes_them_void(cluster: DevCluster, tmp_path: Path) -> None:
    """Behind a balancer, with the newer writer, two answers without its part agree: its absence is noticed.

    The settling time outlasts the half second for which a node that takes over restores its state.
    """
    Client(cluster.urls[0]).faults({"kind": "prohibit", "property": LEGACY_WRITER})
    first: list[Pulled] = []

    def strike() -> None:
        cluster.kill_node(2)
        first.append(pull(cluster.urls[0], legacy=False))

    with Balancer(cluster.urls, before_query=strike) as balancer:
        try:
            done = export(balancer.url, tmp_path, FEED, attempts=6, settle_time=2)
        finally:
            cluster.start_node(2)

    assert first[0].well
    assert 0 < len(first[0].rows) < KEYS
    assert held(tmp_path, FEED) == keys(KEYS)
    assert done.evidence.level == "checked"


def test_releases_that_lose_rows_on_the_way_are_found_out(tmp_path: Path) -> None:
    """7.5.1: whole pulls of two healthy nodes are short; behind a balancer refused, node by node whole."""
    with DevCluster.start(arguments=["--session-seconds", "2", "--server-version", "7.5.1"]) as nodes:
        Client(nodes.urls[0]).ksql(SETUP)
        fill(nodes.urls[0], MANY)
        for legacy in (True, False):
            short = pull(nodes.urls[0], PULL, legacy=legacy)
            assert short.well
            assert len(short.rows) < MANY
        with Balancer(nodes.urls) as balancer:
            with pytest.raises(IncompleteResponseError, match="two readings of the table differ") as caught:
                export(balancer.url, tmp_path / "lake", FEED, attempts=2)
            assert "KSQLDB_NODES" in caught.value.hint
            assert held(tmp_path / "lake", FEED) == {}

            done = export(balancer.url, tmp_path / "lake", FEED, nodes=",".join(nodes.urls))

    assert done.evidence.level == "proven"
    assert held(tmp_path / "lake", FEED) == keys(MANY)


def test_a_single_node_is_read_when_it_is_ready_and_not_while_it_goes(tmp_path: Path) -> None:
    """After a start a table is empty and complete for a while, then refused for another; it lands whole."""
    phases = [("starting", 1), ("locating", 1), ("restoring", 1), ("stopping", 30)]
    arguments = [text for name, seconds in phases for text in ("--phase", f"{name}={seconds}")]
    feed = table_feed("USER_TRANSACTION_SUMMARY")
    with DevServer.start(sample=True, arguments=["--sample-rows", "200", *arguments]) as server:
        slept: list[bool] = []
        sleep = while_asleep(lambda: slept.append(True))
        done = export(server.url, tmp_path, feed, attempts=12, sleep=sleep)
        sql = "SELECT USER_ID FROM USER_TRANSACTION_SUMMARY;"
        whole = Counter(row[0] for row in pull(server.url, sql).rows)
        server.terminate()
        until(lambda: "isn't queryable" in pull(server.url, sql).error)
        with pytest.raises(NotBuiltError, match="no query writes USER_TRANSACTION_SUMMARY") as caught:
            export(server.url, tmp_path, feed, sleep=lambda _seconds: None)
        server.kill()

    assert slept
    assert done.evidence.level == "proven"
    assert held(tmp_path, feed, "USER_ID") == whole
    assert "its server is shutting down" in caught.value.hint.lower()

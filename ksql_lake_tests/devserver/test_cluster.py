"""Several nodes: one truth, one owner per partition, and what is missing while a node is away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import requests

from ksql_lake.devserver.process import DevCluster
from ksql_lake.errors import ConfigError
from ksql_lake_tests.devserver.conversation import PATIENCE, Client
from ksql_lake_tests.devserver.nodes import LEGACY, PARTITION, PARTITIONS, PULL, SETUP, fill, pull, state, until

KEYS = 40
SESSION = ["--session-seconds", "3", "--phase", "restoring=0.5"]


@contextmanager
def _two_nodes(*arguments: str) -> Iterator[DevCluster]:
    with DevCluster.start(arguments=arguments) as nodes:
        Client(nodes.urls[0]).ksql(SETUP)
        fill(nodes.urls[0], KEYS)
        yield nodes


@pytest.fixture
def cluster() -> Iterator[DevCluster]:
    """Two nodes with a table of 40 keys."""
    with _two_nodes(*SESSION) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def untouched() -> Iterator[DevCluster]:
    """The same, for tests that leave nodes and rows as they are."""
    # A busy machine may not let a node answer for seconds, and that is no test's affair here.
    with _two_nodes("--session-seconds", "60") as nodes:
        yield nodes


def test_a_partition_is_answered_by_exactly_one_node(untouched: DevCluster) -> None:
    """Partition by partition the parts make the whole; the other node says "not here", or nothing at all."""
    found: list[str] = []
    for partition in range(PARTITIONS):
        answers = [pull(url, partition=partition) for url in untouched.urls]
        (owner,) = [number for number, answer in enumerate(answers) if answer.well]
        assert answers[1 - owner].error.endswith(
            f"locally at node {untouched.urls[1 - owner]}/: Failed to scan materialized table"
        )
        silent = pull(untouched.urls[1 - owner], legacy=False, partition=partition)
        assert (silent.status, silent.rows, silent.error) == (200, [], "")
        found += [row[0] for row in answers[owner].rows]

    assert sorted(found) == sorted(f"key-{number}" for number in range(KEYS))


def test_each_node_forwards_to_the_other(untouched: DevCluster) -> None:
    """A whole pull gives every row, from either node, with either writer, in every form."""
    for url in untouched.urls:
        assert len(pull(url).rows) == KEYS
        assert len(pull(url, legacy=False).rows) == KEYS
        assert len(Client(url).query_stream(PULL).text.splitlines()) == KEYS + 1
        array = Client(url).query_stream(PULL, accept="application/json").json()
        assert len(array) == KEYS + 1
        assert pull(url, PULL.replace(";", " LIMIT 7;")).rows == pull(url, PULL.replace(";", " LIMIT 7;")).rows
        assert len(pull(url, PULL.replace(";", " LIMIT 7;")).rows) == 7


def test_partitions_that_do_not_exist_are_refused_as_on_a_server_that_starts(untouched: DevCluster) -> None:
    """The refusal is the same for an impossible partition and for one that no node has yet."""
    answer = pull(untouched.urls[0], partition=99)

    assert answer.status == 400
    assert answer.error.startswith("Cannot determine which host contains the required partitions")


def test_a_partition_list_without_skip_forwarding_hangs(untouched: DevCluster) -> None:
    """Not even a status line comes."""
    body = {"ksql": PULL, "streamsProperties": LEGACY, "requestProperties": {PARTITION: "0"}}
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{untouched.urls[0]}/query", json=body, timeout=1)


def test_statements_and_rows_are_shared(cluster: DevCluster) -> None:
    """What one node accepts, the other reports at once: sources, rows, offsets, refusals."""
    first, second = map(Client, cluster.urls)
    second.ksql("CREATE STREAM MORE (ID BIGINT) WITH (KAFKA_TOPIC='more', PARTITIONS=1, VALUE_FORMAT='JSON');")
    second.append("MORE", {"ID": 1}, {"ID": 2})
    assert first.rows("SELECT ID, ROWTIME FROM MORE;") == second.rows("SELECT ID, ROWTIME FROM MORE;")
    first.ksql("INSERT INTO MORE (ID) VALUES (3);")
    assert [row[0] for row in second.rows("SELECT ID FROM MORE;")] == [1, 2, 3]
    assert first.refused("DROP STREAM ORDERS;") == second.refused("DROP STREAM ORDERS;")


def test_show_queries_counts_hosts(cluster: DevCluster) -> None:
    """Two hosts run the query; a dead one is UNRESPONSIVE while it belongs to the group, then it is gone."""
    first = Client(cluster.urls[0])

    def counts() -> dict[str, int]:
        return dict(first.ksql("SHOW QUERIES;")[0]["queries"][0]["statusCount"])

    assert counts() == {"RUNNING": 2}
    described = first.ksql("SHOW QUERIES EXTENDED;")[0]["queryDescriptions"][0]
    hosts = [url.removeprefix("http://") for url in cluster.urls]
    assert described["ksqlHostQueryStatus"] == dict.fromkeys(hosts, "RUNNING")
    cluster.kill_node(2)
    assert counts() == {"RUNNING": 1, "UNRESPONSIVE": 1}
    until(lambda: counts() == {"RUNNING": 1})


def test_a_killed_node_takes_its_part_along_until_the_others_restore_it(cluster: DevCluster) -> None:
    """The older writer reports what is missing, the newer one ends like a whole answer; then all is back."""
    cluster.kill_node(2)

    place = urlsplit(cluster.urls[1])
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((place.hostname, place.port))  # it comes back to its port
    told, lost = pull(cluster.urls[0]), pull(cluster.urls[0], legacy=False)
    assert told.error == "Unable to execute pull query: Exhausted standby hosts to try."
    assert lost.well
    assert 0 < len(lost.rows) < KEYS
    until(lambda: len(pull(cluster.urls[0]).rows) == KEYS)
    cluster.start_node(2)
    assert pull(cluster.urls[1]).status in (200, 503)
    until(lambda: all(len(pull(url).rows) == KEYS and len(state(url)["group"]) == 2 for url in cluster.urls))
    assert cluster.log == ""


def test_a_paused_node_loses_its_partitions_and_does_not_answer_for_them_when_it_wakes(
    cluster: DevCluster,
) -> None:
    """Its partitions move; rows that came meanwhile are in every answer that ends without an error."""
    cluster.pause_node(2)
    until(lambda: state(cluster.urls[0])["group"] == [1])
    fill(cluster.urls[0], 10, KEYS)
    cluster.resume_node(2)

    until(lambda: len(pull(cluster.urls[1]).rows) == KEYS + 10)
    until(lambda: state(cluster.urls[0])["group"] == [1, 2])


def test_no_partition_answer_that_ends_well_is_short(cluster: DevCluster) -> None:
    """Nodes are killed, stopped, paused and started; every part that ends without an error is whole."""
    whole = {}
    for partition in range(PARTITIONS):
        answers = [pull(url, partition=partition) for url in cluster.urls]
        whole[partition] = sorted(row[0] for answer in answers if answer.well for row in answer.rows)
    assert sum(map(len, whole.values())) == KEYS
    wrong: list[object] = []
    seen = 0
    over = threading.Event()

    def watch(url: str) -> None:
        nonlocal seen
        while not over.is_set():
            for partition in range(PARTITIONS):
                try:
                    answer = pull(url, partition=partition, timeout=5)
                except requests.RequestException:
                    continue
                seen += answer.well
                if answer.well and sorted(row[0] for row in answer.rows) != whole[partition]:
                    wrong.append((url, partition, len(answer.rows)))

    watchers = [threading.Thread(target=watch, args=(url,)) for url in cluster.urls]
    for watcher in watchers:
        watcher.start()
    try:
        for action in ("kill", "stop", "pause"):
            getattr(cluster, f"{action}_node")(2)
            until(lambda: state(cluster.urls[0])["group"] == [1])
            (cluster.resume_node if action == "pause" else cluster.start_node)(2)
            until(lambda: state(cluster.urls[0])["group"] == [1, 2])
            until(lambda: all(len(pull(url).rows) == KEYS for url in cluster.urls))
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()

    assert wrong == []
    assert seen > PARTITIONS


def test_lag_reporting_names_the_partitions_that_are_not_here() -> None:
    """With lag reporting on "not here" is a 400 with the partitions, and /clusterStatus names their nodes."""
    with DevCluster.start(arguments=[*SESSION, "--lag-reporting"]) as nodes:
        Client(nodes.urls[0]).ksql(SETUP)
        fill(nodes.urls[0], KEYS)
        hosts = [url.removeprefix("http://") for url in nodes.urls]
        answer = pull(nodes.urls[0], alone=True)
        assert (answer.status, answer.error) == (
            400,
            "Unable to execute pull query. ["
            + ", ".join(
                f"Partition {number} failed to find valid host. Hosts scanned: [{hosts[0]} was not selected "
                "because Lag information is not present for host.]"
                for number in (1, 3)
            )
            + "]",
        )
        said = requests.get(f"{nodes.urls[0]}/clusterStatus", timeout=PATIENCE).json()["clusterStatus"]
        active = [said[host]["activeStandbyPerQuery"]["CTAS_TOTALS_2"]["activePartitions"] for host in hosts]
        assert [[item["partition"] for item in items] for items in active] == [[0, 2], [1, 3]]
        nodes.kill_node(2)
        until(lambda: pull(nodes.urls[0]).status == 400)
        assert "failed to find valid host" in pull(nodes.urls[0]).error


def test_clusters_status_is_unknown_without_heartbeats(untouched: DevCluster) -> None:
    """/clusterStatus is 404 with an empty body."""
    answer = requests.get(f"{untouched.urls[0]}/clusterStatus", timeout=PATIENCE)

    assert (answer.status_code, answer.content) == (404, b"")


def test_nodes_are_driven_over_http_too(cluster: DevCluster) -> None:
    """One node has another paused and resumed; impossible actions are refused."""
    first, second = cluster.urls
    assert requests.post(f"{first}/devserver/nodes/2/pause", timeout=PATIENCE).status_code == 200
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{second}/info", timeout=0.5)
    assert requests.post(f"{first}/devserver/nodes/2/resume", timeout=PATIENCE).status_code == 200
    assert requests.get(f"{second}/info", timeout=PATIENCE).status_code == 200
    refused = requests.post(f"{first}/devserver/nodes/7/kill", timeout=PATIENCE)
    assert refused.json()["message"] == (
        "cannot kill node 7: there are nodes 1 to 2 and start, stop, kill, pause, resume"
    )
    with pytest.raises(ConfigError, match="node 1 runs already"):
        cluster.start_node(1)


def test_forwarded_rows_get_lost_without_a_word(cluster: DevCluster) -> None:
    """A whole pull lacks rows of the other node, without an error by either writer; its parts lack none."""
    cluster.set_faults({"kind": "forward_lost", "rows": 3}, node=1)

    for legacy in (True, False):
        answer = pull(cluster.urls[0], legacy=legacy)
        assert (len(answer.rows), answer.well) == (KEYS - 3, True)
    parts = [pull(url, partition=partition) for url in cluster.urls for partition in range(PARTITIONS)]
    assert sum(len(part.rows) for part in parts if part.well) == KEYS


def test_a_query_that_is_held_back_is_so_on_all_nodes(cluster: DevCluster) -> None:
    """A switch of one node that holds a query back leaves the same rows out of each node's part."""
    cluster.set_faults({"kind": "lag", "source": "TOTALS", "rows": 1000}, node=1)
    fill(cluster.urls[0], 10, KEYS)

    assert [len(pull(url).rows) for url in cluster.urls] == [KEYS, KEYS]
    cluster.set_faults(node=2)
    assert [len(pull(url).rows) for url in cluster.urls] == [KEYS + 10, KEYS + 10]

"""What a node's answers report about the other nodes: states and tasks of queries per host, /clusterStatus."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from ksql_lake.devserver.cluster.node import Node, store_partitions
from ksql_lake.devserver.service.table_rows import asked
from ksql_lake.devserver.store.sources import Catalog

Entity = dict[str, Any]
UNKNOWN = -1


async def host_states(node: Node) -> dict[str, str]:
    """Return each host of the service and the state of its queries; a silent host is UNRESPONSIVE."""
    others = list(node.others().values())
    answers = await asyncio.gather(*(asked(url, "/devserver/node", patience=node.patience) for url in others))
    states = {
        urlsplit(url).netloc: "UNRESPONSIVE" if answer is None else "RUNNING"
        for url, answer in zip(others, answers, strict=True)
    }
    return {node.host: "RUNNING", **states}


def spread(entity: Entity, node: Node, states: dict[str, str]) -> None:
    """Change an entity of /ksql in place to what it reports on a service of these hosts."""
    counts: dict[str, int] = {}
    for state in states.values():
        counts[state] = counts.get(state, 0) + 1
    for query in entity.get("queries", []):
        if query["queryType"] == "PERSISTENT":
            query["statusCount"] = dict(counts)
    for query in entity.get("queryDescriptions", []):
        if query["queryType"] == "PERSISTENT":
            query["ksqlHostQueryStatus"] = dict(states)
            query["tasksMetadata"] = [_own(task, node) for task in query["tasksMetadata"]]
    described = entity.get("sourceDescription")
    if described is not None and node.phases.unqueryable:
        described["writeQueries"] = []


def _own(task: Entity, node: Node) -> Entity:
    """Return a task as this node reports it: it knows no offsets of tasks that run elsewhere."""
    offsets = [
        item
        if node.holds(item["topicPartitionEntity"]["partition"])
        else {**item, "endOffset": UNKNOWN, "committedOffset": UNKNOWN}
        for item in task["topicOffsets"]
    ]
    return {**task, "topicOffsets": offsets}


def cluster_status(node: Node, catalog: Catalog) -> Entity:
    """Return the body of /clusterStatus."""
    membership = node.membership
    hosts = {node.host: None} if membership is None else dict.fromkeys(
        urlsplit(url).netloc for _, url in membership.view.hosts
    )  # fmt: skip
    numbers = {} if membership is None else {urlsplit(u).netloc: n for n, u in membership.view.hosts}
    now = int(time.time() * 1000)
    status = {}
    for host in hosts:
        number = numbers.get(host)
        alive = host == node.host or membership is None or number in membership.alive
        stores: Entity = {}
        lags: Entity = {}
        for query in catalog.queries.values():
            source, sink = catalog.sources[query.source], catalog.sources[query.sink]
            if sink.kind != "TABLE":
                continue
            owned = [
                partition
                for partition in range(store_partitions(sink, catalog))
                if membership is None or membership.view.owner(partition) == number
            ]
            stores[query.id] = {
                "activeStores": ["Aggregate-Aggregate-Materialize"],
                "activePartitions": [{"topic": source.topic, "partition": item} for item in owned],
                "standByStores": [],
                "standByPartitions": [],
            }
            lags[f"{query.id}#Aggregate-Aggregate-Materialize"] = _lags(owned, source.ends)
        status[host] = {
            "hostAlive": alive,
            "lastStatusUpdateMs": now,
            "activeStandbyPerQuery": stores,
            "hostStoreLags": {"stateStoreLags": lags, "updateTimeMs": now},
        }
    return {"clusterStatus": status}


def _lags(partitions: list[int], ends: dict[int, int]) -> Entity:
    by_partition = {
        str(number): {
            "currentOffsetPosition": ends.get(number, 0),
            "endOffsetPosition": ends.get(number, 0),
            "offsetLag": 0,
        }
        for number in partitions
    }
    return {"lagByPartition": by_partition, "size": len(partitions)}

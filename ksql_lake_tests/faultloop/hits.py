"""What happens to the nodes while the product exports: signals, and switches."""

from __future__ import annotations

import time
from contextlib import suppress
from random import Random

import requests

from ksql_lake.devserver.process import DevCluster

SIGNALS = ("kill", "stop", "pause", "pause", "none")
NODES = (1, 2)
SWITCHES: tuple[dict[str, object], ...] = (
    {"kind": "failure", "after_rows": 2},
    {"kind": "unrestored"},
    {"kind": "stranger_close", "after_rows": 20},
    {"kind": "session_lost", "after_rows": 40, "rows": 30},
    {"kind": "forward_lost", "rows": 3},
    {"kind": "stall", "after_rows": 10},
    {"kind": "hang", "after_rows": 10},
    {"kind": "slow", "rows_per_second": 400},
    {"kind": "cut_row", "after_rows": 15},
    {"kind": "cut_chunk", "after_rows": 15},
    {"kind": "reset", "after_rows": 15},
    {"kind": "no_bracket"},
    {"kind": "busy"},
    {"kind": "not_ready"},
    {"kind": "drop"},
    {"kind": "wrong_context"},
    {"kind": "lag", "rows": 2},
    {"kind": "repartition_lag", "rows": 2},
    {"kind": "dead_task", "partition": 1},
)


HOLDING = ("lag", "repartition_lag", "dead_task")
OF_TABLES = ("failure", "unrestored", "forward_lost", "lag", "repartition_lag", "dead_task")
"""Switches that would be used up by the queries of streams, or are about tables only."""


class Hits:
    """Hits a cluster at random.

    Args:
        cluster: Two nodes.
        random: What chooses.
        only: Names of the switches that may flip; None means all.
    """

    def __init__(self, cluster: DevCluster, random: Random, only: tuple[str, ...] | None = None) -> None:
        self._cluster = cluster
        self._random = random
        self._switches = [item for item in SWITCHES if only is None or item["kind"] in only]

    def flip(self) -> list[str]:
        """Switch faults on, each node its own, for a query or two; returns their names."""
        names = []
        for url in self._cluster.urls:
            chosen = self._random.sample(
                self._switches,
                min(len(self._switches), self._random.randint(0 if len(self._switches) > 3 else 1, 2)),
            )
            faults = [self._drawn(item) for item in chosen]
            requests.put(f"{url}/devserver/faults", json=faults, timeout=60).raise_for_status()
            names += [str(item["kind"]) for item in chosen]
        return names

    def _drawn(self, switch: dict[str, object]) -> dict[str, object]:
        """A switch for some source and some queries."""
        drawn = {**switch, "times": self._random.randint(1, 2)}
        if switch["kind"] in OF_TABLES:
            drawn["source"] = self._random.choice(("TOTALS", "GROUPS"))
        return drawn

    def hit(self) -> str:
        """Hit one node in the middle of an export and bring it back; returns what was done."""
        node, action = self._random.choice(NODES), self._random.choice(SIGNALS)
        time.sleep(self._random.uniform(0, 1.5))
        if action == "none":
            return action
        getattr(self._cluster, f"{action}_node")(node)
        time.sleep(self._random.uniform(0.2, 2.5))
        (self._cluster.resume_node if action == "pause" else self._cluster.start_node)(node)
        return f"{action} {node}"

    def calm(self, *, holding: bool = False) -> None:
        """Take switches back; waits until both nodes answer and hold their partitions.

        Args:
            holding: Only those that hold queries back; else all.
        """
        for url in self._cluster.urls:
            while True:
                with suppress(requests.RequestException):
                    on = requests.get(f"{url}/devserver/faults", timeout=5).json() if holding else []
                    left = [item for item in on if item["kind"] not in HOLDING]
                    requests.put(f"{url}/devserver/faults", json=left, timeout=5).raise_for_status()
                    state = requests.get(f"{url}/devserver/node", timeout=5).json()
                    if state["settled"] and state["group"] == list(NODES):
                        break
                time.sleep(0.05)

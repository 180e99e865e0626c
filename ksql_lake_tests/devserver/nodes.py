"""Talking to the nodes of a devserver cluster in a test: one small table, pulled whole or by partition."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import requests

from ksql_lake_tests.devserver.conversation import PATIENCE, Client, object_lines

LEGACY = {"ksql.endpoint.migrate.query": False}
SKIP = "request.ksql.query.pull.skip.forwarding"
PARTITION = "request.ksql.query.pull.partition"
PARTITIONS = 4
SETUP = (
    f"CREATE STREAM ORDERS (K STRING KEY, V BIGINT) WITH (KAFKA_TOPIC='orders', PARTITIONS={PARTITIONS}, "
    "VALUE_FORMAT='JSON');"
    "CREATE TABLE TOTALS AS SELECT K, COUNT(*) AS N, SUM(V) AS S FROM ORDERS GROUP BY K EMIT CHANGES;"
)
PULL = "SELECT K, N, S FROM TOTALS;"


@dataclass(frozen=True)
class Pulled:
    """What one pull gave."""

    status: int
    rows: list[list[Any]]
    error: str

    @property
    def well(self) -> bool:
        """It ended as a whole answer ends."""
        return self.status == 200 and not self.error


def pull(
    url: str, sql: str = PULL, *, legacy: bool = True, timeout: float = PATIENCE, **asked: object
) -> Pulled:
    """A table pull over /query.

    Args:
        url: The node.
        sql: The pull.
        legacy: Ask for the older writer.
        timeout: Seconds of silence after which the request fails.
        asked: `partition=3` reads one partition of this node alone, `alone=True` all it has.
    """
    wanted = {SKIP: True} if asked else {}
    if "partition" in asked:
        wanted[PARTITION] = str(asked["partition"])  # type: ignore[assignment]
    body = {"ksql": sql, "streamsProperties": LEGACY if legacy else {}, "requestProperties": wanted}
    headers = {"Accept": "application/json"}
    answer = requests.post(f"{url}/query", json=body, headers=headers, timeout=timeout)
    if answer.status_code != 200:
        return Pulled(answer.status_code, [], str(answer.json()["message"]))
    lines = [msgspec.json.decode(line) for line in object_lines(answer.text)]
    error = next((line["errorMessage"]["message"] for line in lines if "errorMessage" in line), "")
    rows = [line["row"]["columns"] for line in lines if "row" in line]
    ended = answer.text.rstrip("\n").endswith("]")
    return Pulled(200, rows, error if ended or error else "no bracket at the end")


def fill(url: str, keys: int, first: int = 0) -> None:
    """Append one order for each key."""
    rows = [{"K": f"key-{number}", "V": number} for number in range(first, first + keys)]
    Client(url).append("ORDERS", *rows)


def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def state(url: str) -> dict[str, Any]:
    """What a node says about itself."""
    return dict(requests.get(f"{url}/devserver/node", timeout=PATIENCE).json())

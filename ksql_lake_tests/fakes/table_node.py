"""A node of a ksqlDB service as far as the reading of one table looks at it; what it says is set by a test.

The shapes are those of recorded answers; a test says where the numbers come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ksql_lake_tests.fakes.scripted_server import Request, Script, ScriptedServer, answer

Offsets = Mapping[str, Sequence[tuple[int, int, int]]]
"""Topic -> per partition where its log starts, where it ends, and how far it was consumed."""
Tasks = Sequence[tuple[str, str, int, int, int]]
"""Task, topic, partition, `endOffset` (the newest record's), `committedOffset`."""

FORBIDDEN = b'{"@type":"generic_error","error_code":40300,"message":"not allowed"}'

TOPOLOGY = """Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [src])
      --> KSTREAM-AGGREGATE-0000000003
    Processor: KSTREAM-AGGREGATE-0000000003 (stores: [Aggregate-Aggregate-Materialize])
      --> KSTREAM-SINK-0000000007
    Sink: KSTREAM-SINK-0000000007 (topic: T)
      <-- KSTREAM-AGGREGATE-0000000003
"""
"""A table over one topic, shortened from a recorded one."""


def summaries(offsets: Offsets) -> list[dict[str, Any]]:
    """`queryOffsetSummaries` of DESCRIBE EXTENDED."""
    if not offsets:
        return []
    topics = [
        {
            "kafkaTopic": topic,
            "offsets": [
                {"partition": number, "logStartOffset": start, "logEndOffset": end, "consumerOffset": consumed}
                for number, (start, end, consumed) in enumerate(parts)
            ],
        }
        for topic, parts in offsets.items()
    ]
    return [{"groupId": "_confluent-ksql-default_query_CTAS_T_1", "topicSummaries": topics}]


def query(
    tasks: Tasks = (),
    *,
    name: str = "CTAS_T_1",
    hosts: Mapping[str, str] | None = None,
    state: str = "RUNNING",
    errors: Sequence[str] = (),
    topology: str = TOPOLOGY,
) -> dict[str, Any]:
    """One query of SHOW QUERIES EXTENDED."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for task, topic, partition, end, committed in tasks:
        place = {"topic": topic, "partition": partition}
        by_task.setdefault(task, []).append(
            {"topicPartitionEntity": place, "endOffset": end, "committedOffset": committed}
        )
    return {
        "id": name,
        "sinks": ["T"],
        "topology": topology,
        "ksqlHostQueryStatus": dict(hosts or {"127.0.0.1:8088": "RUNNING"}),
        "queryType": "PERSISTENT",
        "queryErrors": [{"timestamp": 0, "errorMessage": text, "type": "SYSTEM"} for text in errors],
        "tasksMetadata": [{"taskId": task, "topicOffsets": found} for task, found in by_task.items()],
        "state": state,
    }


@dataclass
class TableNode:
    """One node.

    Attributes:
        server: Where it listens.
        fields: Name, type and whether it is a key, of each column.
        offsets: What DESCRIBE EXTENDED reports, look by look; the last one stays.
        queries: What SHOW QUERIES EXTENDED reports, look by look; None refuses to list them.
        pull: Answers a pull query.
        writers: Ids of the queries that write the table.
        readers: Ids of the queries that read it.
        window: Type of its windows.
        statement: What made it.
        topic: Its topic.
        properties: What SHOW PROPERTIES reports; None refuses to list them.
    """

    server: ScriptedServer
    fields: Sequence[tuple[str, str, bool]] = (("K", "STRING", True), ("N", "BIGINT", False))
    offsets: deque[Offsets] = field(default_factory=lambda: deque([{"src": [(0, 5, 5)]}]))
    queries: deque[list[dict[str, Any]] | None] = field(
        default_factory=lambda: deque([[query([("0_0", "src", 0, 4, 5)])]])
    )
    pull: Callable[[Request], Script] = lambda _: answer(b"", 500)
    writers: Sequence[str] = ("CTAS_T_1",)
    readers: Sequence[str] = ()
    window: str | None = None
    statement: str = "CREATE TABLE T AS SELECT ..."
    topic: str = "T"
    properties: Mapping[str, str] | None = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.choose("/ksql", self._statement)
        self.server.choose("/query", lambda request: self.pull(request))  # noqa: PLW0108 - tests replace it

    def statements(self) -> list[str]:
        """What it was asked to run."""
        return [request.json["ksql"] for request in self.server.asked("/ksql")]

    def _statement(self, request: Request) -> Script:
        sql: str = request.json["ksql"]
        if sql.startswith("DESCRIBE"):
            return answer(msgspec.json.encode([self._description(extended="EXTENDED" in sql)]))
        if sql.startswith("SHOW PROPERTIES") and self.properties is None:
            return answer(FORBIDDEN, 403)
        if sql.startswith("SHOW PROPERTIES"):
            listed = [{"name": name, "value": value} for name, value in (self.properties or {}).items()]
            return answer(msgspec.json.encode([{"@type": "properties", "properties": listed}]))
        found = self.queries.popleft() if len(self.queries) > 1 else self.queries[0]
        if found is None:
            return answer(FORBIDDEN, 403)
        return answer(msgspec.json.encode([{"@type": "queryDescriptions", "queryDescriptions": found}]))

    def _description(self, *, extended: bool) -> dict[str, Any]:
        offsets: Offsets = {}
        if extended:
            offsets = self.offsets.popleft() if len(self.offsets) > 1 else self.offsets[0]
        plain = {"fields": None, "memberSchema": None}
        source = {
            "name": "T",
            "type": "TABLE",
            "windowType": self.window,
            "fields": [
                {"name": name, "schema": {"type": kind, **plain}, **({"type": "KEY"} if key else {})}
                for name, kind, key in self.fields
            ],
            "topic": self.topic,
            "partitions": 1,
            "statement": self.statement,
            "readQueries": [{"id": name, "sinks": []} for name in self.readers],
            "writeQueries": [{"id": name, "sinks": ["T"]} for name in self.writers],
            "queryOffsetSummaries": summaries(offsets),
        }
        return {"@type": "sourceDescription", "sourceDescription": source}

"""The JSON entities of `/ksql`: how sources, queries and statuses look to a client."""

from __future__ import annotations

from typing import Any

from ksql_lake.devserver.catalog import Catalog, PersistentQuery
from ksql_lake.devserver.columns import Source, SourceColumn, quoted
from ksql_lake.devserver.plan import QueryPlan
from ksql_lake.devserver.running import RunningQuery
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Struct

Entity = dict[str, Any]

_UNKNOWN_TO_US: Entity = {
    "topology": "",
    "executionPlan": "",
    "overriddenProperties": {},
    "queryErrors": [],
    "tasksMetadata": [],
}
"""What a description has and DuckDB has nothing to say about."""


def source_info(source: Source) -> Entity:
    """One element of LIST STREAMS or LIST TABLES."""
    return {
        "type": source.kind,
        "name": source.name,
        "topic": source.topic,
        "keyFormat": source.key_format,
        "valueFormat": source.value_format,
        "isWindowed": source.window_type is not None,
    }


def type_info(kind: KsqlType) -> Entity:
    """A field's type; of a MAP only the value type is told, as on the real server."""
    info: Entity = {"type": "", "fields": None, "memberSchema": None}
    match kind:
        case Decimal(precision, scale):
            info |= {"type": "DECIMAL", "parameters": {"precision": precision, "scale": scale}}
        case Array(element):
            info |= {"type": "ARRAY", "memberSchema": type_info(element)}
        case Map(_, value):
            info |= {"type": "MAP", "memberSchema": type_info(value)}
        case Struct(fields):
            info |= {
                "type": "STRUCT",
                "fields": [{"name": name, "schema": type_info(inner)} for name, inner in fields],
            }
        case _:
            info["type"] = kind.value
    return info


def field_info(column: SourceColumn) -> Entity:
    """One element of a description's `fields`."""
    info: Entity = {"name": column.name, "schema": type_info(column.type)}
    if column.role != "VALUE":
        info["type"] = column.role
    if column.header_key is not None:
        info["headerKey"] = column.header_key
    return info


def query_info(query: PersistentQuery, catalog: Catalog) -> Entity:
    """One running persistent query."""
    return {
        "queryString": query.statement,
        "sinks": [query.sink],
        "sinkKafkaTopics": [catalog.sources[query.sink].topic],
        "id": query.id,
        "statusCount": {"RUNNING": 1},
        "queryType": "PERSISTENT",
        "state": "RUNNING",
    }


def push_info(query: RunningQuery) -> Entity:
    """One running push query."""
    return {
        "queryString": query.plan.statement,
        "sinks": [],
        "sinkKafkaTopics": [],
        "id": query.id,
        "statusCount": {"RUNNING": 1},
        "queryType": "PUSH",
        "state": "RUNNING",
    }


def push_description(query: RunningQuery, catalog: Catalog, *, positions: bool) -> Entity:
    """What SHOW QUERIES EXTENDED tells about a running push query.

    Args:
        query: The query.
        catalog: Where its source is.
        positions: Whether this release tells how far each task has read.
    """
    source = query.plan.source
    task = {
        "taskId": "0_0",
        "topicOffsets": [
            {
                "topicPartitionEntity": {"topic": source.topic, "partition": partition},
                "endOffset": end,
                "committedOffset": committed,
            }
            for partition, end, committed in _positions(query, catalog)
        ],
    }
    return {
        **plan_description(query.plan, query.id),
        "ksqlHostQueryStatus": {"127.0.0.1:8088": "RUNNING"},
        "consumerGroupId": f"_confluent-ksql-default_{query.id}",
        "state": "RUNNING",
        "tasksMetadata": [task] if positions else [],
    }


def _positions(query: RunningQuery, catalog: Catalog) -> list[tuple[int, int, int]]:
    """Partition, end and committed offset of every partition; -1 where nothing was ever fetched."""
    source = query.plan.source
    with catalog.lock:
        known = catalog.database.execute(
            "SELECT ROWPARTITION, max(ROWOFFSET) + 1, max(ROWOFFSET) FILTER (__SEQ < ?) + 1 "
            f"FROM {quoted(source.storage)} GROUP BY ALL",
            [query.position],
        ).fetchall()
    ends = {partition: (end, committed) for partition, end, committed in known}
    return [
        (number, end, -1 if committed is None else committed)
        for number in range(max([source.partitions, *(partition + 1 for partition in ends)]))
        for end, committed in [ends.get(number, (-1, -1))]
    ]


def description(source: Source, catalog: Catalog, *, extended: bool) -> Entity:
    """What DESCRIBE tells about a source."""
    reads = [query_info(query, catalog) for query in catalog.readers(source.name)]
    writes = [query_info(query, catalog) for query in catalog.writers(source.name)]
    if source.kind == "TABLE" and source.derived and not writes:
        # A SOURCE TABLE is materialised by a query of its own.
        reads.append(
            {
                "queryString": source.statement,
                "sinks": [],
                "sinkKafkaTopics": [],
                "id": f"CST_{source.name}_0",
                "statusCount": {"RUNNING": 1},
                "queryType": "PERSISTENT",
                "state": "RUNNING",
            }
        )
    return {
        "name": source.name,
        "windowType": source.window_type,
        "readQueries": reads,
        "writeQueries": writes,
        "fields": [field_info(column) for column in source.columns],
        "type": source.kind,
        "timestamp": source.timestamp,
        "statistics": f"total-messages: {source.rows}" if extended else "",
        "errorStats": "",
        "extended": extended,
        "keyFormat": source.key_format,
        "valueFormat": source.value_format,
        "topic": source.topic,
        "partitions": source.partitions if extended else 0,
        "replication": 1 if extended else 0,
        "statement": source.statement,
        "queryOffsetSummaries": [_offsets(query, catalog) for query in catalog.writers(source.name)]
        if extended
        else [],
        "sourceConstraints": [query.sink for query in catalog.readers(source.name)],
        "clusterStatistics": [],
        "clusterErrorStats": [],
    }


def _offsets(query: PersistentQuery, catalog: Catalog) -> Entity:
    """Where a writing query stands in the topic it reads: always at the end."""
    source = catalog.sources[query.source]
    with catalog.lock:
        ends = catalog.database.execute(
            f"SELECT ROWPARTITION, max(ROWOFFSET) + 1 FROM {quoted(source.storage)} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    offsets = [
        {"partition": partition, "logStartOffset": 0, "logEndOffset": end, "consumerOffset": end}
        for partition, end in ends
    ]
    return {
        "groupId": f"_confluent-ksql-default_query_{query.id}",
        "topicSummaries": [{"kafkaTopic": source.topic, "offsets": offsets}],
    }


def query_description(query: PersistentQuery, catalog: Catalog) -> Entity:
    """What EXPLAIN tells about a persistent query."""
    sink = catalog.sources[query.sink]
    return {
        **_UNKNOWN_TO_US,
        "id": query.id,
        "statementText": query.statement,
        "windowType": query.derivation.window_type,
        "fields": [field_info(column) for column in sink.columns],
        "sources": [query.source],
        "sinks": [query.sink],
        "ksqlHostQueryStatus": {"127.0.0.1:8088": "RUNNING"},
        "queryType": "PERSISTENT",
        "consumerGroupId": f"_confluent-ksql-default_query_{query.id}",
        "state": "RUNNING",
    }


def plan_description(plan: QueryPlan, query_id: str) -> Entity:
    """What EXPLAIN tells about a SELECT."""
    return {
        **_UNKNOWN_TO_US,
        "id": query_id,
        "statementText": plan.statement,
        "windowType": plan.source.window_type,
        "fields": [{"name": item.name, "schema": type_info(item.type)} for item in plan.projections],
        "sources": [plan.source.name],
        "sinks": [],
        "ksqlHostQueryStatus": {},
        "queryType": "PUSH" if plan.kind == "push" else "PULL",
        "consumerGroupId": None,
        "state": None,
    }

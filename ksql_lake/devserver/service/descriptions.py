"""The JSON entities of `/ksql`: how sources, queries and statuses look to a client."""

from __future__ import annotations

from typing import Any

from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.sql.source_columns import DeclaredColumn, Source
from ksql_lake.devserver.store import consumer_offsets
from ksql_lake.devserver.store.persistent import PersistentQuery
from ksql_lake.devserver.store.running_queries import RunningQuery
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Struct

Entity = dict[str, Any]

_EARLIEST = {"ksql.streams.auto.offset.reset": "earliest"}
"""The properties that persistent queries override."""


def source_info(source: Source) -> Entity:
    """Return one element of LIST STREAMS or LIST TABLES."""
    return {
        "type": source.kind,
        "name": source.name,
        "topic": source.topic,
        "keyFormat": source.key_format,
        "valueFormat": source.value_format,
        "isWindowed": source.window_type is not None,
    }


def type_info(kind: KsqlType) -> Entity:
    """Return a field's type; of a MAP only the value type is shown, as on the real server."""
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


def field_info(column: DeclaredColumn) -> Entity:
    """Return one element of a description's `fields`."""
    info: Entity = {"name": column.name, "schema": type_info(column.type)}
    if column.role != "VALUE":
        info["type"] = column.role
    if column.header_key is not None:
        info["headerKey"] = column.header_key
    return info


def query_info(query: PersistentQuery, catalog: Catalog) -> Entity:
    """Return one running persistent query."""
    return {
        "queryString": query.statement,
        "sinks": [query.sink] if query.sink else [],
        "sinkKafkaTopics": [catalog.sources[query.sink].topic] if query.sink else [],
        "id": query.id,
        "statusCount": {"RUNNING": 1},
        "queryType": "PERSISTENT",
        "state": "RUNNING",
    }


def push_info(query: RunningQuery) -> Entity:
    """Return one running push query."""
    return {
        "queryString": query.plan.statement,
        "sinks": [],
        "sinkKafkaTopics": [],
        "id": query.id,
        "statusCount": {"RUNNING": 1},
        "queryType": "PUSH",
        "state": "RUNNING",
    }


def push_description(query: RunningQuery, catalog: Catalog, host: str, *, positions: bool) -> Entity:
    """Return what SHOW QUERIES EXTENDED reports about a running push query.

    Args:
        query: The query.
        catalog: Where its source is.
        host: The server's address, as it calls itself.
        positions: Whether this release reports how far each task has read.
    """
    return {
        **plan_description(query.plan, query.id),
        "overriddenProperties": query.properties,
        "ksqlHostQueryStatus": {host: "RUNNING"},
        "tasksMetadata": consumer_offsets.tasks(consumer_offsets.push_places(query, catalog))
        if positions
        else [],
        "consumerGroupId": f"_confluent-ksql-default_transient_{query.id}_{query.began_ms}",
        "state": "RUNNING",
    }


def description(source: Source, catalog: Catalog, *, extended: bool) -> Entity:
    """Return what DESCRIBE reports about a source."""
    readers = catalog.readers(source.name)
    filled_by = catalog.materialisations.get(source.name)
    reads = [query_info(query, catalog) for query in (*readers, *([filled_by] if filled_by else []))]
    writers = catalog.writers(source.name)
    return {
        "name": source.name,
        "windowType": source.window_type,
        "readQueries": reads,
        "writeQueries": [query_info(query, catalog) for query in writers],
        "fields": [field_info(column) for column in source.columns],
        "type": source.kind,
        "timestamp": source.timestamp,
        "statistics": f"total-messages: {source.rows}" if extended else "",
        "errorStats": "",
        "extended": extended,
        "keyFormat": source.key_format,
        "valueFormat": source.value_format,
        "topic": source.topic,
        "partitions": source.partitions,
        "replication": 1,
        "statement": source.statement,
        "queryOffsetSummaries": [
            summary
            for query in (writers if extended else [])
            for summary in consumer_offsets.summaries(
                query.group, consumer_offsets.persistent_places(query, catalog)
            )
        ],
        "sourceConstraints": [query.sink for query in readers],
        "clusterStatistics": [],
        "clusterErrorStats": [],
    }


def query_description(query: PersistentQuery, catalog: Catalog, host: str) -> Entity:
    """Return what EXPLAIN and SHOW QUERIES EXTENDED report about a persistent query."""
    made = catalog.sources[query.sink or query.source]
    sink_topic = made.topic if query.sink else ""
    return {
        "id": query.id,
        "statementText": query.statement,
        "windowType": made.window_type,
        "fields": [field_info(column) for column in made.columns],
        "sources": [query.source],
        "sinks": [query.sink] if query.sink else [],
        "topology": query.topology(catalog.sources[query.source].topic, sink_topic, table=made.kind == "TABLE"),
        "executionPlan": "",
        "overriddenProperties": _EARLIEST,
        "ksqlHostQueryStatus": {host: "RUNNING"},
        "queryType": "PERSISTENT",
        "queryErrors": [],
        "tasksMetadata": consumer_offsets.tasks(consumer_offsets.persistent_places(query, catalog)),
        "consumerGroupId": query.group,
        "state": "RUNNING",
    }


def plan_description(plan: QueryPlan, query_id: str) -> Entity:
    """Return what EXPLAIN reports about a SELECT."""
    return {
        "id": query_id,
        "statementText": plan.statement,
        "windowType": plan.source.window_type,
        "fields": [{"name": item.name, "schema": type_info(item.type)} for item in plan.projections],
        "sources": [plan.source.name],
        "sinks": [],
        "topology": "",
        "executionPlan": "",
        "overriddenProperties": {},
        "ksqlHostQueryStatus": {},
        "queryType": "PUSH" if plan.kind == "push" else "PULL",
        "queryErrors": [],
        "tasksMetadata": [],
        "consumerGroupId": None,
        "state": None,
    }

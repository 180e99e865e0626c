"""External assets for ksqlDB sources and the queries between them."""

# They are read from the lake, where the job `ksqldb_sources` keeps them, so that loading asks no server.

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ksql_lake import markdown
from ksql_lake.export.topology import KnownSource, Topology, read_topology, save_topology
from ksql_lake.feeds import Feed
from ksql_lake.feeds.model import SOURCE_PATTERN
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.orchestration.jobs import one_op_job
from ksql_lake.orchestration.resources import LakeResource
from ksql_lake.orchestration.scope import SOURCES, Scope


def source_key(source: str, scope: Scope) -> dg.AssetKey:
    """Return the key of the external asset of a ksqlDB stream or table."""
    return scope.own_key(SOURCES, source)


def source_assets(
    readers: Mapping[str, Sequence[Feed]], topology: Topology, scope: Scope
) -> list[dg.AssetSpec]:
    """Return an external asset for every source that feeds read, and for their upstream sources.

    Args:
        readers: Source -> the feeds that read it.
        topology: The server's last answer.
        scope: The scope of the server.
    """
    known = [source for source in topology.with_ancestors(readers) if re.match(SOURCE_PATTERN, source.name)]
    names = {source.name for source in known}
    unknown = [(name, feeds) for name, feeds in readers.items() if name not in names]
    return [
        *(
            _known_asset(source, readers.get(source.name, ()), names, topology.server, scope)
            for source in known
        ),
        *(_unknown_asset(name, feeds, scope) for name, feeds in unknown),
    ]


def lineage_job(scope: Scope) -> dg.JobDefinition:
    """Return the job that asks the server for its sources and writes the answer into the lake."""

    @dg.op(
        name=scope.named("_describe_sources"),
        required_resource_keys={scope.server_key, scope.lake_key},
        description="Asks for all streams, tables and queries; one statement per source.",
    )
    def describe_sources(context: dg.OpExecutionContext) -> None:
        client: KsqlClient = getattr(context.resources, scope.server_key)
        lake: LakeResource = getattr(context.resources, scope.lake_key)
        with lake.failures(context.retry_number):
            topology = read_topology(client)
            changed = save_topology(topology, lake.lake)
        effect = "reload the code location to update the graph" if changed else "nothing has changed"
        context.log.info("%d sources at %s; %s", len(topology.sources), topology.server, effect)

    return one_op_job(
        scope.named("ksqldb_sources"),
        "Refreshes ksqlDB's statements, columns, topics and queries in the asset graph.",
        describe_sources,
    )


def _unknown_asset(source: str, feeds: Sequence[Feed], scope: Scope) -> dg.AssetSpec:
    kind = feeds[0].kind
    return dg.AssetSpec(
        source_key(source, scope),
        description=_read_by(kind, source, feeds),
        group_name=scope.named(SOURCES),
        kinds={"kafka"},
        metadata={"server": scope.settings.ksqldb_url, "source_kind": kind},
    )


def _known_asset(
    source: KnownSource, feeds: Sequence[Feed], names: set[str], server: str, scope: Scope
) -> dg.AssetSpec:
    facts: dict[str, Any] = {
        "server": server,
        "source_kind": source.kind,
        "topic": source.topic,
        "topic_partitions": source.partitions,
        "key_format": source.key_format,
        "value_format": source.value_format,
        "window": source.window_type,
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(each.name, each.type, description="key" if each.key else None)
                for each in source.columns
            ]
        ),
    }
    for query in source.queries:
        facts[f"query {query.id}"] = dg.MetadataValue.md(markdown.block(query.text, "sql"))
    return dg.AssetSpec(
        source_key(source.name, scope),
        deps=[source_key(name, scope) for name in source.upstream if name in names],
        description=f"{_read_by(source.kind, source.name, feeds)}\n\n{markdown.block(source.statement, 'sql')}",
        group_name=scope.named(SOURCES),
        kinds={"kafka"},
        metadata={name: value for name, value in facts.items() if value is not None},
    )


def _read_by(kind: str, source: str, feeds: Sequence[Feed]) -> str:
    readers = f"read by {', '.join(feed.name for feed in feeds)}" if feeds else "which no feed reads directly"
    return f"The ksqlDB {kind} {markdown.code(source)}, {readers}."

"""The server's sources and queries, as last reported and kept in the lake."""

# It is kept because a page that shows it must not need the server.

from __future__ import annotations

import secrets
from collections.abc import Iterable

import msgspec

from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.inventory import SourceDescription, describe, list_sources
from ksql_lake.lake import Lake

KEY = "metadata/ksqldb_sources.json"
"""Where the topology is kept, relative to the lake's root."""


class SourceQuery(msgspec.Struct, frozen=True):
    """A query that writes a source: its id on the server and its text."""

    id: str
    text: str


class KnownColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column as the server describes it."""

    name: str
    type: str
    key: bool = False


class KnownSource(msgspec.Struct, frozen=True, kw_only=True):
    """One stream or table as the server describes it.

    Attributes:
        name: Exact-case name.
        kind: `stream` or `table`.
        statement: The statement that made it.
        topic: Its Kafka topic.
        partitions: The topic's partitions; 0 if the server could not ask Kafka.
        key_format: E.g. `KAFKA`.
        value_format: E.g. `JSON`.
        window_type: `TUMBLING`, `HOPPING`, `SESSION` or None.
        columns: In the server's order.
        upstream: The sources that queries read to write this one, sorted.
        queries: The queries that write it.
    """

    name: str
    kind: str
    statement: str
    topic: str
    partitions: int
    key_format: str | None
    value_format: str | None
    window_type: str | None
    columns: tuple[KnownColumn, ...]
    upstream: tuple[str, ...]
    queries: tuple[SourceQuery, ...]


class Topology(msgspec.Struct, frozen=True):
    """All sources of one server."""

    server: str = ""
    sources: dict[str, KnownSource] = {}

    def with_ancestors(self, names: Iterable[str]) -> list[KnownSource]:
        """Return the named sources that are known and all their ancestors, sorted by name."""
        found: dict[str, KnownSource] = {}
        waiting = list(names)
        while waiting:
            source = self.sources.get(waiting.pop())
            if source is not None and source.name not in found:
                found[source.name] = source
                waiting += source.upstream
        return [found[name] for name in sorted(found)]


def read_topology(client: KsqlClient) -> Topology:
    """Ask the server for all of its sources, one statement each.

    Raises:
        KsqlError: The server cannot be asked.
    """
    described = [describe(client, summary.name) for summary in list_sources(client)]
    upstream: dict[str, set[str]] = {}
    for source in described:
        for query in source.read_queries:
            for sink in query.sinks:
                upstream.setdefault(sink, set()).add(source.name)
    return Topology(
        client.url, {source.name: _known(source, upstream.get(source.name, set())) for source in described}
    )


def save_topology(topology: Topology, lake: Lake) -> bool:
    """Keep a topology in the lake; return False when the same one was kept already.

    Raises:
        WriteError: It cannot be written; the one before stays.
    """
    data = msgspec.json.format(msgspec.json.encode(topology), indent=1)
    if lake.storage.read(KEY) == data:
        return False
    lake.storage.replace(KEY, data, temporary=f"metadata/.ksqldb_sources.{secrets.token_hex(8)}.tmp")
    return True


def kept_topology(lake: Lake) -> Topology:
    """Return the topology that was kept last; one without sources when none can be read.

    Raises:
        LakeError: The file is there, and the operating system refuses to read it.
    """
    data = lake.storage.read(KEY)
    return Topology() if data is None else parse_topology(data)


def parse_topology(data: bytes) -> Topology:
    """Return the topology in a file's bytes; one without sources where they cannot be read."""
    try:
        return _TOPOLOGY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Topology()


_TOPOLOGY = msgspec.json.Decoder(Topology)


def _known(source: SourceDescription, upstream: set[str]) -> KnownSource:
    return KnownSource(
        name=source.name,
        kind=source.kind,
        statement=source.statement,
        topic=source.topic,
        partitions=source.partitions,
        key_format=source.key_format,
        value_format=source.value_format,
        window_type=source.window_type,
        columns=tuple(KnownColumn(column.name, column.type, column.key) for column in source.columns),
        # A table that reads itself for its own state (CREATE SOURCE TABLE) is not its own ancestor.
        upstream=tuple(sorted(upstream - {source.name})),
        queries=tuple(
            sorted((SourceQuery(query.id, query.text) for query in source.write_queries), key=lambda q: q.id)
        ),
    )

"""Run the statements of `/ksql` and return the entity that answers each."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from ksql_lake.devserver.ksql_errors import QUERY_ENDPOINT, RefusedError, bad_request, failed_assertion
from ksql_lake.devserver.property_rules import server_properties
from ksql_lake.devserver.release import Release
from ksql_lake.devserver.service import descriptions
from ksql_lake.devserver.service.descriptions import Entity
from ksql_lake.devserver.sql.query_plan import plan_query
from ksql_lake.devserver.sql.statements import (
    Alter,
    AssertTopic,
    Create,
    Describe,
    Drop,
    Explain,
    Insert,
    InsertSelect,
    Listing,
    Print,
    Select,
    Statement,
    Terminate,
)
from ksql_lake.devserver.store import intake
from ksql_lake.devserver.store.persistent import PersistentQuery
from ksql_lake.devserver.store.running_queries import RunningQueries
from ksql_lake.devserver.store.sources import Catalog


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs statements against one catalog.

    Attributes:
        settings: The settings of the server.
    """

    catalog: Catalog
    running: RunningQueries
    version: Release
    settings: Mapping[str, str]

    def execute(self, statement: Statement, host: str) -> Entity | None:
        """Run one statement; None when it has no entity (INSERT).

        Args:
            statement: The statement.
            host: The server's address, as it calls itself.

        Raises:
            RefusedError: It cannot be run, or belongs to another endpoint.
        """
        match statement:
            case Select() | Print():
                raise RefusedError(
                    "The following statement types should be issued to the websocket endpoint '/query':"
                    "\n\t* PRINT\n\t* SELECT",
                    code=QUERY_ENDPOINT,
                    statement=statement.text,
                )
            case Listing():
                return self._listing(statement, host)
            case Describe():
                source = self.catalog.describe(statement.name)
                return {
                    "@type": "sourceDescription",
                    "statementText": statement.text,
                    "sourceDescription": descriptions.description(
                        source, self.catalog, extended=statement.extended
                    ),
                    "warnings": [],
                }
            case Create():
                return self._create(statement)
            case Alter():
                self.catalog.alter(statement)
                return self._status(
                    statement.text, f"{statement.kind.lower()}/`{statement.name}`/alter", "Column added."
                )
            case Drop():
                done = self.catalog.drop(statement)
                text = f"Source `{statement.name}` " + (
                    f"(topic: {statement.name}) was dropped." if done else "does not exist."
                )
                return self._status(statement.text, f"{statement.kind.lower()}/`{statement.name}`/drop", text)
            case Terminate():
                return self._terminate(statement)
            case AssertTopic():
                return self._assert(statement)
            case Explain():
                return self._explain(statement, host)
            case InsertSelect():
                made = self.catalog.insert(statement)
                text = f"Created query with ID {made.id}"
                return self._status(made.statement, f"stream/`{made.id}`/create", text, query_id=made.id)
            case Insert():
                intake.insert(statement, self.catalog)
                return None

    def _listing(self, statement: Listing, host: str) -> Entity:
        kind, payload = self._listed(statement, host)
        return {"@type": kind, "statementText": statement.text, **payload, "warnings": []}

    def _listed(self, statement: Listing, host: str) -> tuple[str, Entity]:
        match statement.what:
            case "STREAMS" | "TABLES":
                return self._sources(statement)
            case "QUERIES":
                return self._queries(host, extended=statement.extended)
            case "TOPICS":
                partitions = {item.topic: item.partitions for item in self.catalog.sources.values()}
                topics = [
                    {"name": name, "replicaInfo": [1] * count} for name, count in sorted(partitions.items())
                ]
                return "kafka_topics", {"topics": topics}
            case _:
                shown = server_properties(self.settings)
                return "properties", {"properties": shown, "overwrittenProperties": [], "defaultProperties": []}

    def _sources(self, statement: Listing) -> tuple[str, Entity]:
        chosen = [item for item in self.catalog.sources.values() if f"{item.kind}S" == statement.what]
        chosen.sort(key=lambda item: _scattered(item.name))
        if statement.extended or statement.described:
            described = [
                descriptions.description(item, self.catalog, extended=statement.extended) for item in chosen
            ]
            return "source_descriptions", {"sourceDescriptions": described}
        kind = statement.what.lower()
        return kind, {kind: [descriptions.source_info(item) for item in chosen]}

    def _queries(self, host: str, *, extended: bool) -> tuple[str, Entity]:
        persistent = [*self.catalog.queries.values(), *self.catalog.materialisations.values()]
        persistent.sort(key=lambda query: _scattered(query.id))
        pushes = self.running.pushes()
        if not extended:
            infos = [descriptions.query_info(query, self.catalog) for query in persistent]
            return "queries", {"queries": infos + [descriptions.push_info(query) for query in pushes]}
        described = [descriptions.query_description(query, self.catalog, host) for query in persistent]
        positions = self.version.query_positions
        described += [
            descriptions.push_description(query, self.catalog, host, positions=positions)
            for query in pushes
            if query.listed
        ]
        return "query_descriptions", {"queryDescriptions": described}

    def _terminate(self, statement: Terminate) -> Entity:
        transient = self.running.named(statement.query_id)
        if transient is None:
            for sink in self.catalog.terminate(statement):
                self.running.fail_scans(sink, f"RocksDB iterator for store {sink} has closed")
            return self._status(statement.text, f"terminate/{statement.query_id}/execute", "Query terminated.")
        query_id = statement.query_id.upper()
        if transient.plan.kind != "push":
            raise bad_request(f"Failed to terminate query with query ID: '{query_id}'")
        self.running.terminate(transient)
        return {
            "@type": "terminate_query",
            "statementText": statement.text,
            "queryId": query_id,
            "wasTerminated": True,
            "warnings": [],
        }

    def _create(self, statement: Create) -> Entity:
        made = self.catalog.create(statement)
        shown = self.catalog.sources[statement.name].statement if made is not None else statement.text
        query_id = made.id if isinstance(made, PersistentQuery) else None
        if made is None:
            text = f"Cannot add {statement.kind.lower()} `{statement.name}`: already exists."
        elif query_id is not None:
            text = f"Created query with ID {query_id}"
        else:
            text = f"{statement.kind.capitalize()} created"
        return self._status(
            shown, f"{statement.kind.lower()}/`{statement.name}`/create", text, query_id=query_id
        )

    def _status(self, text: str, command: str, message: str, *, query_id: str | None = None) -> Entity:
        return {
            "@type": "currentStatus",
            "statementText": text,
            "commandId": command,
            "commandStatus": {"status": "SUCCESS", "message": message, "queryId": query_id},
            "commandSequenceNumber": self.catalog.commands,
            "warnings": [],
        }

    def _assert(self, statement: AssertTopic) -> Entity:
        found = next((item for item in self.catalog.sources.values() if item.topic == statement.topic), None)
        if found is None:
            raise failed_assertion(f"Topic {statement.topic} does not exist")
        for name, has in (("PARTITIONS", found.partitions), ("REPLICAS", 1)):
            wanted = statement.properties.get(name, str(has))
            if wanted != str(has):
                raise failed_assertion(
                    f"Mismatched configuration for topic {statement.topic}: For config {name.lower()}, "
                    f"expected {wanted} got {has}"
                )
        topic = {"topicName": statement.topic, "exists": True}
        return {"@type": "assert_topic", "statementText": statement.text, **topic, "warnings": []}

    def _explain(self, statement: Explain, host: str) -> Entity:
        if statement.select is not None:
            source = self.catalog.find(statement.select.source)
            with closing(self.catalog.cursor()) as cursor:
                plan = plan_query(statement.select, source, self.version, cursor)
            described = descriptions.plan_description(
                plan, f"transient_{source.name}_{int(time.time() * 1000)}"
            )
        elif statement.query_id in self.catalog.queries:
            query = self.catalog.queries[statement.query_id]
            described = descriptions.query_description(query, self.catalog, host)
        else:
            raise RefusedError(
                f"Query with id:{statement.query_id} does not exist, use SHOW QUERIES to view the full set of "
                "queries.",
                statement=statement.text,
            )
        return {
            "@type": "queryDescription",
            "statementText": statement.text,
            "queryDescription": described,
            "warnings": [],
        }


def _scattered(name: str) -> int:
    """Return a place in an arbitrary order, as a hash map has one."""
    return zlib.crc32(name.encode())

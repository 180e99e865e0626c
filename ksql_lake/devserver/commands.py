"""Statements of `/ksql`: carry each out and give the entity that answers it."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

from ksql_lake.devserver import entities, intake
from ksql_lake.devserver.catalog import Catalog, PersistentQuery
from ksql_lake.devserver.entities import Entity
from ksql_lake.devserver.plan import plan_query
from ksql_lake.devserver.refusals import QUERY_ENDPOINT, RefusedError, bad_request
from ksql_lake.devserver.running import RunningQueries
from ksql_lake.devserver.statements import (
    Alter,
    Create,
    Describe,
    Drop,
    Explain,
    Insert,
    Listing,
    Print,
    Select,
    Statement,
    Terminate,
)
from ksql_lake.devserver.version import ServerVersion


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs statements against one catalog."""

    catalog: Catalog
    running: RunningQueries
    version: ServerVersion

    def execute(self, statement: Statement) -> Entity | None:
        """Run one statement; None when it has no entity (INSERT).

        Raises:
            RefusedError: It cannot be carried out, or belongs to another endpoint.
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
                return {**self._listing(statement), "statementText": statement.text, "warnings": []}
            case Describe():
                source = self.catalog.describe(statement.name)
                return {
                    "@type": "sourceDescription",
                    "statementText": statement.text,
                    "sourceDescription": entities.description(
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
            case Explain():
                return self._explain(statement)
            case Insert():
                intake.insert(statement, self.catalog)
                return None

    def _listing(self, statement: Listing) -> Entity:
        if statement.what in ("STREAMS", "TABLES"):
            chosen = [item for item in self.catalog.sources.values() if f"{item.kind}S" == statement.what]
            chosen.sort(key=lambda item: item.name)
            if statement.extended or statement.described:
                described = [
                    entities.description(item, self.catalog, extended=statement.extended) for item in chosen
                ]
                return {"@type": "source_descriptions", "sourceDescriptions": described}
            infos = [entities.source_info(item) for item in chosen]
            return {"@type": statement.what.lower(), statement.what.lower(): infos}
        if statement.what == "QUERIES":
            persistent = list(self.catalog.queries.values())
            if statement.extended:
                described = [entities.query_description(query, self.catalog) for query in persistent]
                described += [
                    entities.push_description(query, self.catalog, positions=self.version.query_positions)
                    for query in self.running.pushes()
                    if query.listed
                ]
                return {"@type": "query_descriptions", "queryDescriptions": described}
            infos = [entities.query_info(query, self.catalog) for query in persistent]
            return {
                "@type": "queries",
                "queries": infos + [entities.push_info(q) for q in self.running.pushes()],
            }
        if statement.what == "TOPICS":
            topics = [
                {"name": item.topic, "replicaInfo": [1] * item.partitions}
                for item in self.catalog.sources.values()
            ]
            return {"@type": "kafka_topics", "topics": topics}
        return {"@type": "properties", "properties": [], "overwrittenProperties": [], "defaultProperties": []}

    def _terminate(self, statement: Terminate) -> Entity:
        transient = self.running.named(statement.query_id)
        if transient is None:
            for sink in self.catalog.terminate(statement):
                self.running.fail_scans(sink, f"RocksDB iterator for store {sink} has closed")
            return self._status(statement.text, f"terminate/{statement.query_id}/execute", "Query terminated.")
        told = statement.query_id.upper()
        if transient.plan.kind != "push":
            raise bad_request(f"Failed to terminate query with query ID: '{told}'")
        self.running.terminate(transient)
        return {
            "@type": "terminate_query",
            "statementText": statement.text,
            "queryId": told,
            "wasTerminated": True,
            "warnings": [],
        }

    def _create(self, statement: Create) -> Entity:
        made = self.catalog.create(statement)
        told = self.catalog.sources[statement.name].statement if made is not None else statement.text
        query_id = made.id if isinstance(made, PersistentQuery) else None
        if made is None:
            text = f"Cannot add {statement.kind.lower()} `{statement.name}`: already exists."
        elif query_id is not None:
            text = f"Created query with ID {query_id}"
        else:
            text = f"{statement.kind.capitalize()} created"
        return self._status(
            told, f"{statement.kind.lower()}/`{statement.name}`/create", text, query_id=query_id
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

    def _explain(self, statement: Explain) -> Entity:
        if statement.select is not None:
            source = self.catalog.find(statement.select.source)
            with closing(self.catalog.cursor()) as cursor:
                plan = plan_query(statement.select, source, self.version, cursor)
            described = entities.plan_description(plan, f"transient_{source.name}_{int(time.time() * 1000)}")
        elif statement.query_id in self.catalog.queries:
            described = entities.query_description(self.catalog.queries[statement.query_id], self.catalog)
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

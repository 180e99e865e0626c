"""The endpoints of a ksqlDB server over one catalog."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from ksql_lake.devserver.answer import QueryAnswer
from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.commands import Commands
from ksql_lake.devserver.faults import FaultBoard
from ksql_lake.devserver.framing import framing
from ksql_lake.devserver.negotiation import choose_writer, parse_request
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.parsing import parse_statements
from ksql_lake.devserver.plan import QueryPlan, plan_query
from ksql_lake.devserver.refusals import HTTP2_ONLY, RefusedError, bad_request, not_implemented
from ksql_lake.devserver.replies import entity_response
from ksql_lake.devserver.running import RunningQueries
from ksql_lake.devserver.statements import Print, Select, Statement
from ksql_lake.devserver.version import ServerVersion

CLUSTER_ID = "ksql-lake-devserver"


@dataclass(eq=False)
class Doors:
    """What clients of a real server call."""

    options: Options
    catalog: Catalog
    running: RunningQueries
    faults: FaultBoard
    version: ServerVersion

    def __post_init__(self) -> None:
        self._commands = Commands(self.catalog, self.running, self.version)

    async def root(self, _request: Request) -> Response:
        """GET /."""
        return RedirectResponse("/info", 307)

    async def info(self, _request: Request) -> Response:
        """GET /info."""
        about = {"version": self.version.text, "kafkaClusterId": CLUSTER_ID, "ksqlServiceId": "default_"}
        return entity_response({"KsqlServerInfo": {**about, "serverStatus": "RUNNING"}})

    async def metadata(self, _request: Request) -> Response:
        """GET /v1/metadata."""
        clusters = {"kafka-cluster": CLUSTER_ID, "ksql-cluster": "default_"}
        return entity_response({"version": self.version.text, "scope": {"path": [], "clusters": clusters}})

    async def health(self, _request: Request) -> Response:
        """GET /healthcheck."""
        healthy = {"isHealthy": True}
        details = {"metastore": healthy, "kafka": healthy, "commandRunner": healthy}
        return entity_response({"isHealthy": True, "details": details, "serverState": "READY"})

    async def probe(self, _request: Request) -> Response:
        """GET /chc/ready and /chc/live."""
        return entity_response({})

    async def inserts_stream(self, _request: Request) -> Response:
        """POST /inserts-stream: HTTP/2 only, which this server does not speak."""
        raise RefusedError("This endpoint is only available when using HTTP2", code=HTTP2_ONLY, statement=None)

    async def ksql(self, request: Request) -> Response:
        """POST /ksql: statements one after the other, their entities in one array."""
        asked = parse_request(await request.body(), text_key="ksql", properties_key="streamsProperties")
        statements = await self.running.in_thread(parse_statements, asked.text)
        return await self.running.in_thread(self._execute_all, statements)

    def _execute_all(self, statements: list[Statement]) -> Response:
        entities: list[dict[str, Any]] = []
        for statement in statements:
            try:
                entity = self._commands.execute(statement)
            except RefusedError as refusal:
                body = refusal.body()
                if "entities" in body:
                    body |= {"entities": entities, "statementText": statement.text}
                return entity_response(body, refusal.status)
            if entity is not None:
                entities.append(entity)
        return entity_response(entities)

    async def query(self, request: Request) -> ASGIApp:
        """POST /query."""
        return await self._query(request, query_stream=False)

    async def query_stream(self, request: Request) -> ASGIApp:
        """POST /query-stream."""
        if request.scope["http_version"] == "1.0" or not self.version.http1_query_stream:
            raise RefusedError(
                "This endpoint is only available when using HTTP2", code=HTTP2_ONLY, statement=None
            )
        return await self._query(request, query_stream=True)

    async def _query(self, request: Request, *, query_stream: bool) -> ASGIApp:
        keys = ("sql", "properties") if query_stream else ("ksql", "streamsProperties")
        asked = parse_request(await request.body(), text_key=keys[0], properties_key=keys[1])
        writer = choose_writer(
            request.headers.get("accept"),
            query_stream=query_stream,
            migrated=asked.migrated,
            version=self.version,
        )
        plan = await self.running.in_thread(self._plan, asked.text)
        query = self.running.register(plan, asked.text)
        return QueryAnswer(
            query,
            self.running,
            framing(writer, plan.kind, query.id, plan.schema, schema_text=plan.schema_text),
            earliest=asked.earliest if asked.earliest is not None else plan.source.kind == "TABLE",
            final_message=self.version.final_message,
            # Clients of these two forms take a chunk for a row; v1 is read by lines, so large chunks do.
            row_chunks=self.options.row_chunks or writer in ("delimited", "json_array"),
            faults=self.faults.take_for_query(plan.source.name),
        )

    def _plan(self, text: str) -> QueryPlan:
        with closing(self.catalog.cursor()) as cursor:
            try:
                select = _only_select(text)
                return plan_query(select, self.catalog.find(select.source), self.version, cursor)
            except RefusedError as refusal:
                refusal.statement = refusal.statement or text
                raise

    async def close_query(self, request: Request) -> Response:
        """POST /close-query."""
        asked = parse_request(await request.body(), text_key="queryId", properties_key="properties")
        if not self.running.close(asked.text):
            raise bad_request(f"No query with id {asked.text}")
        return Response(status_code=200)


def _only_select(text: str) -> Select:
    statements = parse_statements(text)
    if len(statements) != 1:
        raise RefusedError(f"Expected exactly one KSQL statement; found {len(statements)} instead")
    statement = statements[0]
    if isinstance(statement, Print):
        raise not_implemented("PRINT")
    if not isinstance(statement, Select):
        raise RefusedError(f"Statement type `{type(statement).__name__}` not supported for this resource")
    return statement

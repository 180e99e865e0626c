"""The HTTP door: routes, authentication, and errors as ksqlDB's bodies.

Routes under /devserver are this server's own, honestly named: append rows, switch faults, see what it is.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ksql_lake.devserver import intake
from ksql_lake.devserver.answer import QueryAnswer
from ksql_lake.devserver.body import EXTENSION
from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.commands import Commands
from ksql_lake.devserver.faults import FaultBoard, parse_faults, refusal_of
from ksql_lake.devserver.framing import V1, compact, framing
from ksql_lake.devserver.negotiation import choose_writer, parse_request
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.plan import QueryPlan, plan_query
from ksql_lake.devserver.refusals import HTTP2_ONLY, UNAUTHORIZED, RefusedError, bad_request, not_implemented
from ksql_lake.devserver.running import RunningQueries
from ksql_lake.devserver.statements import Print, Select, Statement, parse_statements
from ksql_lake.devserver.version import ServerVersion, parse_version

_OPEN_PATHS = ("/healthcheck", "/v1/metadata", "/v1/metadata/id", "/chc/ready", "/chc/live")
_QUERY_PATHS = ("/query", "/query-stream")


def entity_response(value: object, status: int = 200) -> Response:
    """A JSON answer as the real server labels it."""
    return Response(compact(value), status, media_type=V1)


def refusal_response(refusal: RefusedError) -> Response:
    """The answer a refusal stands for."""
    if refusal.status in (404, 406):
        return PlainTextResponse(refusal.message, refusal.status)
    return entity_response(refusal.body(), refusal.status)


@dataclass(eq=False)
class Doors:
    """The endpoints over one catalog."""

    options: Options
    catalog: Catalog
    running: RunningQueries
    faults: FaultBoard
    version: ServerVersion

    def __post_init__(self) -> None:
        self.commands = Commands(self.catalog, self.running, self.version)

    async def info(self, _request: Request) -> Response:
        """GET /info."""
        return entity_response(
            {
                "KsqlServerInfo": {
                    "version": self.version.text,
                    "kafkaClusterId": "ksql-lake-devserver",
                    "ksqlServiceId": "default_",
                    "serverStatus": "RUNNING",
                }
            }
        )

    async def health(self, _request: Request) -> Response:
        """GET /healthcheck."""
        healthy = {"isHealthy": True}
        details = {"metastore": healthy, "kafka": healthy, "commandRunner": healthy}
        return entity_response({"isHealthy": True, "details": details, "serverState": "READY"})

    async def ksql(self, request: Request) -> Response:
        """POST /ksql: statements one after the other, their entities in one array."""
        asked = parse_request(await request.body(), text_key="ksql", properties_key="streamsProperties")
        statements = await self.running.in_thread(parse_statements, asked.text)
        return await self.running.in_thread(self._execute_all, statements)

    def _execute_all(self, statements: list[Statement]) -> Response:
        entities: list[dict[str, Any]] = []
        for statement in statements:
            try:
                entity = self.commands.execute(statement)
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
        earliest = asked.earliest if asked.earliest is not None else plan.source.kind == "TABLE"
        query = self.running.register(plan)
        return QueryAnswer(
            query,
            self.running,
            framing(writer, plan.kind, query.id, plan.schema),
            earliest=earliest,
            final_message=self.version.final_message,
            row_chunks=self.options.row_chunks,
            faults=self.faults.take_for_query(plan.source.name),
        )

    def _plan(self, text: str) -> QueryPlan:
        statements = parse_statements(text)
        if len(statements) != 1:
            raise RefusedError(
                f"Expected exactly one KSQL statement; found {len(statements)} instead", statement=text
            )
        statement = statements[0]
        if isinstance(statement, Print):
            raise not_implemented("PRINT")
        if not isinstance(statement, Select):
            raise RefusedError(
                f"Statement type `{type(statement).__name__}` not supported for this resource", statement=text
            )
        source = self.catalog.find(statement.source)
        cursor = self.catalog.cursor()
        try:
            return plan_query(statement, source, self.version, cursor)
        except RefusedError as refusal:
            if refusal.statement == "":
                refusal.statement = text
            raise
        finally:
            cursor.close()

    async def close_query(self, request: Request) -> Response:
        """POST /close-query."""
        asked = parse_request(await request.body(), text_key="queryId", properties_key="properties")
        if not self.running.close(asked.text):
            raise bad_request(f"No query with id {asked.text}")
        return Response(status_code=200)

    async def append_rows(self, request: Request) -> Response:
        """POST /devserver/sources/NAME/rows: JSON lines."""
        body = await request.body()
        added = await self.running.in_thread(
            intake.append_json_lines, request.path_params["name"], body, self.catalog
        )
        return entity_response({"added": added})

    async def fault_switches(self, request: Request) -> Response:
        """GET, PUT and DELETE /devserver/faults."""
        if request.method == "PUT":
            self.faults.set(parse_faults(await request.body()))
        elif request.method == "DELETE":
            self.faults.set(())
        return Response(msgspec.json.encode(self.faults.current()), media_type="application/json")

    async def about(self, _request: Request) -> Response:
        """GET /devserver: what this is, and what is in it."""
        rows = {source.name: source.rows for source in self.catalog.sources.values()}
        return entity_response(
            {
                "server": "ksql-lake devserver: a stand-in for tests and demos, not ksqlDB",
                "plays": self.version.text,
                "rows": rows,
                "queries": [query.id for query in self.running.all()],
            }
        )


async def _root(_request: Request) -> Response:
    return RedirectResponse("/info", 307)


async def _empty(_request: Request) -> Response:
    return entity_response({})


def _on_refusal(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    return refusal_response(error)


def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("Not Found", 404)


@dataclass(eq=False)
class Gate:
    """Middleware: request faults and credentials, before any route."""

    app: ASGIApp
    options: Options
    faults: FaultBoard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] != "http" or scope["path"].startswith("/devserver"):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        fault = self.faults.take_for_request(query=path in _QUERY_PATHS, probe=path.startswith("/chc/"))
        if fault is not None and fault.kind == "drop":
            scope["extensions"][EXTENSION]["transport"].abort()
            while (await receive())["type"] != "http.disconnect":
                pass
        elif fault is not None:
            await refusal_response(refusal_of(fault))(scope, receive, send)
        elif path not in _OPEN_PATHS and not self._known(dict(scope["headers"]).get(b"authorization", b"")):
            refusal = RefusedError("Unauthorized", status=401, code=UNAUTHORIZED, statement=None)
            await refusal_response(refusal)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _known(self, header: bytes) -> bool:
        wanted = []
        if self.options.user is not None:
            wanted.append(b"Basic " + base64.b64encode(":".join(self.options.user).encode()))
        if self.options.token is not None:
            wanted.append(b"Bearer " + self.options.token.encode())
        return not wanted or any(hmac.compare_digest(header, value) for value in wanted)


def build_app(options: Options, catalog: Catalog, running: RunningQueries) -> Starlette:
    """The ASGI application.

    Raises:
        RefusedError: The options name an impossible server version.
    """
    faults = FaultBoard(options.faults)
    doors = Doors(options, catalog, running, faults, parse_version(options.server_version))

    @asynccontextmanager
    async def lifespan(_app: Starlette):  # type: ignore[no-untyped-def]
        running.attach()
        yield

    def post(path: str, endpoint: Callable[[Request], Awaitable[Any]]) -> Route:
        return Route(path, endpoint, methods=["POST"])

    routes = [
        Route("/", _root),
        Route("/info", doors.info),
        Route("/healthcheck", doors.health),
        Route("/chc/ready", _empty),
        Route("/chc/live", _empty),
        post("/ksql", doors.ksql),
        post("/query", doors.query),
        post("/query-stream", doors.query_stream),
        post("/close-query", doors.close_query),
        Route("/devserver", doors.about),
        post("/devserver/sources/{name}/rows", doors.append_rows),
        Route("/devserver/faults", doors.fault_switches, methods=["GET", "PUT", "DELETE"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Gate, options=options, faults=faults)],
        exception_handlers={RefusedError: _on_refusal, 404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )

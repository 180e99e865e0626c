"""The ASGI application: routes, request checks, and errors as ksqlDB's bodies."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ksql_lake.devserver.cluster.node import Node
from ksql_lake.devserver.faults import FaultBoard, parse_faults, refusal_of
from ksql_lake.devserver.ksql_errors import (
    NOT_READY,
    SERVER_ERROR,
    UNAUTHORIZED,
    RefusedError,
    bad_request,
    not_found,
)
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.release import Release, parse_version
from ksql_lake.devserver.service.body import EXTENSION
from ksql_lake.devserver.service.endpoints import Doors
from ksql_lake.devserver.service.ledger import Ledger
from ksql_lake.devserver.service.replies import client_left, entity_response, refusal_response
from ksql_lake.devserver.service.table_rows import PATH
from ksql_lake.devserver.store.running_queries import RunningQueries
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.devserver.store.topic import parse_change

_OPEN_PATHS = ("/healthcheck", "/v1/metadata", "/v1/metadata/id", "/chc/ready", "/chc/live")
_QUERY_PATHS = ("/query", "/query-stream")
_NOT_READY = RefusedError(
    "KSQL is not yet ready to serve requests.", status=503, code=NOT_READY, statement=None
)


@dataclass(eq=False)
class Switches:
    """The stand-in's own routes, under /devserver."""

    catalog: Catalog
    running: RunningQueries
    faults: FaultBoard
    version: Release
    node: Node
    ledger: Ledger

    async def append_rows(self, request: Request) -> Response:
        """POST /devserver/sources/NAME/rows: JSON lines; `?transaction=ID` puts them into one."""
        body = await request.body()
        name = request.path_params["name"]
        added = await self.running.in_thread(
            self.ledger.rows, name, body, request.query_params.get("transaction")
        )
        return entity_response({"added": added})

    async def change_log(self, request: Request) -> Response:
        """POST /devserver/sources/NAME/log: a `topic.LogChange`."""
        change = parse_change(await request.body())
        await self.running.in_thread(self.ledger.change_log, request.path_params["name"], change)
        return entity_response({"changed": request.path_params["name"]})

    async def end_transaction(self, request: Request) -> Response:
        """POST .../sources/NAME/transactions/ID/commit or abort; `?partitions=0,2` puts markers there too."""
        name, transaction = request.path_params["name"], request.path_params["transaction"]
        end = request.path_params["end"]
        if end not in ("commit", "abort"):
            raise bad_request(f"a transaction ends with commit or abort, not {end!r}")
        listed = request.query_params.get("partitions", "")
        partitions = [int(part) for part in listed.split(",") if part.isdigit()]
        work = partial(self.ledger.end_transaction, commit=end == "commit")
        await self.running.in_thread(work, name, transaction, partitions)
        return entity_response({"transaction": transaction, "end": end})

    async def fault_switches(self, request: Request) -> Response:
        """GET, PUT and DELETE /devserver/faults: a JSON array of `faults.Fault`."""
        if request.method in ("PUT", "DELETE"):
            faults = parse_faults(await request.body()) if request.method == "PUT" else ()
            self.faults.set(faults)
            await self.running.in_thread(self.ledger.hold, faults)
        return Response(msgspec.json.encode(self.faults.current()), media_type="application/json")

    async def node_state(self, _request: Request) -> Response:
        """GET /devserver/node: this node, its phase, its group and the partitions it holds."""
        membership, phases = self.node.membership, self.node.phases
        view = membership.view if membership is not None else None
        return entity_response(
            {
                "node": membership.number if membership is not None else 1,
                "url": self.node.url,
                "starting": phases.starting,
                "restoring": not self.node.readable(frozenset()),
                "stopping": phases.stopping,
                "settled": membership is None or membership.settled,
                "group": [number for number, _ in view.hosts] if view is not None else [1],
                "holds": [number for number in range(16) if self.node.holds(number)],
            }
        )

    async def act(self, request: Request) -> Response:
        """POST /devserver/nodes/NUMBER/ACTION: start, stop, kill, pause or resume a node."""
        if self.node.membership is None:
            raise bad_request("this server is a single node; start it with --nodes")
        number, action = request.path_params["number"], request.path_params["action"]
        said = await self.running.in_thread(self.node.membership.act, number, action)
        if said != "ok":
            raise bad_request(said)
        return entity_response({"node": number, "action": action})

    async def queries(self, _request: Request) -> Response:
        """GET /devserver/queries: the queries so far, and how each ended."""
        return entity_response(
            [
                {
                    "id": query.id,
                    "statement": query.statement,
                    "kind": query.plan.kind,
                    "rows": query.rows,
                    "state": query.state,
                }
                for query in self.running.history()
            ]
        )

    async def about(self, _request: Request) -> Response:
        """GET /devserver: what this server is, its sources, its running queries."""
        return entity_response(
            {
                "server": "ksql-lake devserver: a stand-in for tests and demos, not ksqlDB",
                "plays": self.version.text,
                "rows": {source.name: source.rows for source in list(self.catalog.sources.values())},
                "queries": [query.id for query in self.running.all()],
            }
        )


@dataclass(eq=False)
class Gate:
    """ASGI middleware that checks each request; routes under /devserver pass unchecked."""

    app: ASGIApp
    options: Options
    faults: FaultBoard
    node: Node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] != "http" or scope["path"].startswith("/devserver"):
            await self.app(scope, receive, send)
            return
        path, headers = scope["path"], dict(scope["headers"])
        if scope["http_version"] == "1.1" and b"host" not in headers:
            refusal = RefusedError(
                "For HTTP/1.x requests, the 'Host' header is required",
                status=400,
                code=SERVER_ERROR,
                statement=None,
                shown="bare",
            )
            await refusal_response(refusal)(scope, receive, send)
            return
        if self.node.phases.starting and not path.startswith("/chc/"):
            await refusal_response(_NOT_READY)(scope, receive, send)
            return
        fault = self.faults.take_for_request(query=path in _QUERY_PATHS, probe=path.startswith("/chc/"))
        if fault is not None and fault.kind == "drop":
            scope["extensions"][EXTENSION]["transport"].abort()
            await client_left(receive)
        elif fault is not None:
            await refusal_response(refusal_of(fault))(scope, receive, send)
        elif path not in _OPEN_PATHS and not self._known(headers.get(b"authorization", b"")):
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


def build_app(
    options: Options, catalog: Catalog, running: RunningQueries, node: Node, ledger: Ledger
) -> Starlette:
    """Build the application over one catalog.

    Raises:
        RefusedError: The options name an impossible server version.
    """
    version = parse_version(options.server_version)
    faults = ledger.faults
    catalog.reach = lambda query, source: faults.reach(query.sink or query.source, source.ends, query.positions)
    doors = Doors(options, catalog, running, faults, version, node, ledger)
    switches = Switches(catalog, running, faults, version, node, ledger)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running.attach()
        watch = asyncio.create_task(running.watch_pauses(options.consumer_session_ms))
        yield
        watch.cancel()

    return Starlette(
        routes=[
            Route("/", doors.root),
            Route("/info", doors.info),
            Route("/healthcheck", doors.health),
            Route("/chc/ready", doors.probe),
            Route("/chc/live", doors.probe),
            Route("/v1/metadata", doors.metadata),
            Route("/v1/metadata/id", doors.metadata_id),
            Route("/heartbeat", doors.switched_off, methods=["POST"]),
            Route("/ksql", doors.ksql, methods=["POST"]),
            Route("/query", doors.query, methods=["POST"]),
            Route("/query/", doors.query, methods=["POST"]),
            Route("/query-stream", doors.query_stream, methods=["POST"]),
            Route("/query-stream/", doors.query_stream, methods=["POST"]),
            Route("/close-query", doors.close_query, methods=["POST"]),
            Route("/clusterStatus", doors.cluster_status),
            Route("/inserts-stream", doors.inserts_stream, methods=["POST"]),
            Route("/devserver", switches.about),
            Route("/devserver/queries", switches.queries),
            Route("/devserver/sources/{name}/rows", switches.append_rows, methods=["POST"]),
            Route("/devserver/sources/{name}/log", switches.change_log, methods=["POST"]),
            Route(
                "/devserver/sources/{name}/transactions/{transaction}/{end}",
                switches.end_transaction,
                methods=["POST"],
            ),
            Route("/devserver/node", switches.node_state),
            Route("/devserver/nodes/{number:int}/{action}", switches.act, methods=["POST"]),
            Route(PATH, doors.rows_for_another_node, methods=["POST"]),
            Route("/devserver/faults", switches.fault_switches, methods=["GET", "PUT", "DELETE"]),
        ],
        middleware=[Middleware(Gate, options=options, faults=faults, node=node)],
        exception_handlers={RefusedError: _on_refusal, 404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )


def _on_refusal(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    return refusal_response(error)


def _not_found(_request: Request, _error: Exception) -> Response:
    return refusal_response(not_found())

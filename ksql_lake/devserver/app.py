"""The ASGI application: every route, and errors as ksqlDB's bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.cluster.forwarding import PATH
from ksql_lake.devserver.doors import Doors
from ksql_lake.devserver.gate import Gate
from ksql_lake.devserver.ledger import Ledger
from ksql_lake.devserver.node import Node
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.refusals import RefusedError, not_found
from ksql_lake.devserver.replies import refusal_response
from ksql_lake.devserver.running import RunningQueries
from ksql_lake.devserver.switches import Switches
from ksql_lake.devserver.version import parse_version


def build_app(
    options: Options, catalog: Catalog, running: RunningQueries, node: Node, ledger: Ledger
) -> Starlette:
    """The application over one catalog.

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

"""The endpoints of a ksqlDB server over one catalog."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from ksql_lake.devserver.cluster.node import Node, Route
from ksql_lake.devserver.faults import Fault, FaultBoard
from ksql_lake.devserver.framing import JSON, Writer, framing
from ksql_lake.devserver.ksql_errors import (
    HTTP2_ONLY,
    SERVER_ERROR,
    RefusedError,
    Shown,
    bad_request,
    internal_error,
    not_implemented,
    too_large,
)
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.property_rules import SCAN, check_allowed, check_names, check_values, consumer_number
from ksql_lake.devserver.release import Release
from ksql_lake.devserver.service.continuation import LogReading
from ksql_lake.devserver.service.ledger import Ledger
from ksql_lake.devserver.service.negotiation import NO_TEXT, QueryRequest, choose_writer, parse_request
from ksql_lake.devserver.service.query_answer import QueryAnswer
from ksql_lake.devserver.service.replies import Silence, entity_response, refusal_response
from ksql_lake.devserver.service.statuses import cluster_status, host_states, spread
from ksql_lake.devserver.service.table_rows import ForwardedRows, bare
from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.query_plan import QueryPlan, not_queryable, plan_query
from ksql_lake.devserver.sql.statements import (
    Alter,
    Create,
    Drop,
    Insert,
    InsertSelect,
    Listing,
    Print,
    Select,
    Statement,
    Terminate,
)
from ksql_lake.devserver.store.running_queries import RowBatch, RunningQueries, rows_sql
from ksql_lake.devserver.store.sources import Catalog

_LOG = logging.getLogger(__name__)
CLUSTER_ID = "ksql-lake-devserver"
PREPARING = "Exception while preparing statement: "
MATERIALIZATION = "io.confluent.ksql.execution.streams.materialization.MaterializationException"
SESSION_TIMEOUT = (
    "org.apache.kafka.common.errors.InvalidSessionTimeoutException: The session timeout is not within the "
    "range allowed by the broker (as configured by group.min.session.timeout.ms and "
    "group.max.session.timeout.ms)."
)


@dataclass(eq=False)
class Doors:
    """The routes that clients of a real server call."""

    options: Options
    catalog: Catalog
    running: RunningQueries
    faults: FaultBoard
    version: Release
    node: Node
    ledger: Ledger

    def __post_init__(self) -> None:
        self._commands = self.ledger.commands
        settings, interval = self._commands.settings, self.options.token_seconds
        self._logs = LogReading(self.running, self.catalog, settings, interval)

    async def root(self, _request: Request) -> Response:
        """GET /."""
        return RedirectResponse("/info", 307)

    async def info(self, _request: Request) -> Response:
        """GET /info."""
        about = {"version": self.version.text, "kafkaClusterId": CLUSTER_ID, "ksqlServiceId": "default_"}
        return entity_response({"KsqlServerInfo": {**about, "serverStatus": "RUNNING"}})

    async def metadata(self, _request: Request) -> Response:
        """GET /v1/metadata."""
        return entity_response({"version": self.version.text, "clusterId": self._cluster()})

    async def metadata_id(self, _request: Request) -> Response:
        """GET /v1/metadata/id."""
        return entity_response(self._cluster())

    def _cluster(self) -> dict[str, Any]:
        clusters = {"kafka-cluster": CLUSTER_ID, "ksql-cluster": "default_"}
        return {"scope": {"path": [], "clusters": clusters}, "id": ""}

    async def switched_off(self, _request: Request) -> Response:
        """GET /clusterStatus and POST /heartbeat of a server without heartbeats."""
        return Response("", 404, media_type=JSON)

    async def health(self, _request: Request) -> Response:
        """GET /healthcheck."""
        healthy = {"isHealthy": True}
        details = {"metastore": healthy, "kafka": healthy, "commandRunner": healthy}
        return entity_response({"isHealthy": True, "details": details, "serverState": "READY"})

    async def probe(self, _request: Request) -> Response:
        """GET /chc/ready and /chc/live."""
        return entity_response({})

    async def inserts_stream(self, request: Request) -> Response:
        """POST /inserts-stream: HTTP/2 only; this server takes rows by other routes."""
        if request.scope["http_version"] == "2":
            raise not_implemented("/inserts-stream")
        raise RefusedError("This endpoint is only available when using HTTP2", code=HTTP2_ONLY, statement=None)

    async def ksql(self, request: Request) -> Response:
        """POST /ksql: statements one after another, their entities in one array."""
        try:
            asked = parse_request(await request.body(), text_key="ksql", properties_key="streamsProperties")
        except RefusedError as refusal:
            if refusal.message != NO_TEXT:
                raise
            return entity_response([])
        self._check(asked.properties)
        statements = await self.running.in_thread(parse_statements, asked.text)
        await self.running.in_thread(self.node.catch_up)
        states = await host_states(self.node) if any(map(_lists_hosts, statements)) else {}
        return await self.running.in_thread(self._execute_all, statements, states, _host(request))

    def _check(self, properties: dict[str, Any]) -> None:
        """Refuse properties that this server does not know or allow, or whose values are wrong."""
        check_names(properties, self.version)
        check_allowed(properties, self.faults.take_prohibited(properties))
        check_values(properties, self.version)

    def _execute_all(self, statements: list[Statement], states: dict[str, str], host: str) -> Response:
        entities: list[dict[str, Any]] = []
        for statement in statements:
            try:
                entity = self._execute(statement, host)
            except RecursionError:
                refusal = too_large()
                refusal.statement = statement.text
                return refusal_response(refusal)
            except RefusedError as refusal:
                # The entities of earlier statements are lost, although the body has a place for them.
                refusal.statement = statement.text if refusal.statement is not None else None
                return refusal_response(refusal)
            if entity is not None:
                spread(entity, self.node, states)
                entities.append(entity)
        return entity_response(entities)

    def _execute(self, statement: Statement, host: str) -> dict[str, Any] | None:
        """Run a statement: on this node alone or, if it changes what all nodes share, in the ledger's order."""
        shared = isinstance(statement, Create | Alter | Drop | Insert | InsertSelect) or (
            isinstance(statement, Terminate) and statement.query_id in (*self.catalog.queries, "ALL")
        )
        return self.ledger.statement(statement, host) if shared else self._commands.execute(statement, host)

    async def rows_for_another_node(self, request: Request) -> ASGIApp:
        """POST of another node: rows of the partitions that this node holds."""
        wanted = msgspec.json.decode(await request.body())
        partitions = frozenset(wanted["partitions"])
        await self.running.in_thread(self.node.catch_up)
        asked = QueryRequest(wanted["statement"], {}, {})
        plan = await self.running.in_thread(self._plan, asked, False, "legacy")
        if not self.node.readable(partitions):
            raise self.node.unscannable()
        query = self.running.register(plan, wanted["statement"])
        query.loses_errors = True
        shape = bare(framing("v1", plan.kind, query.id, plan.schema))
        slow = [fault for fault in self.faults.take_for_query(plan.source.name) if fault.kind == "slow"]

        def scan(part: QueryPlan) -> AsyncGenerator[RowBatch, None]:
            return self.running.batches(query, rows_sql(part, shape, span=(0, 0), chunked=False))

        speed = slow[0].rows_per_second if slow else None
        return ForwardedRows(query, self.running, self.node, partitions, scan, speed)

    async def cluster_status(self, request: Request) -> Response:
        """GET /clusterStatus."""
        if not self.node.lag_reporting:
            return await self.switched_off(request)
        return entity_response(await self.running.in_thread(cluster_status, self.node, self.catalog))

    async def query(self, request: Request) -> ASGIApp:
        """POST /query."""
        return await self._query(request, query_stream=False)

    async def query_stream(self, request: Request) -> ASGIApp:
        """POST /query-stream."""
        if not self.version.http1_query_stream and request.scope["http_version"] != "2":
            raise RefusedError(
                "This endpoint is only available when using HTTP2", code=HTTP2_ONLY, statement=None
            )
        return await self._query(request, query_stream=True)

    async def _query(self, request: Request, *, query_stream: bool) -> ASGIApp:
        if request.scope["http_version"] == "1.0" and self.version.migrated:
            raise bad_request("This endpoint is only available when using HTTP1.1 or HTTP2", shown="bare")
        keys = ("sql", "properties") if query_stream else ("ksql", "streamsProperties")
        asked = parse_request(await request.body(), text_key=keys[0], properties_key=keys[1])
        if not query_stream:
            self._check(asked.properties)
        writer = choose_writer(
            request.headers.get("accept"),
            query_stream=query_stream,
            migrated=asked.migrated,
            version=self.version,
        )
        await self.running.in_thread(self.node.catch_up)
        plan = await self.running.in_thread(self._plan, asked, query_stream, writer)
        offsets = self._logs.asked(plan, asked) if self.version.continuation_tokens else None
        faults = self.faults.take_for_query(plan.source.name, tokens=offsets is not None)
        kinds = {fault.kind for fault in faults}
        if "topic_deleted" in kinds and plan.kind != "pull_table":
            raise RefusedError("Internal Server Error", status=503, code=SERVER_ERROR, statement=None)
        route = self._route(plan, asked, writer) if plan.kind == "pull_table" else Route()
        if kinds & {"unrestored", "topic_deleted"}:
            route = replace(route, failure=self.node.unscannable())
        if route.hangs:
            return Silence()
        offsets = None if "not_scalable" in kinds else offsets
        query = self.running.register(plan, asked.text, scalable=offsets is not None)
        query.loses_errors = plan.kind == "pull_table" and writer != "legacy" and self.version.loses_errors
        frame = framing(writer, plan.kind, query.id, plan.schema, schema_text=plan.schema_text)
        query.closable, query.properties = frame.closable, asked.properties
        return QueryAnswer(
            query,
            self.running,
            self.node,
            route,
            frame,
            earliest=asked.earliest if asked.earliest is not None else plan.source.kind == "TABLE",
            final_message=self.version.final_message,
            row_chunks=self.options.row_chunks or writer in ("delimited", "json_array"),
            labelled=self.version.labels_rows or writer == "legacy",
            faults=faults,
            refusal=self._consumer_refusal(plan, asked, writer) or self._scan_refusal(plan, writer, request),
            forward_loss=self._forward_loss(faults),
            empty=_session_scan(plan) and writer != "legacy" and self.version.loses_errors,
            continuation=self._logs.begin(query, frame, offsets, faults) if offsets is not None else None,
        )

    def _forward_loss(self, faults: tuple[Fault, ...]) -> int:
        """Return how many rows of each other node get lost on the way."""
        lost = next((fault.rows for fault in faults if fault.kind == "forward_lost"), 0)
        return lost or (random.randint(1, 50) if self.version.loses_forwarded else 0)  # noqa: S311 - no secret

    def _route(self, plan: QueryPlan, asked: QueryRequest, writer: Writer) -> Route:
        try:
            if self.node.phases.unqueryable:
                raise not_queryable(plan.source.name)
            return self.node.route(plan, asked.request_properties)
        except RefusedError as refusal:
            refusal.statement = refusal.statement or asked.text
            refusal.shown = "labelled" if writer == "legacy" else "chunked"
            raise

    def _scan_refusal(self, plan: QueryPlan, writer: Writer, request: Request) -> str | None:
        """Return why a table cannot be scanned; later releases' newer writer mostly loses it (see `empty`)."""
        if not _session_scan(plan):
            return None
        if writer != "legacy" and self.version.loses_errors:
            return None
        if self.version.release == (0, 24) and writer != "legacy":
            return "Error in processing query. Check server logs for details."
        node = f"http://{_host(request)}/"
        thrown = "" if writer == "legacy" else f"{MATERIALIZATION}: "
        reason = f"Error executing query locally at node {node}: Table scan unsupported on session tables"
        return f"{thrown}Unable to execute pull query: io.confluent.ksql.util.KsqlException: {reason}"

    def _consumer_refusal(self, plan: QueryPlan, asked: QueryRequest, writer: Writer) -> str | None:
        """Return why the query's consumer cannot join its group: the broker allows no such session time-out."""
        session = consumer_number(asked.properties, "session.timeout.ms")
        if plan.kind == "pull_table" or session is None or not self.faults.take_session_limit(session):
            return None
        prefix = "" if writer == "legacy" else "org.apache.kafka.streams.errors.StreamsException: "
        return prefix + SESSION_TIMEOUT

    def _plan(self, asked: QueryRequest, query_stream: bool, writer: Writer) -> QueryPlan:
        """Read and plan a query; mistakes of the plan are reported in another form than those of the text."""
        shown: Shown = "chunked" if query_stream else "labelled"
        with closing(self.catalog.cursor()) as cursor:
            try:
                select = _only_select(asked.text)
                source = self.catalog.find(select.source)
                shown = "labelled" if writer == "legacy" else "chunked"
                return plan_query(select, source, self.version, cursor, scan=_flag(asked.properties.get(SCAN)))
            except RecursionError:
                answer = too_large()
                answer.shown, answer.statement = shown, asked.text
                raise answer from None
            except RefusedError as refusal:
                answer = refusal
                if refusal.unexpected and shown == "chunked":
                    _LOG.error("%s: %s", asked.text, refusal.message)
                    answer = internal_error()
                answer.shown = shown
                if answer.statement is not None:
                    answer.statement = answer.statement or asked.text
                raise self._worded(answer) from None

    def _worded(self, refusal: RefusedError) -> RefusedError:
        """Return the refusal as this release words it."""
        if refusal.statement is None or "Syntax Error" in refusal.message:
            return refusal
        unknown = refusal.message.startswith(PREPARING)
        tail = ""
        if self.version.repeats_statements and (unknown or refusal.shown == "chunked"):
            tail = f"\nStatement: {refusal.statement}"
        if self.version.explains_sources and unknown:
            tail += f"\nCaused by: {refusal.message.removeprefix(PREPARING)}"
        worded = RefusedError(
            refusal.message + tail, status=refusal.status, code=refusal.code, statement=refusal.statement
        )
        worded.shown = refusal.shown
        return worded

    async def close_query(self, request: Request) -> Response:
        """POST /close-query."""
        asked = parse_request(await request.body(), text_key="queryId", properties_key="properties")
        if self.faults.take_wrong_context():
            raise RefusedError("On wrong context or worker", status=500, code=SERVER_ERROR, statement=None)
        if not self.running.close(asked.text):
            raise bad_request(f"No query with id {asked.text}", shown="bare")
        return Response(status_code=200)


def _lists_hosts(statement: Statement) -> bool:
    return isinstance(statement, Listing) and statement.what == "QUERIES"


def _only_select(text: str) -> Select:
    statements = parse_statements(text)
    if len(statements) != 1:
        raise RefusedError(f"Expected exactly one KSQL statement; found {len(statements)} instead")
    statement = statements[0]
    if isinstance(statement, Print):
        raise not_implemented("PRINT")
    if not isinstance(statement, Select):
        raise bad_request(
            "Statement type `io.confluent.ksql.parser.KsqlParser$PreparedStatement' not supported for this "
            "resource"
        )
    return statement


def _host(request: Request) -> str:
    """Return the server's own address, as the request used it."""
    return "{}:{}".format(*(request.scope.get("server") or ("127.0.0.1", 8088)))


def _session_scan(plan: QueryPlan) -> bool:
    return plan.kind == "pull_table" and plan.source.window_type == "SESSION"


def _flag(value: object) -> bool | None:
    return None if value is None else str(value).lower() == "true"

"""The server's own routes under /devserver: append rows, switch faults, see what was asked.

No ksqlDB server has them; a client that uses them is a test or a demo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.faults import FaultBoard, parse_faults
from ksql_lake.devserver.ledger import Ledger
from ksql_lake.devserver.node import Node
from ksql_lake.devserver.refusals import bad_request
from ksql_lake.devserver.replies import entity_response
from ksql_lake.devserver.running import RunningQueries
from ksql_lake.devserver.topic import parse_change
from ksql_lake.devserver.version import ServerVersion


@dataclass(eq=False)
class Switches:
    """The endpoints over one server's inside."""

    catalog: Catalog
    running: RunningQueries
    faults: FaultBoard
    version: ServerVersion
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
        """POST .../sources/NAME/transactions/ID/commit or abort; `?partitions=0,2` gives those markers too."""
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
        """GET /devserver/queries: what was asked so far, and how it went."""
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
        """GET /devserver: what this is, what is in it, what is running."""
        return entity_response(
            {
                "server": "ksql-lake devserver: a stand-in for tests and demos, not ksqlDB",
                "plays": self.version.text,
                "rows": {source.name: source.rows for source in list(self.catalog.sources.values())},
                "queries": [query.id for query in self.running.all()],
            }
        )

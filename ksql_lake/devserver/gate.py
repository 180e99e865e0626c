"""What every request passes first: switched-on request faults, then credentials."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from ksql_lake.devserver.body import EXTENSION
from ksql_lake.devserver.faults import FaultBoard, refusal_of
from ksql_lake.devserver.node import Node
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.refusals import NOT_READY, SERVER_ERROR, UNAUTHORIZED, RefusedError
from ksql_lake.devserver.replies import refusal_response

_OPEN_PATHS = ("/healthcheck", "/v1/metadata", "/v1/metadata/id", "/chc/ready", "/chc/live")
_QUERY_PATHS = ("/query", "/query-stream")
_NOT_READY = RefusedError(
    "KSQL is not yet ready to serve requests.", status=503, code=NOT_READY, statement=None
)


@dataclass(eq=False)
class Gate:
    """ASGI middleware; the server's own routes under /devserver pass without question."""

    app: ASGIApp
    options: Options
    faults: FaultBoard
    node: Node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it here."""
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
            while (await receive())["type"] != "http.disconnect":
                pass
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

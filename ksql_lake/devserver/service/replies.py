"""Answers without rows: entities, error bodies labelled as the real server labels them, or none at all."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ksql_lake.devserver.framing import JSON, compact
from ksql_lake.devserver.ksql_errors import RefusedError


async def client_left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Silence:
    """An ASGI application that never answers."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """Wait until the client has left."""
        await client_left(receive)


def entity_response(value: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(compact(value), status, media_type=JSON)


def refusal_response(refusal: RefusedError) -> Response:
    """Return the answer for a refusal; unknown paths and formats are refused in plain text."""
    if refusal.status == 404:
        return Response(refusal.message, 404)
    label = JSON if refusal.shown == "labelled" else None
    response = Response(compact(refusal.body()), refusal.status, media_type=label)
    if refusal.shown == "chunked":
        response.raw_headers = [(b"Transfer-Encoding", b"chunked")]
    return response

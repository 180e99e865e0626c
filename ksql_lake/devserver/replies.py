"""Short answers: entities and error bodies, labelled as the real server labels them."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from ksql_lake.devserver.framing import V1, compact
from ksql_lake.devserver.refusals import RefusedError


def entity_response(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(compact(value), status, media_type=V1)


def refusal_response(refusal: RefusedError) -> Response:
    """The answer a refusal stands for; unknown paths and formats are refused in plain text."""
    if refusal.status in (404, 406):
        return PlainTextResponse(refusal.message, refusal.status)
    return entity_response(refusal.body(), refusal.status)

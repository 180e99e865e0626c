"""A request that is never answered: not even a status line comes until the client leaves."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send


class Silence:
    """An ASGI application that says nothing."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """Wait until the client has left."""
        while (await receive())["type"] != "http.disconnect":
            pass

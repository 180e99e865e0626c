"""A load balancer on 127.0.0.1 in front of nodes that cannot be reached one by one.

It leads each connection to the next node that takes it, and changes what nodes advertise into addresses of the
same length where no server answers. It knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Balancer:
    """The balancer; a context manager.

    Args:
        urls: The nodes.
        before_query: Called once, before the first query is passed on; all connections then go to the first
            node that takes them.

    Attributes:
        url: Its own address.
    """

    def __init__(self, urls: Sequence[str], *, before_query: Callable[[], object] | None = None) -> None:
        self.url = ""
        self._before_query = before_query
        self._sticks = before_query is not None
        self._ports = [int(urlsplit(url).port or 0) for url in urls]
        self._hidden = {
            f":{port}".encode(): f":{number:05}".encode() for number, port in enumerate(self._ports, 1)
        }
        self._turns = itertools.count()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="balancer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._over.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0 if self._sticks else next(self._turns)
        try:
            for step in range(len(self._ports)):
                port = self._ports[(turn + step) % len(self._ports)]
                with suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    await self._join(reader, writer, there, back)
                    return
        finally:
            await _closed(writer)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        out = asyncio.ensure_future(self._pass(reader, back))
        try:
            with suppress(OSError):
                await self._pass(there, writer, hide=True)
        finally:
            out.cancel()
            await asyncio.gather(out, return_exceptions=True)
            await _closed(back)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, hide: bool = False
    ) -> None:
        """Pass bytes on; an address that is cut in two by a read stays as it is."""
        while data := await source.read(1 << 20):
            if not hide and self._before_query is not None and data.startswith(b"POST /query "):
                act, self._before_query = self._before_query, None
                await asyncio.to_thread(act)
            if hide:
                for shown, hidden in self._hidden.items():
                    data = data.replace(shown, hidden)
            sink.write(data)
            await sink.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

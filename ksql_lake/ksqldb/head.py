"""The head of an HTTP answer, bounded in size and time.

The standard library bounds each line of a head and the number of its headers, but not how many interim answers
(100 Continue) come before it, nor how slowly its bytes drip in: a time-out of a socket begins anew with each of
them. Whatever answers there, a head that does not end is an error here. It refuses to look at the body.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter

from ksql_lake.ksqldb.network import EndlessHeadError

_HTTP = b"HTTP/"
MOST = 512 * 1024
"""Bytes of a head, interim answers included."""


class _Head:
    """The reader of an answer's head; what it has not given out is the body's.

    Args:
        wire: The connection's reader.
        patience: Seconds from the first byte to the end of the head; None for ever.
    """

    def __init__(self, wire: io.BufferedReader, patience: float | None) -> None:
        self._wire = wire
        self._left = MOST
        self._patience = patience
        self._began: float | None = None
        self._within = False

    def readline(self, limit: int = -1) -> bytes:
        """Give a line, or what comes before the end or the limit.

        Raises:
            RemoteDisconnected: The connection ended within the head; http.client takes that for its end.
        """
        line = bytearray()
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            waiting = self._wire.peek(1)
            if not waiting:
                if self._within or (line and _HTTP.startswith(line[: len(_HTTP)])):
                    raise http.client.RemoteDisconnected("the connection ended within the head of the answer")
                break
            size = waiting.find(b"\n") + 1 or len(waiting)
            line += self._wire.read(size if limit < 0 else min(size, limit - len(line)))
            self._check()
        self._left -= len(line)
        self._within = True
        return bytes(line)

    def close(self) -> None:
        """Close the reader underneath."""
        self._wire.close()

    def _check(self) -> None:
        if self._left < 0:
            raise EndlessHeadError
        now = time.monotonic()
        self._began = self._began or now
        if self._patience is not None and now - self._began > self._patience:
            raise TimeoutError("the head does not end")


class _Response(http.client.HTTPResponse):
    """The standard library's response, its head bounded."""

    def __init__(self, sock: socket.socket, *args: Any, **keywords: Any) -> None:
        super().__init__(sock, *args, **keywords)
        self._patience = sock.gettimeout()

    def begin(self) -> None:
        """Read the head."""
        wire = self.fp
        self.fp = _Head(wire, self._patience)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            # An answer without a body has closed it already.
            if self.fp is not None:
                self.fp = wire


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class BoundedAdapter(HTTPAdapter):
    """The adapter of requests, over connections that read no endless head."""

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **keywords)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **keywords: Any) -> urllib3.ProxyManager:
        """Make the pools of connections through a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **keywords)
        manager.pool_classes_by_scheme = _POOLS
        return manager

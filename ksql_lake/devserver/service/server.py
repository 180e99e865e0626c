"""Run the server: one socket, uvicorn, a ready line, a clean stop on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from dataclasses import replace
from types import FrameType
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ksql_lake.devserver.cluster.membership import Membership
from ksql_lake.devserver.cluster.node import Node
from ksql_lake.devserver.faults import FaultBoard
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.phases import Phases
from ksql_lake.devserver.property_rules import server_settings
from ksql_lake.devserver.release import parse_version
from ksql_lake.devserver.service.asgi import build_app
from ksql_lake.devserver.service.body import EXTENSION
from ksql_lake.devserver.service.commands import Commands
from ksql_lake.devserver.service.growth import load
from ksql_lake.devserver.service.http2 import PREFACE, App, Http2Connection, asks_upgrade, upgrade_of
from ksql_lake.devserver.service.ledger import Ledger
from ksql_lake.devserver.store.data_folder import load_folder
from ksql_lake.devserver.store.running_queries import RunningQueries
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.errors import ConfigError

GRACE_SECONDS = 2


class Cycle(RequestResponseCycle):
    """uvicorn's request and its answer, whose head is written as ksqlDB writes it.

    Names keep their case, the length comes last, and HTTP/1.0 gets no header about the connection's end.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Send the head here, everything else as uvicorn does."""
        if message["type"] != "http.response.start" or self.response_started or self.disconnected:
            await super().send(message)
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        lengths = []
        lines = [STATUS_LINE[message["status"]]]
        for name, value in message.get("headers", []):
            if name.lower() == b"content-length":
                self.expected_content_length, self.chunked_encoding = int(value), False
                lengths = [b"content-length: " + value + b"\r\n"]
            else:
                lines.append(name + b": " + value + b"\r\n")
                self.chunked_encoding = self.chunked_encoding or name.lower() == b"transfer-encoding"
        if not self.keep_alive and self.scope["http_version"] != "1.0":
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and message["status"] not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"Transfer-Encoding: chunked\r\n")
        self.transport.write(b"".join([*lines, *lengths, b"\r\n"]))


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which also shows itself to the application, and leaves HTTP/2 to another class."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; its first bytes decide the protocol."""
        super().connection_made(transport)
        self._opening: bytes | None = None if self.scheme == "https" else b""

    def data_received(self, data: bytes) -> None:
        """Pass the bytes to the class that speaks the client's protocol."""
        if self._opening is None:
            super().data_received(data)
            return
        self._opening += data
        if len(self._opening) < len(PREFACE) and PREFACE.startswith(self._opening):
            return
        opening, upgrade = self._opening, upgrade_of(self._opening)
        if upgrade is None and not opening.startswith(PREFACE):
            if asks_upgrade(opening):
                return  # its body is still on the way
            self._opening = None
            super().data_received(opening)
            return
        self.connections.discard(self)
        http2 = Http2Connection(cast("App", self.app), self.connections, self.tasks)
        http2.take_over(self.transport, upgrade)
        if upgrade is None:
            http2.data_received(opening)

    def on_headers_complete(self) -> None:
        """Begin to answer; uvicorn has no setting for the class that writes heads."""
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.__class__ = Cycle

    def on_message_begin(self) -> None:
        """Begin a request; its scope gets the connection."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport, "flow": self.flow}}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, options: Options, running: RunningQueries, node: Node) -> None:
        super().__init__(config)
        self._options, self._running, self._node = options, running, node

    def leave(self) -> None:
        """Stop at once."""
        self.should_exit = True

    def stop(self) -> None:
        """Begin the shutdown, which takes as long as its phase says."""
        self._node.phases.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT, which uvicorn receives while it serves."""
        del sig, frame
        self.stop()

    async def on_tick(self, counter: int) -> bool:
        if self._node.phases.stopping and not self.should_exit:
            self._wind_down(self._node.phases)
        return await super().on_tick(counter)

    def _wind_down(self, phases: Phases) -> None:
        """End what a server that shuts down has ended by now."""
        self._running.close_all("pull_table")
        if phases.past("pushes_end"):
            self._running.close_all("push")
        if phases.unqueryable and self._node.membership is not None:
            self._node.membership.leave()
        if phases.past("streams_cut"):
            self._running.close_all()
        self.should_exit = phases.past("over")

    def _hear_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            self.leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._options.until_stdin_closes:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._hear_stdin)
        self._node.phases.listen()
        sys.stdout.write(f"ksql-lake devserver listening on {self._node.url}\n")
        sys.stdout.flush()
        if self._options.ready_file is not None:
            # Renamed into place, so that a process that waits for the file never reads half a URL.
            beside = self._options.ready_file.with_suffix(".part")
            beside.write_text(self._node.url, encoding="utf-8")
            beside.replace(self._options.ready_file)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._options.until_stdin_closes:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._running.close_all()
        await super().shutdown(sockets=sockets)


def serve(options: Options) -> None:
    """Serve until a stop signal.

    Raises:
        ConfigError: The address cannot be bound, or the data folder cannot be used.
        RefusedError: A statement in the data folder, or the server version, is wrong.
    """
    # Bound first: a client that connects while data is still loading waits instead of being refused.
    with contextlib.closing(_listen(options)) as listener:
        version = parse_version(options.server_version)
        scheme = "https" if options.tls_cert else "http"
        url = f"{scheme}://{options.host}:{listener.getsockname()[1]}"
        catalog = Catalog(
            options.memory_limit,
            topic_settings=version.topic_settings,
            repeatable=options.node is not None,
        )
        running = RunningQueries(catalog)
        node = Node(catalog, Phases(options.phases), url=url, lag_reporting=options.lag_reporting)
        commands = Commands(catalog, running, version, server_settings(options.settings))
        ledger = Ledger(commands, catalog, FaultBoard(options.faults))
        app = build_app(options, catalog, running, node, ledger)
        growth = load(options, catalog)
        if options.data is not None:
            load_folder(options.data, catalog)
        server = _Server(_uvicorn_config(app, options), options, running, node)
        if options.node is not None and options.broker is not None:
            _join(options, node, ledger, server)
        # uvicorn raises the signal that stopped it again; a server that was asked to stop has not failed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: server.stop())
        if growth is not None:
            growth.start()
        try:
            server.run(sockets=[listener])
        finally:
            if growth is not None:
                growth.stop()
            # A second signal while it shuts down is no failure either.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if node.membership is not None:
                node.membership.close()


def _join(options: Options, node: Node, ledger: Ledger, server: _Server) -> None:
    """Make this process a node of the broker's cluster."""
    place, _, port = str(options.broker).rpartition(":")
    membership = Membership(options.node or 0, node.url, ledger.apply, options.phases.restoring)
    membership.failed = server.leave
    ledger.submit = membership.submit
    node.membership = membership
    # Stores are restored partition by partition, as the group assigns them.
    node.phases.seconds = replace(node.phases.seconds, restoring=0.0)
    node.phases.ready = lambda: membership.ready
    membership.connect((place, int(port)))
    node.patience = membership.session


def _uvicorn_config(app: Starlette, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=60,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        ssl_ca_certs=str(options.tls_client_ca) if options.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if options.tls_client_ca else ssl.CERT_NONE,
    )


def _listen(options: Options) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}",
            hint="Choose another --port; 0 takes a free one.",
        ) from None
    listener.listen(128)
    return listener

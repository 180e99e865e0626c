"""`devserver --nodes N`: the parent process with the broker, and one child process per node."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

from ksql_lake.devserver.cluster.broker import Broker, Frame
from ksql_lake.devserver.faults import fault_text
from ksql_lake.devserver.options import Options
from ksql_lake.errors import ConfigError

ACTIONS = ("start", "stop", "kill", "pause", "resume")
_SIGNALS = {
    "stop": signal.SIGTERM,
    "kill": signal.SIGKILL,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}


@dataclass(eq=False)
class _NodeProcess:
    """One node: its fixed address and its current process."""

    number: int
    port: int
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Cluster:
    """The parent of a cluster.

    Args:
        options: Its options; `nodes` is the number of nodes.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._arguments = _arguments(options)
        self._broker = Broker(
            session=options.node_session,
            expected=options.nodes,
            entries=_first_entries(options),
            act=self.act,
        )
        self._reserved = _reserved(options)
        ports = [item.getsockname()[1] for item in self._reserved] or _following(options)
        self._nodes = {number: _NodeProcess(number, port) for number, port in enumerate(ports, 1)}
        self._address = ("127.0.0.1", 0)
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Start everything, serve until a stop signal, then stop every node.

        Raises:
            ConfigError: A node did not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        server = await asyncio.start_server(self._broker.serve, "127.0.0.1", 0)
        self._address = server.sockets[0].getsockname()[:2]
        watch = asyncio.create_task(self._broker.watch())
        console = asyncio.create_task(self._listen_to_stdin()) if self._options.until_stdin_closes else None
        try:
            await asyncio.gather(*(self._start(node) for node in self._nodes.values()))
            await self._broker.settled.wait()
            self._announce()
            await self._over.wait()
        finally:
            for task in (watch, console):
                if task is not None:
                    task.cancel()
            await self._stop_all()
            server.close()
            for item in self._reserved:
                item.close()
            for number in (signal.SIGTERM, signal.SIGINT):  # a second signal while it shuts down
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def _announce(self) -> None:
        urls = [f"http://{self._options.host}:{node.port}" for node in self._nodes.values()]
        sys.stdout.write(f"ksql-lake devserver listening on {','.join(urls)}\n")
        sys.stdout.flush()
        if self._options.ready_file is not None:
            beside = self._options.ready_file.with_suffix(".part")
            beside.write_text("\n".join(urls), encoding="utf-8")
            beside.replace(self._options.ready_file)

    async def act(self, number: int, action: str) -> str:
        """Run an action on a node; return the result, or why it failed, in a word or a sentence."""
        node = self._nodes.get(number)
        if node is None or action not in ACTIONS:
            known = f"there are nodes 1 to {len(self._nodes)} and {', '.join(ACTIONS)}"
            return f"cannot {action} node {number}: {known}"
        if action == "start":
            if node.running and not node.stopping:
                return f"node {number} runs already"
            if node.process is not None:
                await node.process.wait()
            await self._start(node)
            return "ok"
        if not node.running or node.process is None:
            return f"node {number} does not run"
        node.process.send_signal(_SIGNALS[action])
        node.stopping = node.stopping or action == "stop"
        if action == "kill":
            await node.process.wait()
        return "ok"

    async def _start(self, node: _NodeProcess) -> None:
        phases = _phases(self._options, again=node.process is not None)
        node.stopping = False
        place = f"{self._address[0]}:{self._address[1]}"
        node.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ksql_lake.devserver", *self._arguments,
            *phases,
            "--port", str(node.port), "--node", str(node.number), "--broker", place, "--until-stdin-closes",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        line = await node.process.stdout.readline() if node.process.stdout is not None else b""
        if b" listening on " not in line:
            await node.process.wait()
            raise ConfigError(f"node {node.number} did not start", hint="Its output is above.")

    async def _stop_all(self) -> None:
        running = [node.process for node in self._nodes.values() if node.running and node.process is not None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in running))

    async def _listen_to_stdin(self) -> None:
        """Run lines such as `kill 2`; the end of standard input ends the cluster."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
        )
        while line := (await reader.readline()).decode().split():
            said = "a line is an action and a node's number"
            if len(line) == 2 and line[1].isdigit():
                try:
                    said = await self.act(int(line[1]), line[0])
                except ConfigError as error:
                    said = f"cannot {line[0]} node {line[1]}: {error.message}"
            sys.stdout.write(said + "\n")
            sys.stdout.flush()
        self._over.set()


def _first_entries(options: Options) -> list[Frame]:
    entries: list[Frame] = []
    at = int(time.time() * 1000)
    if options.sample:
        entries.append({"kind": "sample", "rows": options.sample_rows, "days": options.sample_days, "at": at})
    if options.data is not None:
        entries.append({"kind": "folder", "path": str(options.data.resolve()), "at": at})
    return entries


def _following(options: Options) -> list[int]:
    return [options.port + number for number in range(options.nodes)]


def _reserved(options: Options) -> list[socket.socket]:
    """Return a socket on a free port for each node, none if `--port` names the ports.

    They never listen, so a node listens beside its own. While it does not run, nobody else gets its port.
    """
    sockets: list[socket.socket] = []
    for _ in range(0 if options.port else options.nodes):
        sockets.append(socket.socket())
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sockets[-1].bind((options.host, 0))
    return sockets


def _phases(options: Options, *, again: bool) -> list[str]:
    """Return the phases of a node: a service that starts for the first time is ready at once."""
    names = ["restoring", "stopping", *(["starting", "locating"] if again else [])]
    return [text for name in names for text in ("--phase", f"{name}={getattr(options.phases, name)}")]


def _arguments(options: Options) -> list[str]:
    """Return the options of the cluster that each node's command line repeats."""
    arguments = ["--host", options.host, "--server-version", options.server_version]
    if options.session_seconds is not None:
        arguments += ["--session-seconds", str(options.session_seconds)]
    arguments += ["--token-seconds", str(options.token_seconds)]
    for setting in options.settings:
        arguments += ["--setting", setting]
    for fault in options.faults:
        arguments += ["--fault", fault_text(fault)]
    if options.user is not None:
        arguments += ["--user", ":".join(options.user)]
    if options.token is not None:
        arguments += ["--token", options.token]
    if options.memory_limit is not None:
        arguments += ["--memory-limit", options.memory_limit]
    arguments += [] if options.row_chunks else ["--large-chunks"]
    arguments += ["--lag-reporting"] if options.lag_reporting else []
    return arguments


def serve_cluster(options: Options) -> None:
    """Serve a cluster until a stop signal.

    Raises:
        ConfigError: A node did not start, or the options do not fit several nodes.
    """
    if options.tls_cert is not None:
        raise ConfigError("several nodes do not speak TLS", hint="Leave --tls-cert out, or start one node.")
    asyncio.run(Cluster(options).run())

"""A TCP proxy on 127.0.0.1 that does one bad thing at one byte of what passes through it.

It knows nothing of HTTP or TLS. Bytes are counted per direction over all connections, in the order in which
they come, so a position of one conversation is a position of the same conversation tried again. It can end the
connection in order (FIN) or rudely (RST), fall silent, flip a bit, pause, or send in small pieces; it never
sends anything twice. An asyncio loop in a thread of its own; nothing waits longer than until the proxy is left.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

Direction = Literal["request", "response"]
Kind = Literal["fin", "rst", "stall", "flip", "delay", "throttle"]
_PIECE = 997
_PAUSE_SECONDS = 0.001


@dataclass(frozen=True)
class Fault:
    """One bad thing.

    Attributes:
        kind: `fin` and `rst` end the connection before the byte, `stall` keeps it open and silent from it on,
            `flip` changes a bit of it, `delay` pauses before it, `throttle` sends it and the rest in pieces.
        direction: Whose bytes.
        at: Which byte, from 0.
        bit: Which bit `flip` changes.
        times: How many conversations suffer it; positions begin again with each of them.
    """

    kind: Kind
    direction: Direction
    at: int
    bit: int = 0
    times: int = 1


class FaultyProxy:
    """The proxy; a context manager.

    Args:
        port: The port on 127.0.0.1 that it leads to.

    Attributes:
        passed: Bytes that came per direction since the last fault was set.
        struck: How often a fault came true since then.
    """

    def __init__(self, port: int) -> None:
        self.passed: dict[str, int] = {"request": 0, "response": 0}
        self.struck = 0
        self._fault: Fault | None = None
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, in plain HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def set(self, fault: Fault | None) -> None:
        """Count from 0 again, and do this."""
        self.passed = {"request": 0, "response": 0}
        self.struck = 0
        self._fault = fault

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accepted, sock=self._listener)
        await self._stopping.wait()
        server.close()
        # Connections may be accepted meanwhile, so until none is left.
        while pending := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)
        for writer in self._writers:
            writer.transport.abort()
        # Sockets are closed one turn of the loop after their transports.
        for _ in range(3):
            await asyncio.sleep(0)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Noted here, because a task that is cancelled before its first step would not close it.
        self._writers.append(writer)
        self._tasks.append(self._loop.create_task(self._connected(reader, writer)))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers.append(far_writer)
        writers = (writer, far_writer)
        there = asyncio.create_task(self._pass_on("request", reader, far_writer, writers))
        back = asyncio.create_task(self._pass_on("response", far_reader, writer, writers))
        try:
            await asyncio.gather(there, back)
        finally:
            there.cancel()
            back.cancel()
            for one in writers:
                one.close()

    async def _pass_on(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        # One side may be gone at any moment, which `write_eof` reports as a plain OSError.
        with suppress(OSError):
            while data := await reader.read(65536):
                begin = self.passed[direction]
                self.passed[direction] += len(data)
                fault = self._fault
                if fault is not None and fault.direction == direction and begin <= fault.at < begin + len(data):
                    self._spend(fault)
                    data = await self._strike(fault, data, fault.at - begin, writer, both)
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    def _spend(self, fault: Fault) -> None:
        self.struck += 1
        if self.struck >= fault.times:
            self._fault = None
        else:
            self.passed = {"request": 0, "response": 0}

    async def _strike(
        self,
        fault: Fault,
        data: bytes,
        at: int,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> bytes:
        """Do it, and give what is still to be sent."""
        if fault.kind == "flip":
            return data[:at] + bytes((data[at] ^ 1 << fault.bit,)) + data[at + 1 :]
        writer.write(data[:at])
        await writer.drain()
        rest = data[at:]
        match fault.kind:
            case "stall":
                await self._stopping.wait()
            case "delay":
                await asyncio.sleep(50 * _PAUSE_SECONDS)
            case "throttle":
                for start in range(0, len(rest), _PIECE):
                    writer.write(rest[start : start + _PIECE])
                    await writer.drain()
                    await asyncio.sleep(_PAUSE_SECONDS)
                return b""
            case _:
                for one in both:
                    self._end(one, rude=fault.kind == "rst")
                raise ConnectionError
        return rest

    @staticmethod
    def _end(writer: asyncio.StreamWriter, *, rude: bool) -> None:
        if not rude:
            writer.close()
            return
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

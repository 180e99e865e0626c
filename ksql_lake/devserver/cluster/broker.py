"""The broker of a cluster: one log of all changes, and the owner of each partition."""

# When the group changes, every node first gives up what it loses and then takes what it gains, so a partition
# never has two owners.

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

Frame = dict[str, Any]
_LENGTH = 4

TICKS_PER_SESSION = 10
"""How many heartbeats a node sends in the time after which it counts as gone."""

ALIVE_TICKS = 4
"""After how many missed heartbeats other nodes report a node as not alive, while it still is in the group."""

LEASE_SHARE = 0.8
"""A node trusts its own membership for less time than the broker does, so that no partition has two owners."""


def pack(frame: Frame) -> bytes:
    """Return the bytes of one message."""
    body = msgspec.json.encode(frame)
    return len(body).to_bytes(_LENGTH, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Read the next message; None when the other side has closed the connection."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return dict(msgspec.json.decode(body))


def receive(connection: socket.socket) -> Frame | None:
    """Read the next message from a blocking socket; None when the other side has closed the connection."""
    try:
        length = int.from_bytes(_exactly(connection, _LENGTH), "big")
        return dict(msgspec.json.decode(_exactly(connection, length)))
    except (EOFError, OSError):
        return None


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


@dataclass(eq=False)
class _Member:
    """One connected node.

    Attributes:
        heard: When its last heartbeat came.
        ready: Whether it has replayed the log as it was when it connected.
        grouped: Whether it belongs to the group.
        leaving: Whether it has said that it leaves, and stays out.
        revoked: The latest epoch for which it gave up what it lost.
    """

    number: int
    url: str
    writer: asyncio.StreamWriter
    heard: float
    ready: bool = False
    grouped: bool = False
    leaving: bool = False
    revoked: int = 0

    def send(self, frame: Frame) -> None:
        """Queue a message, so that a node that does not read does not delay the others."""
        if not self.writer.is_closing():
            self.writer.write(pack(frame))


class Broker:
    """The log and the group.

    Args:
        session: Seconds without a heartbeat after which a node is out of the group.
        expected: Nodes that must be ready before the first assignment.
        entries: What the log begins with.
        act: What to do when a node asks for another to be killed, paused and so on.
    """

    def __init__(
        self,
        *,
        session: float,
        expected: int,
        entries: list[Frame],
        act: Callable[[int, str], Awaitable[str]],
    ) -> None:
        self._session = session
        self._expected = expected
        self._act = act
        self._log: list[Frame] = list(entries)
        self._members: dict[int, _Member] = {}
        self._epoch = 0
        self._assigned = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.settled = asyncio.Event()

    @property
    def session(self) -> float:
        """Seconds without a heartbeat after which a node is out of the group."""
        return self._session

    async def watch(self) -> None:
        """Remove nodes from the group whose heartbeats stopped; runs until cancelled."""
        while True:
            await asyncio.sleep(self._session / TICKS_PER_SESSION)
            limit = time.monotonic() - self._session
            silent = [member for member in self._grouped() if member.heard < limit]
            for member in silent:
                member.grouped = False
            if silent:
                self._regroup()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one node until its connection ends."""
        hello = await read_frame(reader)
        if hello is None:
            writer.close()
            return
        member = _Member(int(hello["node"]), str(hello["url"]), writer, time.monotonic())
        # The log comes first: as a member the node also gets the messages about the group.
        member.send({"session": self._session, "replay": len(self._log)})
        for index, entry in enumerate(self._log):
            member.send({"entry": entry, "index": index})
        former = self._members.get(member.number)
        self._members[member.number] = member
        if former is not None and former.grouped:  # the same node, started again
            former.grouped = False
            self._regroup()
        while (frame := await read_frame(reader)) is not None:
            self._hear(member, frame)
        writer.close()

    def _hear(self, member: _Member, frame: Frame) -> None:
        match frame:
            case {"beat": sent}:
                self._beat(member, sent)
            case {"submit": entry, "ticket": ticket}:
                self._append(member, entry, ticket)
            case {"barrier": ticket}:
                member.send({"reached": ticket, "end": len(self._log)})
            case {"ready": True}:
                member.ready, member.heard = True, time.monotonic()
                self._admit(member)
            case {"revoked": epoch}:
                member.revoked = epoch
                self._assign_when_revoked()
            case {"leave": True}:
                member.leaving = True
                if member.grouped:
                    member.grouped = False
                    self._regroup()
            case {"act": [number, action], "ticket": ticket}:
                task = asyncio.ensure_future(self._carry_out(member, int(number), str(action), ticket))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _beat(self, member: _Member, sent: float) -> None:
        member.heard = time.monotonic()
        if not member.grouped:
            self._admit(member)
        if member.grouped:
            self._lease(member, sent)

    def _lease(self, member: _Member, since: float) -> None:
        fresh = time.monotonic() - ALIVE_TICKS * self._session / TICKS_PER_SESSION
        alive = [other.number for other in self._grouped() if other.heard >= fresh]
        member.send({"lease": since + self._session * LEASE_SHARE, "alive": alive})

    def _admit(self, member: _Member) -> None:
        if member.grouped or member.leaving or not member.ready or self._members[member.number] is not member:
            return
        if self._epoch == 0 and sum(other.ready for other in self._members.values()) < self._expected:
            return
        for other in self._members.values():
            other.grouped = other.grouped or (self._epoch == 0 and other.ready)
        member.grouped = True
        self._regroup()

    def _append(self, member: _Member, entry: Frame, ticket: int) -> None:
        index = len(self._log)
        self._log.append(entry)
        for other in self._members.values():
            other.send({"entry": entry, "index": index, **({"ticket": ticket} if other is member else {})})

    async def _carry_out(self, member: _Member, number: int, action: str, ticket: int) -> None:
        member.send({"done": ticket, "said": await self._act(number, action)})

    def _grouped(self) -> list[_Member]:
        return [self._members[number] for number in sorted(self._members) if self._members[number].grouped]

    def _regroup(self) -> None:
        self._epoch += 1
        self._assigned = False
        self.settled.clear()
        self._publish()
        self._assign_when_revoked()

    def _assign_when_revoked(self) -> None:
        group = self._grouped()
        if self._assigned or any(member.revoked != self._epoch for member in group):
            return
        self._assigned = True
        self._publish()
        for member in group:
            self._lease(member, member.heard)
        self.settled.set()

    def _publish(self) -> None:
        group = [[member.number, member.url] for member in self._grouped()]
        view = {"epoch": self._epoch, "group": group, "assigned": self._assigned, "first": self._epoch == 1}
        for member in self._members.values():
            member.send(view)

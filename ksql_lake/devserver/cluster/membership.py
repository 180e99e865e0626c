"""A node's side of the group: it follows the broker's log and knows which partitions it holds."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ksql_lake.devserver.cluster.broker import TICKS_PER_SESSION, Frame, pack, receive
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError

SLOTS = 1024
"""Upper bound of partition numbers; no source of a stand-in has more."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """The group as a node knows it.

    Attributes:
        hosts: Number and URL of every node in the group.
        assigned: Whether the group has agreed; otherwise nodes are still giving partitions up.
        first: Whether it is the group's first agreement, with nothing to restore.
    """

    epoch: int = 0
    hosts: tuple[tuple[int, str], ...] = ()
    assigned: bool = False
    first: bool = False

    def owner(self, partition: int) -> int | None:
        """The number of the node that owns a partition."""
        return self.hosts[partition % len(self.hosts)][0] if self.hosts else None


@dataclass(eq=False)
class Membership:
    """One node's connection to the broker.

    Args:
        number: The node's number, from 1.
        url: The URL at which clients reach it.
        apply: Applies one entry of the log.
        restoring: Seconds for which a partition that was just taken over cannot be read.
    """

    number: int
    url: str
    apply: Callable[[Frame], object]
    restoring: float = 0.0
    view: GroupView = field(default_factory=GroupView)
    alive: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self._lock = threading.Condition()
        self._sending = threading.Lock()
        self._tickets = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._entries: queue.Queue[Frame | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._held: dict[int, float] = {}
        self._lease = 0.0
        self._applied = 0
        self._replay = 0
        self._left = False
        self.session = 0.0
        self.failure: BaseException | None = None
        self.failed: Callable[[], None] = lambda: None

    def connect(self, address: tuple[str, int]) -> None:
        """Connect and follow the log in the background."""
        self._socket = socket.create_connection(address)
        self._send({"node": self.number, "url": self.url})
        first = receive(self._socket)
        if first is None:
            raise RefusedError("the cluster's broker closed the connection", code=SERVER_ERROR, statement=None)
        self.session, self._replay = float(first["session"]), int(first["replay"])
        for work in (self._hear, self._follow, self._beat):
            thread = threading.Thread(target=work, name=f"node-{work.__name__[1:]}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Leave the broker and end the background threads."""
        self.failed = lambda: None
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._entries.put(None)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    @property
    def ready(self) -> bool:
        """Whether the log as it was at the start has been replayed."""
        return self._applied >= self._replay and self.failure is None

    @property
    def settled(self) -> bool:
        """Whether the node is in the group and the group has agreed."""
        return self.view.assigned and self._leased() and self.number in dict(self.view.hosts)

    def submit(self, entry: Frame) -> Any:
        """Append an entry to the log and wait until this node has applied it; returns its result.

        Raises:
            RefusedError: The entry was refused.
        """
        return self._ask({"submit": entry})

    def barrier(self) -> None:
        """Wait until this node has applied everything that the log holds now."""
        end = int(self._ask({"barrier": None}))
        with self._lock:
            self._lock.wait_for(lambda: self._applied >= end or self.failure is not None)

    def act(self, number: int, action: str) -> str:
        """Have a node killed, stopped, paused, resumed or started."""
        return str(self._ask({"act": [number, action]}))

    def leave(self) -> None:
        """Leave the group; the other nodes take over the partitions."""
        self._left = True
        with self._lock:
            self._held.clear()
        with suppress(RefusedError):
            self._send({"leave": True})

    def holds(self, partition: int) -> bool:
        """Whether this node is the active one of a partition, restored or not."""
        return self._leased() and partition % SLOTS in self._held

    def restored(self, partitions: Iterable[int]) -> bool:
        """Whether the stores of partitions it holds can be read."""
        now = time.monotonic()
        return all(self._held.get(partition % SLOTS, 0.0) <= now for partition in partitions)

    def _leased(self) -> bool:
        return time.monotonic() < self._lease

    def _ask(self, frame: Frame) -> Any:
        ticket = next(self._tickets)
        waiter: Future[Any] = Future()
        self._waiting[ticket] = waiter
        if "barrier" in frame:
            self._send({"barrier": ticket})
        else:
            self._send({**frame, "ticket": ticket})
        return waiter.result()

    def _send(self, frame: Frame) -> None:
        with self._sending:
            try:
                self._socket.sendall(pack(frame))
            except OSError as error:
                raise RefusedError(
                    f"the cluster's broker is gone: {error}", code=SERVER_ERROR, statement=None
                ) from None

    def _hear(self) -> None:
        while (frame := receive(self._socket)) is not None:
            if "entry" in frame:
                self._entries.put(frame)
            elif "lease" in frame:
                self._lease = float(frame["lease"])
                self.alive = frozenset(frame["alive"])
            elif "epoch" in frame:
                hosts = tuple((int(number), str(url)) for number, url in frame["group"])
                self._see(GroupView(int(frame["epoch"]), hosts, bool(frame["assigned"]), bool(frame["first"])))
            elif "reached" in frame:
                self._waiting.pop(frame["reached"]).set_result(frame["end"])
            else:
                self._waiting.pop(frame["done"]).set_result(frame["said"])
        self._fail(ConnectionError("the cluster's broker is gone"))

    def _see(self, view: GroupView) -> None:
        """Adopt a view of the group; give up partitions first, take others later."""
        with self._lock:
            mine = {slot for slot in range(SLOTS) if view.owner(slot) == self.number and not self._left}
            if not self._leased() and not view.first:
                self._held = {}  # other nodes may have held these partitions since
            kept = {slot: since for slot, since in self._held.items() if slot in mine}
            if view.assigned:
                usable = 0.0 if view.first else time.monotonic() + self.restoring
                kept = {slot: kept.get(slot, usable) for slot in mine}
            self._held = kept
            self.view = view
            self._lock.notify_all()
        if not view.assigned:
            with suppress(RefusedError):  # a broker that is gone is noticed where it is read
                self._send({"revoked": view.epoch})

    def _follow(self) -> None:
        """Apply the log, entry by entry."""
        if self.ready:
            self._announce()
        while True:
            frame = self._entries.get()
            if frame is None:
                return
            waiter = self._waiting.pop(frame.get("ticket", 0), None)
            try:
                result = self.apply(frame["entry"])
                if waiter is not None:
                    waiter.set_result(result)
            except RefusedError as refusal:
                if waiter is not None:
                    waiter.set_exception(refusal)
            except Exception as error:  # noqa: BLE001 - a node that cannot follow the log must end
                self._fail(error)
                return
            with self._lock:
                self._applied = int(frame["index"]) + 1
                self._lock.notify_all()
            if self._applied == self._replay:
                self._announce()

    def _announce(self) -> None:
        with suppress(RefusedError):
            self._send({"beat": time.monotonic()})
            self._send({"ready": True})

    def _beat(self) -> None:
        while self.failure is None:
            try:
                self._send({"beat": time.monotonic()})
            except RefusedError as error:
                self._fail(error)
                return
            with self._lock:
                self._lock.wait_for(lambda: self.failure is not None, self.session / TICKS_PER_SESSION)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.failure = self.failure or error
            self._lock.notify_all()
        for waiter in list(self._waiting.values()):
            if not waiter.done():
                waiter.set_exception(
                    RefusedError("the node is leaving its cluster", code=SERVER_ERROR, statement=None)
                )
        self.failed()

"""Ports of loopback that stay free until a server of a test takes them."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from random import SystemRandom

_RANGE = range(15_000, 32_000)
"""Below the ports that Linux gives to whoever asks for any port: one of those may be given away in between."""


def free_port() -> int:
    """Return a port on which nothing listens."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different ports on which nothing listens."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = SystemRandom().choice(_RANGE)  # seeded workers would all choose the same one
            try:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports

"""What the processes of a crash run share: a tick and an end in memory, and a pipe to the parent."""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

_TICK, _OVER = slice(0, 8), slice(8, 16)
_MESSAGE_BYTES = 4_000
"""Below PIPE_BUF, so that a message of a process that is killed is there whole or not at all."""


class Board:
    """The shared tick, the end of the run, and the messages; made before the processes are forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)
        self._messages, self._mouth = os.pipe()
        os.set_blocking(self._messages, False)
        self._partial = b""

    @property
    def tick(self) -> int:
        """The source's present."""
        return int(struct.unpack("q", self._memory[_TICK])[0])

    @tick.setter
    def tick(self, tick: int) -> None:
        self._memory[_TICK] = struct.pack("q", tick)

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return any(self._memory[_OVER])

    def end(self) -> None:
        """Ask everyone to come to an end."""
        self._memory[_OVER] = struct.pack("q", 1)

    def say(self, **message: Any) -> None:
        """Send a message to the parent; blocks while the pipe is full."""
        text = json.dumps(message)
        if len(text) > _MESSAGE_BYTES:
            text = json.dumps({key: str(value)[-1_000:] for key, value in message.items()})
        os.write(self._mouth, text.encode() + b"\n")

    def heard(self) -> Iterator[dict[str, Any]]:
        """Yield what was said since the last time; waits for nothing."""
        while True:
            try:
                data = os.read(self._messages, 65_536)
            except BlockingIOError:
                return
            *whole, self._partial = (self._partial + data).split(b"\n")
            yield from map(json.loads, whole)

"""Buffer what a server has sent and the reader has not read, in memory and then on disk, up to a limit."""

# ksqlDB disconnects a reader that pauses for three seconds, so a separate thread receives.

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from typing import IO, Protocol

from ksql_lake.errors import KsqlLakeError, SpoolFullError
from ksql_lake.ksqldb.wire.chunks import Piece

MEMORY = 16 * 1024 * 1024
"""Bytes that wait in memory before the disk is used."""
_FROM_DISK = 1024 * 1024
"""Bytes read from disk at once."""
_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of one file on disk; each file is removed once it has been read."""
_JOIN_SECONDS = 5.0


class ByteSource(Protocol):
    """The source of the bytes."""

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return some bytes as soon as there are any; none mean that the body has ended regularly."""
        ...


class _Disk:
    """Bytes that wait on disk, in files without a name.

    Attributes:
        waiting: How many bytes wait.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._files: deque[IO[bytes]] = deque()
        self._written = self._taken = 0

    def put(self, piece: Piece) -> None:
        if not self._files or self._written >= _FILE_BYTES:
            self._files.append(tempfile.TemporaryFile(prefix="ksql-lake-"))  # noqa: SIM115 - closed by `close`
            self._written = 0
        self._files[-1].seek(self._written)
        self._files[-1].write(piece)
        self._files[-1].flush()  # a full disk is an error here, and not of a later `take`
        self._written += len(piece)
        self.waiting += len(piece)

    def take(self, most: int) -> bytes:
        file = self._files[0]
        file.seek(self._taken)
        data = file.read(most)
        self._taken += len(data)
        self.waiting -= len(data)
        if len(data) < most or not self.waiting:
            self._files.popleft().close()
            self._taken = 0
        return data

    def close(self) -> None:
        while self._files:
            # On a full disk the last write fails again; its bytes are no longer needed.
            with suppress(OSError):
                self._files.pop().close()


class Backlog:
    """Receives a body's bytes as fast as they come, and returns them on request.

    Args:
        source: Where the bytes come from; read by this object's thread only.
        limit: Bytes that may wait on disk.
        memory: Bytes that may wait in memory.
    """

    def __init__(self, source: ByteSource, *, limit: int, memory: int = MEMORY) -> None:
        self._source = source
        self._limit = limit
        self._memory = memory
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._waiting = 0
        self._disk = _Disk()
        self._ended = self._unwanted = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._receive, name="ksql-lake-backlog", daemon=True)
        self._thread.start()

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return received bytes; wait for `wanted` bytes until a moment (`time.monotonic`).

        Raises:
            SpoolFullError: More waited on disk than is allowed, or the disk is full.
            Exception: The error of the receiving thread, after all bytes received before it.
        """
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            while self._waiting < wanted and not self._ended and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if isinstance(self._error, SpoolFullError):
                raise self._error
            found = self._take(max(wanted, _FROM_DISK))
            if not found and self._error is not None:
                raise self._error
            return found

    def close(self) -> None:
        """Stop receiving, after the connection was shut, and free the disk space."""
        self._unwanted = True
        self._thread.join(_JOIN_SECONDS)
        with self._changed:
            self._ended = True
            self._disk.close()
            self._changed.notify_all()

    def _take(self, most: int) -> list[Piece]:
        found: list[Piece] = []
        size = 0
        while self._pieces and size < most:
            piece = self._pieces.popleft()
            found.append(piece)
            size += len(piece)
        while not self._pieces and self._disk.waiting and size < most:
            if data := self._disk.take(most - size):
                found.append(data)
                size += len(data)
        self._waiting -= size
        return found

    def _receive(self) -> None:
        error: BaseException | None = None
        try:
            while not self._unwanted and (pieces := self._source.read()):
                self._put(pieces)
        except BaseException as failure:  # noqa: BLE001 - raised again by the reader, in its place
            error = failure
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, pieces: list[Piece]) -> None:
        with self._changed:
            for piece in pieces:
                if self._disk.waiting or self._waiting + len(piece) > self._memory:
                    self._spill(piece)
                else:
                    self._pieces.append(piece)
                self._waiting += len(piece)
            self._changed.notify_all()

    def _spill(self, piece: Piece) -> None:
        if self._disk.waiting + len(piece) > self._limit:
            raise self._full(f"more than {self._limit / 1e6:,.0f} MB of the answer wait on disk")
        try:
            self._disk.put(piece)
        except OSError as error:
            raise self._full(f"the answer cannot wait on disk: {error.strerror or error}") from error

    def _full(self, what: str) -> KsqlLakeError:
        return SpoolFullError(
            f"{what}: the server sends faster than this machine can take",
            hint="Nothing was kept. KSQLDB_SPOOL_MB sets how much may wait, TMPDIR where; fewer "
            "`columns` in the "
            "feed file make it less. ksqlDB cuts off a reader that pauses, so it cannot be made to wait.",
        )

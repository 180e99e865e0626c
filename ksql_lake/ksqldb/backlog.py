"""What a server has sent and nobody has read yet: in memory while it is little, then on disk, up to a limit.

ksqlDB cuts off whoever does not read for three seconds from a table pull or a push query, so a thread of its
own receives, however long the reader takes.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from typing import IO, Protocol

from ksql_lake.errors import KsqlLakeError, SpoolFullError
from ksql_lake.ksqldb.chunks import Piece

MEMORY = 16 * 1024 * 1024
"""Bytes that wait in memory before the disk is used."""
_FROM_DISK = 1024 * 1024
"""Bytes read from disk at once."""
_JOIN_SECONDS = 5.0


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return some bytes as soon as there are any; none mean that the body has properly ended."""
        ...


class Backlog:
    """Receives a body's bytes as fast as they come and hands them out as they are asked for.

    Args:
        source: Where they come from; read by this object's thread only.
        limit: Bytes that may wait on disk.
        memory: Bytes that may wait in memory.
    """

    def __init__(self, source: Source, *, limit: int, memory: int = MEMORY) -> None:
        self._source = source
        self._limit = limit
        self._memory = memory
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._waiting = 0
        self._file: IO[bytes] | None = None
        self._written = self._taken = 0
        self._ended = self._unwanted = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._receive, name="ksql-lake-backlog", daemon=True)
        self._thread.start()

    def read(self, wanted: int = 1, *, until: float = 0.0) -> list[Piece]:
        """Return what has been received, waiting for `wanted` bytes until a moment (`time.monotonic`).

        Raises:
            SpoolFullError: More waited on disk than is allowed, or the disk is full.
            Exception: What receiving raised, after everything that came before it.
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
        """Stop receiving, after the connection was shut; let go of the disk space."""
        self._unwanted = True
        self._thread.join(_JOIN_SECONDS)
        with self._changed:
            self._ended = True
            if self._file is not None:
                self._file.close()
                self._file = None
            self._changed.notify_all()

    def _take(self, most: int) -> list[Piece]:
        found: list[Piece] = []
        size = 0
        while self._pieces and size < most:
            piece = self._pieces.popleft()
            found.append(piece)
            size += len(piece)
        if not self._pieces and self._file is not None and size < most and self._taken < self._written:
            self._file.seek(self._taken)
            data = self._file.read(min(most, self._written - self._taken))
            self._taken += len(data)
            found.append(data)
            size += len(data)
            if self._taken == self._written:
                self._taken = self._written = 0
                self._file.seek(0)
                self._file.truncate()
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
                on_disk = self._written - self._taken
                if on_disk or self._waiting + len(piece) > self._memory:
                    self._spill(piece)
                else:
                    self._pieces.append(piece)
                self._waiting += len(piece)
            self._changed.notify_all()

    def _spill(self, piece: Piece) -> None:
        if self._written + len(piece) > self._limit:
            raise self._full(f"more than {self._limit / 1e6:,.0f} MB of the answer wait on disk")
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="ksql-lake-")  # noqa: SIM115 - closed by `close`
            self._file.seek(self._written)
            self._file.write(piece)
        except OSError as error:
            raise self._full(f"the answer cannot wait on disk: {error.strerror or error}") from error
        self._written += len(piece)

    def _full(self, what: str) -> KsqlLakeError:
        return SpoolFullError(
            f"{what}: the server sends faster than this machine can take",
            hint="Nothing was kept. KSQLDB_SPOOL_MB sets how much may wait, TMPDIR where; fewer "
            "`columns` in the "
            "feed file make it less. ksqlDB cuts off a reader that pauses, so it cannot be made to wait.",
        )

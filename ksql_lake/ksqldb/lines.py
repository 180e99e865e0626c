"""Bytes into lines, whatever the sizes they arrive in.

Splits on byte 0x0A only: JSON escapes every newline inside a string, and other line ends mean nothing here. It
keeps the unfinished line and nothing else, and refuses a line that outgrows its limit.
"""

from __future__ import annotations

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb.chunks import Piece

MAX_LINE = 64_000_000
"""How long one line may grow, in bytes, before it is taken for something other than a row."""


class LineSplitter:
    """Collects chunks and gives back whole lines.

    Args:
        max_line: Longest line in bytes.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, *chunks: Piece, row: int) -> Piece | None:
        """Take chunks; return every line they complete, without the last newline, or None if there is none.

        Lines that came in one chunk are not copied.

        Raises:
            ProtocolError: A line is longer than the limit; names row `row` + 1 as the first it may be.
        """
        last = chunks[-1]
        end = _last_newline(last)
        if end < 0 and len(chunks) > 1:
            return self.feed(b"".join(chunks), row=row)
        if end < 0:
            self._parts.append(bytes(last))
            self._size += len(last)
            self._check(self._size, row)
            return None
        lines: Piece = memoryview(last)[:end]
        if self._parts or len(chunks) > 1:
            lines = b"".join((*self._parts, *chunks[:-1], lines))
        rest = bytes(last[end + 1 :])
        self._parts, self._size = [rest] if rest else [], len(rest)
        # No line of a block can be too long while the whole block is not.
        if len(lines) > self._max_line:
            self._check(max(map(len, bytes(lines).split(b"\n"))), row)
        self._check(self._size, row)
        return lines

    def rest(self) -> bytes:
        """The line that no newline has ended; taken out."""
        line = b"".join(self._parts)
        self._parts, self._size = [], 0
        return line

    def _check(self, size: int, row: int) -> None:
        if size > self._max_line:
            raise ProtocolError(
                f"a line of the response is longer than {self._max_line:,} bytes",
                hint="If the source has rows that large, raise KSQLDB_MAX_ROW_MB; or is this no ksqlDB?",
                row=row + 1,
            )


def _last_newline(chunk: Piece) -> int:
    if chunk[-1:] == b"\n":
        return len(chunk) - 1
    return bytes(chunk).rfind(b"\n")

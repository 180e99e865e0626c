"""Parse v1 responses (`application/vnd.ksql.v1+json`) from bytes to events, at the speed of a byte search."""

# The body is not one JSON document (some writers end it with a comma, some never close it), so it is read
# line by line. A line is a row, a known message or an error.

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb.version import ServerVersion
from ksql_lake.ksqldb.wire.answer_events import (
    AnswerEnd,
    Event,
    FinalMessage,
    Outcome,
    QueryKind,
    RowBlock,
    Token,
    Tombstone,
    judge_rows,
)
from ksql_lake.ksqldb.wire.chunks import Piece
from ksql_lake.ksqldb.wire.messages import UNREADABLE, V1_LINE, ErrorBody, HeaderBody, RowBody, V1Line, foreign

MAX_LINE = 64_000_000
"""The most bytes of a line; a longer one is no row."""

_START = b'{"row":{"columns":['
_END = b"]}},"
_BOUNDARY = _END + b"\n" + _START
_WORDS = np.frombuffer(_BOUNDARY, "<u8")
_PRINTABLE = ord(" ")
_UNKNOWN_KIND = "a line of the response is of no known kind"


class LineSplitter:
    """Collects chunks and returns whole lines.

    Args:
        max_line: Longest line in bytes.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, *chunks: Piece, row: int) -> Piece | None:
        """Add chunks; return every line that they complete, without the last newline, or None if there is none.

        Lines that came in one chunk are not copied.

        Raises:
            ProtocolError: A line is longer than the limit; names row `row` + 1, the first that it can be.
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
        # If the whole block is short enough, so is each of its lines.
        if len(lines) > self._max_line:
            self._check(max(map(len, bytes(lines).split(b"\n"))), row)
        self._check(self._size, row)
        return lines

    def rest(self) -> bytes:
        """Return and remove the last line, which has no newline."""
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


class Gathering:
    """The events that one call of a parser has found so far.

    Attributes:
        rows: How many rows the response has had so far, tombstones included.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._run: list[bytes] = []
        self._events: list[Event] = []

    def row(self, data: bytes) -> None:
        """Add one row; it joins the rows just before it."""
        self._run.append(data)
        self.rows += 1

    def block(self, data: Piece, count: int, *, breaks: npt.NDArray[np.int64] | None = None) -> None:
        """Add many rows at once, commas between them."""
        self._flush()
        self._events.append(RowBlock(data, count, self.rows, breaks))
        self.rows += count

    def tombstone(self, data: bytes) -> None:
        """Add a deleted key."""
        self.event(Tombstone(data, self.rows))
        self.rows += 1

    def event(self, event: Event) -> None:
        """Add anything that is not a row."""
        self._flush()
        self._events.append(event)

    def take(self) -> list[Event]:
        """Return everything added since the last call."""
        self._flush()
        events, self._events = self._events, []
        return events

    def _flush(self) -> None:
        if self._run:
            count = len(self._run)
            self._events.append(RowBlock(b",\n".join(self._run), count, self.rows - count))
            self._run = []


class RowsParser:
    """Reads one v1 response: `feed` every chunk, `finish`, then ask for the `outcome`.

    Args:
        kind: The kind of query.
        max_line: Longest line in bytes.
    """

    def __init__(self, kind: QueryKind, *, max_line: int = MAX_LINE) -> None:
        self._kind = kind
        self._lines = LineSplitter(max_line)
        self._seen = AnswerEnd()
        self._opened = False
        self._found = Gathering()
        self._refused: ProtocolError | None = None

    @property
    def rows(self) -> int:
        """How many rows have been parsed so far, tombstones included."""
        return self._found.rows

    @property
    def over(self) -> bool:
        """Whether the server has reported the end of the query, for any reason."""
        return self._seen.bracket or self._seen.error or self._seen.final is not None

    def feed(self, *chunks: Piece) -> list[Event]:
        """Add the next bytes of the body, in one or more pieces, and return the events that they complete.

        Raises:
            ProtocolError: The bytes are not a v1 response; names the row. Earlier events were returned before.
        """
        if self._refused is None:
            try:
                lines = self._lines.feed(*chunks, row=self.rows)
                if lines is not None:
                    self._take(lines)
            except ProtocolError as error:
                self._refused = error
        events = self._found.take()
        if self._refused is not None and not events:
            raise self._refused
        return events

    def finish(self) -> list[Event]:
        """Mark the end of the body, and return the events of its last line.

        A last line that was cut yields no event, and the response is then incomplete.

        Raises:
            ProtocolError: The bytes are not a v1 response; names the row.
        """
        if self._refused is not None:
            raise self._refused
        self._line(self._lines.rest(), last=True)
        return self._found.take()

    def outcome(self, *, clean: bool = True, version: ServerVersion | None = None) -> Outcome:
        """Return how the response ended.

        Args:
            clean: Whether the HTTP body ended regularly.
            version: The server's version; None applies the newest and strictest rules.
        """
        return judge_rows(self._kind, self._seen, clean=clean, version=version)

    def _take(self, lines: Piece) -> None:
        while not self._seen.header:
            line, newline, lines = bytes(lines).partition(b"\n")
            self._line(line)
            if not newline:
                return
        breaks = _plain_breaks(lines)
        if breaks is not None and self._flowing:
            self._found.block(memoryview(lines)[:-1], len(breaks) + 1, breaks=breaks)
            return
        for line in bytes(lines).split(b"\n"):
            if line.startswith(_START) and line.endswith(_END) and self._flowing:
                self._found.row(line[:-1])
            else:
                self._line(line)

    def _line(self, line: bytes, *, last: bool = False) -> None:
        text = line.strip()
        if not text:
            return
        if not self._opened:
            if not text.startswith(b"["):
                foreign(text, row=self.rows, why="the response does not begin as a ksqlDB query response")
            text = text[1:]
            self._opened = True
        if self._seen.bracket:
            foreign(text, row=self.rows, why="the response goes on after its end")
        # An object cut in the middle may end in "]" too; it then fails to decode and does not count as the end.
        closing = text.endswith(b"]")
        text = text.removesuffix(b"]").rstrip().removesuffix(b",").rstrip()
        if text:
            try:
                message = V1_LINE.decode(text)
            except UNREADABLE:
                if not last:
                    foreign(text, row=self.rows, why="a line of the response is not a ksqlDB row or message")
                self._seen.cut = True
                return
            self._message(message, text)
        self._seen.bracket = closing

    def _message(self, line: V1Line, text: bytes) -> None:
        if sum(part is not None for part in msgspec.structs.astuple(line)) != 1:
            foreign(text, row=self.rows, why=_UNKNOWN_KIND)
        match line:
            case V1Line(row=RowBody() as row):
                self._row(row, text)
            case V1Line(error=ErrorBody() as error):
                self._found.event(error.event())
                self._seen.error = True
            case V1Line(final=str(final)):
                self._found.event(FinalMessage(final))
                self._seen.final = final
            case V1Line(header=HeaderBody() as header) if not self._seen.header:
                self._found.event(header.event())
                self._seen.header = True
            case V1Line(continuation={"continuationToken": value}):
                self._found.event(Token("continuation", value))
            case V1Line(consistency={"consistencyToken": value}):
                self._found.event(Token("consistency", value))
            case _:
                foreign(text, row=self.rows, why=_UNKNOWN_KIND)

    def _row(self, row: RowBody, text: bytes) -> None:
        if not self._seen.header:
            # ksqlDB before 0.6 sent no header; its rows cannot be typed.
            foreign(text, row=self.rows, why="the response has a row before its header")
        if not self._flowing:
            foreign(text, row=self.rows, why="the response has a row after its final message")
        if not bytes(row.columns).startswith(b"["):
            foreign(text, row=self.rows, why="a row of the response has no list of columns")
        # The row is rewritten without keys beside the values (`sourceHost`); the values stay as sent.
        plain = b"".join((_START[:-1], row.columns, _END[1:-1]))
        if row.tombstone:
            self._found.tombstone(plain)
        else:
            self._found.row(plain)

    @property
    def _flowing(self) -> bool:
        return self._seen.final is None and not self._seen.bracket


def _plain_breaks(lines: Piece) -> npt.NDArray[np.int64] | None:
    """Find the newlines in a block that holds plain rows and nothing else; None for any other block."""
    if lines[: len(_START)] != _START or lines[-len(_END) :] != _END:
        return None
    text = np.frombuffer(lines, np.uint8)
    breaks = np.flatnonzero(text < _PRINTABLE)
    if not len(breaks):
        return breaks
    before = breaks - len(_END)
    if before[0] < 0 or before[-1] + len(_BOUNDARY) > len(lines):
        return None
    # From the end of one row to the beginning of the next.
    size = len(_BOUNDARY)
    found = np.ndarray((len(lines) - size + 1,), f"S{size}", lines, strides=(1,))[before]
    return breaks if (found.view("<u8").reshape(-1, size // 8) == _WORDS).all() else None

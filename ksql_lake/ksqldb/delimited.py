"""Delimited responses (`application/vnd.ksqlapi.delimited.v1`): one JSON value per line.

The form has no terminator: whether the answer is whole cannot be told from its bytes, and `outcome` says
UNKNOWN instead of guessing. Holds the unfinished line and no more.
"""

from __future__ import annotations

from ksql_lake.ksqldb.completeness import Evidence, judge_delimited
from ksql_lake.ksqldb.events import ErrorMessage, Event, Outcome, QueryKind
from ksql_lake.ksqldb.gathering import Gathering
from ksql_lake.ksqldb.lines import MAX_LINE, LineSplitter
from ksql_lake.ksqldb.messages import ARRAY, ASIDE, METADATA, UNREADABLE, foreign

_BOUNDARY = b"]\n["


class DelimitedParser:
    """Reads one delimited response: `feed` every chunk, `finish`, then ask for the `outcome`.

    Args:
        kind: What was asked.
        max_line: Longest line in bytes.
    """

    def __init__(self, kind: QueryKind, *, max_line: int = MAX_LINE) -> None:
        self._kind = kind
        self._lines = LineSplitter(max_line)
        self._seen = Evidence()
        self._found = Gathering()

    @property
    def rows(self) -> int:
        """How many rows have been seen so far."""
        return self._found.rows

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the body and return what they complete.

        Raises:
            ProtocolError: The bytes are not a delimited response; names the row.
        """
        lines = self._lines.feed(chunk, row=self.rows)
        if lines is not None:
            self._take(bytes(lines))
        return self._found.take()

    def finish(self) -> list[Event]:
        """Say that the body has ended; every whole line ends with a newline, so any rest was cut."""
        self._seen.cut = bool(self._lines.rest().strip())
        return self._found.take()

    def outcome(self) -> Outcome:
        """Decide how the response ended, as far as its bytes can tell."""
        return judge_delimited(self._kind, self._seen)

    def _take(self, lines: bytes) -> None:
        plain = lines.startswith(b"[") and lines.endswith(b"]") and self._seen.header
        if plain and lines.count(_BOUNDARY) == lines.count(b"\n"):
            self._found.block(lines.replace(b"\n", b",\n"), lines.count(b"\n") + 1)
            return
        for line in lines.split(b"\n"):
            self._line(line.strip())

    def _line(self, text: bytes) -> None:
        if not text:
            return
        try:
            if not self._seen.header:
                self._found.event(METADATA.decode(text).event())
                self._seen.header = True
            elif text.startswith(b"["):
                ARRAY.decode(text)
                self._found.row(text)
            else:
                self._aside(text)
        except UNREADABLE:
            foreign(text, row=self.rows, why="a line of the response is not a ksqlDB row or message")

    def _aside(self, text: bytes) -> None:
        event = ASIDE.decode(text).event()
        if event is None:
            foreign(text, row=self.rows, why="a line of the response is of no known kind")
        self._found.event(event)
        self._seen.error |= isinstance(event, ErrorMessage)

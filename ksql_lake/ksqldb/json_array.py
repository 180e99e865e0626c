"""JSON array responses (`application/json` on /query-stream): one array, no newlines, no final message.

Elements are found by counting brackets outside strings, so that only the unfinished one is held. This form is
here because a ksqlDB client may meet it; exports read v1, which is faster and proves more.
"""

from __future__ import annotations

import re
from typing import Never

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb.completeness import Evidence, judge_array
from ksql_lake.ksqldb.events import ErrorMessage, Event, Outcome, QueryKind
from ksql_lake.ksqldb.gathering import Gathering
from ksql_lake.ksqldb.lines import MAX_LINE
from ksql_lake.ksqldb.messages import ARRAY, ASIDE, METADATA, UNREADABLE, foreign

_OUTSIDE_STRING = re.compile(rb'["\[\]{}]')
_STRUCTURE = {(0, b"["), (1, b"["), (1, b"{"), (1, b"]")}
"""Which brackets may stand where: around the array (depth 0), and between its elements (depth 1)."""
_INSIDE_STRING = re.compile(rb'["\\]')


class ElementSplitter:
    """Cuts the elements out of one JSON array of arrays and objects that arrives in pieces.

    Args:
        max_element: Longest element in bytes.

    Attributes:
        ended: Whether the array's closing bracket has come.
    """

    def __init__(self, max_element: int = MAX_LINE) -> None:
        self.ended = False
        self._max = max_element
        self._held = bytearray()
        self._at = 0
        self._depth = 0
        self._in_string = False

    @property
    def unfinished(self) -> bool:
        """Whether an element has begun and not ended."""
        return self._depth > 1

    def feed(self, chunk: bytes, *, row: int) -> list[bytes]:
        """Take a chunk and return the elements it completes.

        Raises:
            ProtocolError: The bytes are no such array, or an element is longer than the limit.
        """
        self._held += chunk
        elements: list[bytes] = []
        start = 0
        while (at := self._next_bracket()) >= 0:
            mark = bytes(self._held[at : at + 1])
            if self._depth < 2:
                self._check_between(start, at, row=row)
                if (self._depth, mark) not in _STRUCTURE or self.ended:
                    self._refuse(start, row=row)
                self.ended = mark == b"]"
                start = at + (self._depth == 0 or self.ended)
            self._depth += 1 if mark in (b"[", b"{") else -1
            if self._depth == 1 and mark in (b"]", b"}"):
                elements.append(bytes(self._held[start : at + 1]))
                start = at + 1
        if self._depth < 2:
            self._check_between(start, len(self._held), row=row)
        del self._held[:start]
        self._at -= start
        if max((len(self._held), *map(len, elements))) > self._max:
            raise ProtocolError(f"an element of the response is longer than {self._max:,} bytes", row=row + 1)
        return elements

    def _next_bracket(self) -> int:
        """Move behind the next bracket outside strings and return its position; -1 if none has come yet."""
        while True:
            match = (_INSIDE_STRING if self._in_string else _OUTSIDE_STRING).search(self._held, self._at)
            if match is None:
                self._at = len(self._held)
                return -1
            mark = match.group()
            if mark == b"\\":
                if match.end() == len(self._held):
                    self._at = match.start()
                    return -1
                self._at = match.end() + 1
                continue
            self._at = match.end()
            if mark != b'"':
                return match.start()
            self._in_string = not self._in_string

    def _check_between(self, start: int, end: int, *, row: int) -> None:
        # Scalars, or text around the array, would otherwise be skipped in silence.
        between = self._held[start:end].strip()
        if between and (self._depth == 0 or between != b","):
            self._refuse(start, row=row)

    def _refuse(self, start: int, *, row: int) -> Never:
        foreign(bytes(self._held[start:]), row=row, why="the response is not one array of rows and messages")


class JsonArrayParser:
    """Reads one JSON array response: `feed` every chunk, `finish`, then ask for the `outcome`.

    Args:
        kind: What was asked.
        max_element: Longest element in bytes.
    """

    def __init__(self, kind: QueryKind, *, max_element: int = MAX_LINE) -> None:
        self._kind = kind
        self._elements = ElementSplitter(max_element)
        self._seen = Evidence()
        self._found = Gathering()

    @property
    def rows(self) -> int:
        """How many rows have been seen so far."""
        return self._found.rows

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the body and return what they complete.

        Raises:
            ProtocolError: The bytes are not a JSON array response; names the row.
        """
        for element in self._elements.feed(chunk, row=self.rows):
            try:
                self._element(element)
            except UNREADABLE:
                foreign(element, row=self.rows, why="an element of the response is not a ksqlDB row or message")
        self._seen.bracket = self._elements.ended
        return self._found.take()

    def finish(self) -> list[Event]:
        """Say that the body has ended."""
        self._seen.cut = self._elements.unfinished
        return self._found.take()

    def outcome(self, *, clean: bool = True) -> Outcome:
        """Decide how the response ended; `clean` says whether the HTTP body came to its proper end."""
        return judge_array(self._kind, self._seen, clean=clean)

    def _element(self, text: bytes) -> None:
        if not self._seen.header and b'"columnNames"' in text:
            self._found.event(METADATA.decode(text).event())
            self._seen.header = True
        elif text.startswith(b"[") and self._seen.header:
            ARRAY.decode(text)
            self._found.row(text)
        else:
            event = ASIDE.decode(text).event()
            if event is None:
                foreign(text, row=self.rows, why="an element of the response is of no known kind")
            self._found.event(event)
            self._seen.error |= isinstance(event, ErrorMessage)

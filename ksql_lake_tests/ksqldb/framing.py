"""Framing cases: response bodies as ksqlDB's writers produce them, and what each must be read as."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ksql_lake.ksqldb.version import parse_version
from ksql_lake.ksqldb.wire.answer_events import Event, Outcome, QueryKind, RowBlock, Tombstone
from ksql_lake.ksqldb.wire.row_parser import RowsParser

_FILE = Path(__file__).parent.parent / "data" / "ksqldb-framing-cases.jsonl"
_SILENT_VERSION = "0.24.0"


@dataclass(frozen=True)
class Case:
    """One body and what it means."""

    name: str
    kind: QueryKind
    body: bytes
    outcome: Outcome
    rows: int

    @property
    def version(self) -> str:
        """The version of a server that would send this."""
        return _SILENT_VERSION if "0.24" in self.name else "0.29.0"


@dataclass(frozen=True)
class Reading:
    """What a parser made of a body: events with rows one by one, so that block sizes do not matter."""

    events: tuple[object, ...]
    rows: int
    outcome: Outcome


def framing_cases() -> list[Case]:
    """Every case of the file in the form that is read: v1 rows."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return [
        Case(
            name=raw["name"],
            kind=QueryKind(raw["query_kind"]),
            body=raw["body"].encode(),
            outcome=Outcome(raw["outcome"]),
            rows=raw["rows"],
        )
        for raw in map(json.loads, lines)
        if raw["endpoint"] == "/query"
    ]


def read(chunks: Iterable[bytes], *, kind: QueryKind, version: str = "0.29.0") -> Reading:
    """Feed the chunks to the parser."""
    parser = RowsParser(kind)
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    return Reading(tuple(row_by_row(events)), parser.rows, parser.outcome(version=parse_version(version)))


def row_by_row(events: Iterable[Event]) -> Iterable[object]:
    """Take blocks apart into `(number, values)`; all other events stay as they are."""
    for event in events:
        if isinstance(event, RowBlock):
            rows = json.loads(b"[" + event.data + b"]")
            assert len(rows) == event.count
            yield from enumerate(rows, event.first_row)
        elif isinstance(event, Tombstone):
            yield event.row, json.loads(event.data), "tombstone"
        else:
            yield event


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a body at the given positions."""
    edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]

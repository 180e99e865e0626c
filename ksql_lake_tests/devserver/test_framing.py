"""How answers are framed, against bodies built from the real writers' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ksql_lake.devserver.framing import Framing, Parts, Writer, framing
from ksql_lake.devserver.sql.query_plan import QueryKind
from ksql_lake.schema import parse_schema

_FILE = Path(__file__).parent.parent / "data" / "ksqldb-framing-cases.jsonl"
BODIES = {case["name"]: case["body"] for case in map(json.loads, _FILE.read_text("utf-8").splitlines())}
BOOM = {"@type": "generic_error", "error_code": 50000, "message": "java.lang.RuntimeException: boom"}

Ending = Callable[[Framing], Parts]


def _row(values: str) -> Ending:
    return lambda frame: (frame.before_row + values + frame.after_row, frame.gap)


def _tombstone(values: str) -> Ending:
    return lambda frame: (frame.before_row + values + (frame.after_tombstone or "cannot be said"), frame.gap)


def _final(message: str) -> Ending:
    return lambda frame: frame.final(message, limit=message == "Limit Reached")


A, B = _row('"a",1'), _row('"b",2')


def _end(frame: Framing) -> Parts:
    return frame.end


def _error(frame: Framing) -> Parts:
    return frame.error(BOOM)


def _idle(frame: Framing) -> Parts:
    return (frame.keepalive,)


def _nothing(_frame: Framing) -> Parts:
    return ()


CASES: list[tuple[str, Writer, QueryKind, tuple[Ending, ...]]] = [
    ("table pull", "v1", "pull_table", (A, B, _end)),
    ("table pull empty", "v1", "pull_table", (_end,)),
    ("table pull error after rows", "v1", "pull_table", (A, _error)),
    ("table pull cut before bracket", "v1", "pull_table", (A, _nothing)),
    ("stream pull", "v1", "pull_stream", (A, B, _final("Query Completed"))),
    ("stream pull 0.24 no final", "v1", "pull_stream", (A, _end)),
    ("push limit", "v1", "push", (A, B, _final("Limit Reached"))),
    ("push closed by server", "v1", "push", (A, _final("Query Completed"))),
    ("push error trailing comma", "v1", "push", (A, _error)),
    ("push table tombstone", "v1", "push", (A, _tombstone('"a",null'), _final("Limit Reached"))),
    ("legacy push keepalive", "legacy", "push", (_idle, _idle, A, _idle, _final("Limit Reached"))),
    ("legacy push error", "legacy", "push", (A, _error)),
    ("legacy push stopped", "legacy", "push", (A, _end)),
    ("legacy table pull error", "legacy", "pull_table", (A, _error)),
    ("legacy table pull", "legacy", "pull_table", (A, B, _end)),
    ("delimited", "delimited", "pull_stream", (A, B, _end)),
    ("delimited error", "delimited", "push", (A, _error)),
    ("json array", "json_array", "pull_table", (A, B, _end)),
    ("json array error", "json_array", "pull_table", (A, _error)),
]


@pytest.mark.parametrize(("name", "writer", "kind", "parts"), CASES, ids=[case[0] for case in CASES])
def test_answers_are_framed_as_the_real_writers_frame_them(
    name: str, writer: Writer, kind: QueryKind, parts: tuple[Ending, ...]
) -> None:
    """Head, rows and end together are byte for byte what a real server sends."""
    schema = parse_schema("`K` STRING KEY, `V` INTEGER" if kind == "pull_table" else "`K` STRING, `V` INTEGER")
    query_id = "transient_S_1" if kind != "pull_table" or writer == "json_array" else "query_1700000000000"

    frame = framing(writer, kind, query_id, schema)

    texts = [frame.head, *(part(frame) for part in parts)]
    assert "".join(text for chunks in texts for text in chunks) == BODIES[name]


def test_every_case_this_server_can_produce_is_checked() -> None:
    """Only tokens, debug hosts, HEADER marks and value renderings are left to other tests."""
    elsewhere = {
        "table pull debug sourceHost",
        "push continuation token",
        "delimited token",
        "header order differs from row",
        "value renderings",
    }

    assert set(BODIES) == elsewhere | {name for name, *_ in CASES}


@pytest.mark.parametrize("writer", ["delimited", "json_array"])
def test_only_v1_rows_can_say_that_a_key_was_deleted(writer: Writer) -> None:
    """The other forms have no text for a tombstone, so it must be left out."""
    assert framing(writer, "push", "q", parse_schema("`K` STRING")).after_tombstone is None

"""A source that is gone is distinguished from a server that shuts down."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest

from ksql_lake.errors import ServerUnavailableError, StatementError
from ksql_lake.export import Days, export_feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.lake.landing import stream_feed

GONE = b'{"@type":"generic_error","error_code":50000,"message":"Internal Server Error"}'
"""What a real 8.0.7 answers, with status 503, to a pull query of a stream whose topic was deleted."""


@pytest.mark.parametrize(
    ("topics", "error", "text"),
    [
        (["other"], StatementError, "the topic events of EVENTS does not exist any more"),
        (["events", "other"], ServerUnavailableError, "Internal Server Error"),
        (None, ServerUnavailableError, "Internal Server Error"),
    ],
)
def test_a_deleted_topic_is_named(
    tmp_path: Path, topics: list[str] | None, error: type[Exception], text: str
) -> None:
    """The same 503 means a deleted topic only where the server does not list the topic."""
    column = {"name": "ID", "schema": {"type": "BIGINT", "fields": None, "memberSchema": None}}
    source = {"name": "EVENTS", "type": "STREAM", "fields": [column], "topic": "events", "partitions": 1}
    listed = answer(b'{"message":"no"}', 400)
    if topics is not None:
        listed = answer(
            msgspec.json.encode([{"@type": "kafka_topics", "topics": [{"name": name} for name in topics]}])
        )
    with ScriptedServer() as server:
        server.script("/info", answer(b'{"KsqlServerInfo":{"version":"8.0.7"}}'))
        server.script("/ksql", answer(msgspec.json.encode([{"sourceDescription": source}])), listed)
        server.script("/query", answer(GONE, 503))
        day = date(2025, 1, 15)
        with (
            KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client,
            pytest.raises(error, match=text),
        ):
            export_feed(stream_feed(), client, Lake(tmp_path), days=Days(day, day))

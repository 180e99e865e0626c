"""What the command line reports to programs that watch it: JSON lines and OpenTelemetry spans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ksql_lake.devserver.process import DevServer

ROWS = 300


class Collector:
    """A real OTLP collector on a port of its own that remembers the spans it was sent."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take one batch."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {each.key: each.value.string_value for each in resource.resource.attributes}
                    collector.services.add(names["service.name"])
                    for scope in resource.scope_spans:
                        collector.spans.update({span.name: span for span in scope.spans})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def attributes(self, name: str) -> dict[str, object]:
        """What a span says of itself."""
        found = {}
        for each in self.spans[name].attributes:
            kind = each.value.WhichOneof("value")
            found[each.key] = getattr(each.value, kind)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that ends with the test."""
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    """A feeds folder with one stream."""
    active = tmp_path / "feeds" / "active"
    active.mkdir(parents=True)
    feed = {
        "name": "transactions",
        "kind": "stream",
        "source": "TRANSACTION_STREAM",
        "start_date": "2025-01-06",
    }
    (active / "transactions.json").write_text(json.dumps(feed))
    return tmp_path


def _export(folder: Path, server: DevServer, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "ksql-lake", "export", "--all", "--json"],
        cwd=folder,
        env={**os.environ, "KSQLDB_URL": server.url, **environment},  # noqa: TID251 - handed on, not read
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_line_of_the_log_is_json_and_says_what_it_is_about(feeds: Path) -> None:
    """With KSQL_LAKE_LOG=json a retried export logs attempt, feed, run, query, bytes and rows in JSON only."""
    cut = ["--sample-rows", str(ROWS), "--fault", "cut_row:after_rows=100,times=1"]
    with DevServer.start(sample=True, arguments=cut) as server:
        done = _export(feeds, server, KSQL_LAKE_LOG="json")

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (landed,) = [line for line in lines if line["message"] == "export landed"]
    (result,) = json.loads(done.stdout)["exports"]

    assert done.returncode == 0
    assert landed["feed"] == "transactions"
    assert {key: landed[key] for key in ("query_id", "read", "new", "bytes_read", "commit", "attempts")} == {
        key: result[key] for key in ("query_id", "read", "new", "bytes_read", "commit", "attempts")
    }
    assert landed["attempts"] == 2
    assert len({line["run"] for line in lines}) == 1
    (retried,) = [line for line in lines if line["level"] == "warning"]
    assert retried["feed"] == "transactions"
    assert "attempt 2 follows" in retried["message"]


def test_errors_are_lines_of_json_too(feeds: Path) -> None:
    """With KSQL_LAKE_LOG=json an export that fails leaves nothing on standard error that is not JSON."""
    with DevServer.start(sample=True, arguments=["--fault", "error:after_rows=10"]) as server:
        done = _export(feeds, server, KSQL_LAKE_LOG="json", KSQLDB_ATTEMPTS="1")

    errors = [json.loads(line) for line in done.stderr.splitlines() if json.loads(line)["level"] == "error"]

    assert done.returncode == 1
    assert len(errors) == 1
    assert "feed transactions" in errors[0]["message"]


def test_without_the_setting_nothing_is_json(feeds: Path) -> None:
    """By default a successful export writes nothing to standard error of a pipe."""
    with DevServer.start(sample=True, arguments=["--sample-rows", str(ROWS)]) as server:
        assert _export(feeds, server).stderr == ""


def test_a_collector_is_sent_the_spans_of_an_export(feeds: Path, collector: Collector) -> None:
    """An export is one trace: the export, in it the reading with its query, rows and bytes, and the commit."""
    with DevServer.start(sample=True, arguments=["--sample-rows", str(ROWS)]) as server:
        done = _export(feeds, server, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)

    (result,) = json.loads(done.stdout)["exports"]
    export, read, commit = (collector.spans[name] for name in ("export", "read", "commit"))

    assert (read.parent_span_id, commit.parent_span_id) == (export.span_id, export.span_id)
    assert read.trace_id == export.trace_id
    assert collector.services == {"ksql-lake"}
    assert (
        collector.attributes("read").items()
        >= {
            "ksql_lake.feed": "transactions",
            "ksql_lake.query": result["query_id"],
            "ksql_lake.rows": result["read"],
            "ksql_lake.bytes": result["bytes_read"],
        }.items()
    )
    assert collector.attributes("export")["ksql_lake.commit"] == 1


def test_a_failed_export_is_a_failed_span(feeds: Path, collector: Collector) -> None:
    """The span of an export that fails says so, with the error."""
    with DevServer.start(sample=True, arguments=["--fault", "error:after_rows=10"]) as server:
        _export(feeds, server, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, KSQLDB_ATTEMPTS="1")

    failed = collector.spans["export"]

    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert "QueryFailedError" in failed.status.message


def test_a_collector_that_is_away_costs_no_export(feeds: Path) -> None:
    """Rows land although the collector cannot be reached."""
    with DevServer.start(sample=True, arguments=["--sample-rows", str(ROWS)]) as server:
        done = _export(
            feeds,
            server,
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
        )

    assert done.returncode == 0
    assert json.loads(done.stdout)["exports"][0]["new"] > 0

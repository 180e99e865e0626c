"""A loopback HTTP server that is a ksqlDB with one stream; a test sets its rows, its clock, a proxy before it.

It answers what an export and a certification of that stream ask, and nothing else. Unlike the embedded server
it runs in the test's own process, so that hundreds of streams cost little, and it can report any time.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Values = Sequence[object]
_WINDOW = re.compile(r"(`[^`]+`|ROWTIME) >= (-?\d+) AND \1 < (-?\d+)")
_SELECT = re.compile(r"SELECT (.*?) FROM `[^`]+`(?: WHERE (.*?))?(?: LIMIT (\d+))?;$", re.DOTALL)


@dataclass
class StreamServer:
    """The server; a context manager.

    Attributes:
        columns: Name and ksqlDB type of each column, ROWTIME left out.
        rows: ROWTIME in epoch ms, then a value per column.
        ahead: By how much the server's clock is ahead of ours; None where it does not report its time.
        cluster: Id of its Kafka cluster.
        proxy_ahead: The same of a proxy before it, which sends a Date header; None where there is no proxy.
        asked: The queries so far.
    """

    columns: Sequence[tuple[str, str]]
    rows: list[tuple[int, Values]] = field(default_factory=list)
    ahead: timedelta | None = timedelta(0)
    cluster: str = "k"
    proxy_ahead: timedelta | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def now(self) -> int | None:
        """The time that it reports, in epoch ms."""
        return None if self.ahead is None else round((datetime.now(UTC) + self.ahead).timestamp() * 1000)

    def described(self) -> dict[str, Any]:
        """The answer to DESCRIBE."""
        fields = [
            {"name": name, "schema": {"type": kind, "fields": None, "memberSchema": None}}
            for name, kind in self.columns
        ]
        source = {"name": "S", "type": "STREAM", "fields": fields, "topic": "s", "partitions": 1}
        return {"@type": "sourceDescription", "statementText": "", "sourceDescription": source, "warnings": []}

    def answer(self, sql: str) -> list[str] | None:
        """The lines that answer a query; None where it is refused."""
        match = _SELECT.match(sql)
        assert match is not None, sql
        selected, where, limit = match.groups()
        if selected == "UNIX_TIMESTAMP()":
            if self.ahead is None:
                return None
            found: list[list[object]] = [[self.now()]] * len(self.rows)
            schema = "`KSQL_COL_0` BIGINT"
        else:
            names = [name.strip("`") for name in selected.split(", ")]
            kinds = {"ROWTIME": "BIGINT", **dict(self.columns)}
            schema = ", ".join(f"`{name}` {kinds[name]}" for name in names)
            found = [self._picked(row, names) for row in self.rows if self._inside(row, where or "")]
        final = "Query Completed"
        if limit is not None and len(found) >= int(limit):
            found, final = found[: int(limit)], "Limit Reached"
        rows = [json.dumps({"row": {"columns": values}}, separators=(",", ":")) for values in found]
        header = json.dumps({"header": {"queryId": "q_1", "schema": schema}})
        return [header, *rows, json.dumps({"finalMessage": final})]

    def _picked(self, row: tuple[int, Values], names: Sequence[str]) -> list[object]:
        held = dict(zip(["ROWTIME", *(name for name, _ in self.columns)], [row[0], *row[1]], strict=True))
        return [held[name] for name in names]

    def _inside(self, row: tuple[int, Values], where: str) -> bool:
        windows = [(name.strip("`"), int(low), int(high)) for name, low, high in _WINDOW.findall(where)]
        for name, low, high in windows:
            (value,) = self._picked(row, [name])
            if value is not None:
                return low <= int(str(value)) < high
        return not windows


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: StreamServer

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer /info."""
        info = {"version": "0.29.0", "kafkaClusterId": self.server_of.cluster, "ksqlServiceId": "s"}
        self._send(json.dumps({"KsqlServerInfo": {**info, "serverStatus": "RUNNING"}}))

    def do_POST(self) -> None:
        """Answer statements and queries."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/ksql":
            if body["ksql"].startswith("DESCRIBE"):
                self._send(json.dumps([self.server_of.described()]))
            else:
                self._refuse("not known here")
            return
        if self.path != "/query":
            self._send("{}")
            return
        self.server_of.asked.append(body["ksql"])
        lines = self.server_of.answer(body["ksql"])
        if lines is None:
            self._refuse("Can't find any functions with the name 'UNIX_TIMESTAMP'")
        else:
            self._send("[" + ",\n".join(lines) + "]")

    def _refuse(self, message: str) -> None:
        refusal = {"@type": "statement_error", "error_code": 40001, "message": message, "entities": []}
        self._send(json.dumps(refusal), status=400)

    def _send(self, text: str, status: int = 200) -> None:
        self.send_response_only(status)
        ahead = self.server_of.proxy_ahead
        if ahead is not None:
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
        self.send_header("Content-Type", "application/vnd.ksql.v1+json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

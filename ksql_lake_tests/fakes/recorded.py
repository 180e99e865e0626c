"""Recorded exchanges with real servers (`recordings/README.md`), to be sent again over a loopback socket."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ksql_lake.errors import PropertyRefusedError
from ksql_lake.ksqldb import QueryKind
from ksql_lake.ksqldb.properties import LEGACY_WRITER, QueryProperties
from ksql_lake_tests.fakes.scripted_server import LAST_CHUNK, SILENCE, Script, Step, chunk

FOLDER = Path(__file__).parent.parent / "recordings"


@dataclass(frozen=True)
class Recording:
    """One exchange.

    Attributes:
        name: Its name, with the server's release where several were asked.
        server: The release.
        path: What was asked: the path of the request.
        sql: What was asked: the statement, "" if there was none.
        properties: The streams properties that went with it.
        status: Status of the answer.
        body: The answer's body, its chunks joined.
        chunks: The sizes of its chunks; none where they are not known.
        end: How the body ended: `whole`, `cut` or `open`.
        truth: What was true.
        expect: What may be concluded from the answer alone.
    """

    name: str
    server: str
    path: str
    sql: str
    properties: dict[str, Any]
    status: int
    head: bytes
    body: bytes
    chunks: tuple[int, ...]
    end: str
    truth: Any
    expect: str

    @property
    def legacy(self) -> bool:
        """Whether the older writer was asked for."""
        return self.properties.get(LEGACY_WRITER) is False

    @property
    def kind(self) -> QueryKind:
        """What kind of query it was, as the name that the server gave it shows."""
        if "EMIT CHANGES" in self.sql.upper():
            return QueryKind.PUSH
        return QueryKind.PULL_TABLE if b'"queryId":"query_' in self.body else QueryKind.PULL_STREAM

    @property
    def rows(self) -> list[list[Any]]:
        """The rows of the answer, read in the plainest way."""
        lines = (line.strip(b" ,[]\r") for line in self.body.split(b"\n"))
        return [json.loads(line)["row"]["columns"] for line in lines if line.startswith(b'{"row":')]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def script(self) -> Script:
        """The answer as it went over the wire, in its own chunks where they are known."""
        if b"transfer-encoding" not in self.head.lower():
            return Script([self.head, self.body])
        steps: list[Step] = [self.head]
        start = 0
        for size in self.chunks or (len(self.body),) * bool(self.body):
            steps.append(chunk(self.body[start : start + size]))
            start += size
        assert start == len(self.body), self.name
        endings: dict[str, list[Step]] = {"whole": [LAST_CHUNK], "cut": [], "open": [SILENCE]}
        steps += endings[self.end]
        return Script(steps)

    def writer(self) -> QueryProperties:
        """Properties with which a client asks for the writer that gave this answer."""
        known = QueryProperties()
        if not self.legacy:
            known.learn(PropertyRefusedError("refused", names=(LEGACY_WRITER,)))
        return known


@cache
def recordings() -> tuple[Recording, ...]:
    """All of them."""
    found = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            raw = json.loads(line)
            older = path.stem == "older-servers"
            found.append(_recording(raw, f"{raw['server']} {raw['name']}" if older else raw["name"]))
    return tuple(found)


def recording(name: str) -> Recording:
    """The one that has a name."""
    (found,) = [one for one in recordings() if one.name == name]
    return found


def _recording(raw: dict[str, Any], name: str) -> Recording:
    request, response = raw["request"], raw["response"]
    sql, properties = _asked(request.get("body") or "")
    return Recording(
        name=name,
        server=raw["server"],
        path=request["path"],
        sql=sql,
        properties=properties,
        status=response["status"],
        head=_head(response),
        body=base64.b64decode(response["body_base64"]),
        chunks=tuple(response.get("chunks") or ()),
        end=_end(response, raw["expect"]),
        truth=raw["truth"],
        expect=raw["expect"],
    )


def _asked(body: str) -> tuple[str, dict[str, Any]]:
    try:
        asked = json.loads(body)
    except ValueError:
        return "", {}
    if not isinstance(asked, dict):
        return "", {}
    return asked.get("ksql") or asked.get("sql") or "", asked.get("streamsProperties") or {}


def _head(response: dict[str, Any]) -> bytes:
    headers = response["headers"] or {}
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    size = len(base64.b64decode(response["body_base64"]))
    if not any(re.fullmatch("content-length|transfer-encoding", name, re.IGNORECASE) for name, _ in pairs):
        pairs.append(("content-length", str(size)))
    lines = [f"HTTP/1.1 {response['status']} {response.get('reason') or 'Status'}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in pairs), "", ""]).encode()


def _end(response: dict[str, Any], expect: str) -> str:
    end = response.get("end") or ""
    if "cut" in end:
        return "cut"
    if "open" in end or response.get("last_chunk") is False or expect == "unfinished":
        return "open"
    return "whole"

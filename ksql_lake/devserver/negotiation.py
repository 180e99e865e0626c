"""What a request asks for: body keys, properties, and the response format its Accept header names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ksql_lake.devserver.framing import DELIMITED, JSON, V1, Writer
from ksql_lake.devserver.refusals import RefusedError, bad_request
from ksql_lake.devserver.version import ServerVersion

_PROPERTY_PREFIXES = (
    "ksql.", "acks", "auto.", "buffered.", "cache.", "client.", "commit.", "compression.", "consumer.",
    "default.", "enable.", "fetch.", "group.", "isolation.", "linger.", "max.", "metadata.", "num.",
    "processing.", "producer.", "receive.", "request.", "retries", "security.", "send.", "session.", "state.",
    "statestore.", "topology.",
)  # fmt: skip
MIGRATE = "ksql.endpoint.migrate.query"


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A parsed /query, /query-stream or /ksql body."""

    text: str
    properties: dict[str, Any]

    @property
    def earliest(self) -> bool | None:
        """Where a push query is to start; None leaves it to the kind of source."""
        for name in ("auto.offset.reset", "ksql.streams.auto.offset.reset"):
            if name in self.properties:
                return str(self.properties[name]).lower() == "earliest"
        return None

    @property
    def migrated(self) -> bool:
        """Whether /query may be written by the newer writer."""
        return str(self.properties.get(MIGRATE, True)).lower() != "false"


def parse_request(body: bytes, *, text_key: str, properties_key: str) -> QueryRequest:
    """Read a request body.

    Raises:
        RefusedError: It is no JSON object, has no statement, or names an unknown property.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise bad_request(f"Invalid JSON in request: {error}") from None
    if not isinstance(document, dict):
        raise bad_request("Invalid JSON in request: not an object")
    text = document.get(text_key)
    if not isinstance(text, str):
        raise bad_request(f"Invalid JSON in request: Missing required creator property '{text_key}'")
    properties = document.get(properties_key) or {}
    for name in properties:
        if not name.startswith(_PROPERTY_PREFIXES):
            raise bad_request(f"Not recognizable as ksql, streams, consumer, or producer property: '{name}'")
    return QueryRequest(text, properties)


def choose_writer(accept: str | None, *, query_stream: bool, migrated: bool, version: ServerVersion) -> Writer:
    """Pick the response format.

    Args:
        accept: The Accept header, None without one.
        query_stream: The path is /query-stream.
        migrated: The request does not insist on the legacy writer.
        version: What this server plays.

    Raises:
        RefusedError: None fits: 404 on /query-stream, 406 on /query.
    """
    wanted = _preferred(accept)
    if not query_stream and not (migrated and version.migrated):
        return _first(wanted, {V1: "legacy", JSON: "legacy", "*/*": "legacy", "": "legacy"}, status=406)
    if query_stream:
        forms: dict[str, Writer] = {V1: "v1", JSON: "json_array", DELIMITED: "delimited", "*/*": "delimited"}
        return _first(wanted, {**forms, "": "delimited"}, status=404)
    forms = {V1: "v1", JSON: "v1", DELIMITED: "delimited", "*/*": "delimited"}
    return _first(wanted, {**forms, "": "v1"}, status=406)


def _preferred(accept: str | None) -> list[str]:
    if accept is None or not accept.strip():
        return [""]
    weighted = []
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((item[2:] for item in parameters if item.startswith("q=")), "1")
        weighted.append((-float(quality) if quality.replace(".", "", 1).isdigit() else -1.0, name.lower()))
    return [name for _, name in sorted(weighted, key=lambda pair: pair[0])]


def _first(wanted: list[str], forms: dict[str, Writer], *, status: int) -> Writer:
    for name in wanted:
        if name in forms:
            return forms[name]
    raise RefusedError(
        "Not Found" if status == 404 else "Not Acceptable", status=status, code=status * 100, statement=None
    )

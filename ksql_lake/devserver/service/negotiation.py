"""Read from a request its body keys, its properties, and the response format its Accept header names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ksql_lake.devserver.framing import DELIMITED, JSON, V1, Writer
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError, bad_request, not_found
from ksql_lake.devserver.property_rules import MIGRATE
from ksql_lake.devserver.release import Release

NO_TEXT = '"ksql" field must be populated'


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A parsed /query, /query-stream, /ksql or /close-query body.

    Attributes:
        properties: The properties that the request overrides; values as they came.
        request_properties: What the request states about itself, e.g. which partitions to read.
    """

    text: str
    properties: dict[str, Any]
    request_properties: dict[str, Any]

    @property
    def earliest(self) -> bool | None:
        """Where a push query starts; None leaves it to the kind of source."""
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
        RefusedError: It is no JSON object, or has no statement.
    """
    if not body:
        raise RefusedError(
            'Cannot invoke "io.vertx.core.buffer.Buffer.getBytes()" because "<parameter1>" is null',
            status=500,
            code=SERVER_ERROR,
            statement=None,
            shown="bare",
        )
    try:
        document = json.loads(body)
    except ValueError as error:
        raise bad_request(f"Invalid JSON in request: {error}", shown="bare") from None
    if not isinstance(document, dict):
        raise bad_request("Invalid JSON in request: not an object", shown="bare")
    text = document.get(text_key)
    if not isinstance(text, str):
        raise _without_text(body, text_key)
    return QueryRequest(text, document.get(properties_key) or {}, document.get("requestProperties") or {})


def _without_text(body: bytes, key: str) -> RefusedError:
    if key == "ksql":
        return bad_request(NO_TEXT)
    kind = "CloseQueryArgs" if key == "queryId" else "QueryStreamArgs"
    lines = body.rstrip().decode(errors="replace").splitlines()
    return bad_request(
        f"Invalid JSON in request: Missing required creator property '{key}' (index 0)\n at [Source: REDACTED "
        f"(`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {len(lines)}, column: "
        f"{len(lines[-1])}] "
        f'(through reference chain: io.confluent.ksql.rest.entity.{kind}["{key}"])',
        shown="bare",
    )


def choose_writer(accept: str | None, *, query_stream: bool, migrated: bool, version: Release) -> Writer:
    """Choose the response format.

    Args:
        accept: The Accept header, None without one.
        query_stream: Whether the path is /query-stream.
        migrated: Whether the request allows the newer writer.
        version: The release that this server imitates.

    Raises:
        RefusedError: None fits: 404.
    """
    wanted = _preferred(accept)
    if not query_stream and not (migrated and version.migrated):
        return _first(wanted, {V1: "legacy", JSON: "legacy", "*/*": "legacy", "": "legacy"})
    if query_stream:
        forms: dict[str, Writer] = {V1: "v1", JSON: "json_array", DELIMITED: "delimited", "*/*": "delimited"}
        return _first(wanted, {**forms, "": "delimited"})
    forms = {V1: "v1", JSON: "v1", DELIMITED: "delimited", "*/*": "delimited"}
    return _first(wanted, {**forms, "": "v1"})


def _preferred(accept: str | None) -> list[str]:
    if accept is None or not accept.strip():
        return [""]
    weighted = []
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((item[2:] for item in parameters if item.startswith("q=")), "1")
        weighted.append((-float(quality) if quality.replace(".", "", 1).isdigit() else -1.0, name.lower()))
    return [name for _, name in sorted(weighted, key=lambda pair: pair[0])]


def _first(wanted: list[str], forms: dict[str, Writer]) -> Writer:
    for name in wanted:
        if name in forms:
            return forms[name]
    raise not_found()

"""Turn the server's error answers into our errors, by status, error code and text together."""

# Some limits show only in the text. No credential enters these errors.

from __future__ import annotations

import re

import msgspec

from ksql_lake.errors import (
    KsqlError,
    NotHereError,
    NotQueryableError,
    PropertyRefusedError,
    ProtocolError,
    QueryFailedError,
    ServerBusyError,
    ServerUnavailableError,
    StatementError,
    UnauthorizedError,
    UnsendableError,
    without_secrets,
)
from ksql_lake.ksqldb.properties import SESSION_TIMEOUT, named_properties
from ksql_lake.ksqldb.wire.answer_events import ErrorMessage
from ksql_lake.ksqldb.wire.messages import UNREADABLE, ErrorBody

_BUSY_CODES = (40003, 42900)
_BUSY_TEXTS = ("at concurrency limit", "bandwidth rate limit", "configured limit")
_NOT_NOW = (
    "Cannot determine which host contains the required partitions",
    "KafkaStreams is not running",
    "is not running. State is",
    "Failed to scan materialized table",
    "Exhausted standby hosts to try",
    "The client was closed",
)
"""Texts of a server that starts, stops, rebalances or misses a node; a retry may succeed."""
_NOT_HERE = "failed to find valid host"
_LOCAL_SCAN = "Error executing query locally at node"
_PROPERTY_REFUSED = (
    "properties overrides set locally are prohibited",
    "Not recognizable as ksql, streams, consumer, or producer property",
    "Failed to coerce type of value",
)
_UNSENDABLE = "Failed to serialize buffer"
_SESSION_REFUSED = "InvalidSessionTimeoutException"
_INTERNAL = "encountered an internal error when processing the query"
_PROPOSED = re.compile(r"you can do '(.+?)'\.?(?:\s|$)", re.DOTALL)
_UNKNOWN_SOURCE = re.compile(r"Could not find STREAM/TABLE|does not exist", re.IGNORECASE)
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_BODY = msgspec.json.Decoder(ErrorBody)
_LOOKED_AT = 10_000
"""The most characters that are searched: a server's sentences are shorter, and longer texts take time."""

PUSH_FIX = 'Set "extraction": "push" in the feed file'
SESSION_FIX = (
    f"{PUSH_FIX}: session windows cannot be scanned, but their changes can be followed. "
    "Or derive a table with a TUMBLING window."
)


def refusal(status: int, body: bytes, *, reason: str = "", signed: bool = False) -> KsqlError:
    """Turn an HTTP answer other than 200 into an error.

    Args:
        status: HTTP status.
        body: The answer's body or its beginning.
        reason: HTTP reason phrase.
        signed: Whether the request carried credentials.
    """
    parsed = _error_body(body)
    head = f"{status} {reason}".strip()
    text = _one_line(parsed.message or "no message") if parsed else excerpt(body)
    if status in (401, 403, 407):
        return _unauthorized(status, f"{head}: {text}", signed=signed)
    if status == 429 or (parsed is not None and _is_busy(parsed.error_code, text)):
        return _busy(f"{head}: {text}")
    if parsed is not None and parsed.error_code is not None:
        return _refused_by_ksqldb(status, parsed.error_code, text)
    if status >= 500:
        return ServerUnavailableError(
            f"{head}: {text}",
            hint="A proxy on the way, or ksqlDB itself, is down; try again later.",
        )
    where_to = "Is KSQLDB_URL the address of a ksqlDB server, without a path?"
    if 300 <= status < 400:
        where_to = "The server redirects; set KSQLDB_URL to its real address. Credentials follow no redirect."
    return ProtocolError(f"{head}: {text}", hint=where_to)


def failure(error: ErrorMessage, *, session_ms: int | None = None) -> KsqlError:
    """Turn an error inside an answer into one of ours.

    Args:
        error: The server's error message.
        session_ms: The length of a consumer's session that the query asked for; None is the server's own.
    """
    text = _one_line(error.message)
    if _is_busy(error.code, text):
        return _busy(text)
    if _SESSION_REFUSED in text and session_ms is not None:
        return PropertyRefusedError(
            f"the Kafka broker does not allow a consumer's session of {session_ms // 1000:,} s",
            names=(SESSION_TIMEOUT,),
            session_ms=session_ms,
            hint=_PROPERTY_HINT,
        )
    if _UNSENDABLE in text:
        return UnsendableError(
            "the server cannot write a value of this row, so it never gets past the row",
            hint="Leave the column out: name the wanted ones in the feed's `columns`.",
        )
    for found in (_not_queryable(error.message[:_LOOKED_AT]), _not_now(text)):
        if found is not None:
            return found
    return QueryFailedError(
        f"the server gave up in the middle of its answer: {text}",
        hint="Nothing was kept; the export can be run again. If it repeats, the server's log says more.",
    )


def _refused_by_ksqldb(status: int, code: int, text: str) -> KsqlError:
    if any(words in text for words in _PROPERTY_REFUSED):
        names = named_properties(text)
        named = f" {', '.join(names)}" if names else ""
        return PropertyRefusedError(
            f"the server refuses the property{named}: {text} ({code})", names=names, hint=_PROPERTY_HINT
        )
    if (later := _not_now(text)) is not None:
        return later
    if status == 503:
        hint = "The server is starting, stopping or missing a node; try again in a moment."
        return ServerUnavailableError(f"{text} ({code})", hint=hint)
    if _INTERNAL in text:
        # E.g. unknown functions, or a column named twice: a retry fails too.
        return StatementError(
            f"the server refused the query without saying why: {text} ({code})",
            hint="Its log says why. Correct the feed file's `columns` and `event_time` if they name "
            "something odd.",
        )
    if status >= 500:
        # The concurrency limit of pull queries too comes as a 500, with a text that does not name it.
        return QueryFailedError(f"the server failed: {text} ({code})", hint="The server's log says more.")
    hint = "Correct the statement; the server's words are above."
    if _UNKNOWN_SOURCE.search(text):
        hint = "Names are case sensitive; `ksql-lake feeds discover` lists what the server has."
    return _not_queryable(text) or StatementError(
        f"the server refused the statement: {text} ({code})", hint=hint
    )


_PROPERTY_HINT = (
    "The query was not sent again, because KSQLDB_REQUIRE_PROPERTIES is set or nothing is left to leave out. "
    "docs/completeness.md says what each property is for."
)


def _not_now(text: str) -> KsqlError | None:
    """Return the error for a partition that the server does not hold or serve now; None for other texts."""
    if _NOT_HERE in text or _LOCAL_SCAN in text:
        return NotHereError(
            f"the server cannot read a part of the table now: {text}",
            hint="A node is missing, restarting, or does not hold the partition; the export can be run again.",
        )
    if any(words in text for words in _NOT_NOW):
        return ServerUnavailableError(
            f"the server cannot answer now: {text}",
            hint="It is starting, stopping or moving its work to another node; try again in a moment.",
        )
    return None


def _not_queryable(text: str) -> NotQueryableError | None:
    if "isn't queryable" in text:
        proposed = _PROPOSED.search(text)
        fix = f"{PUSH_FIX}, or derive a table from it with CREATE TABLE ... AS SELECT, and export that one."
        if proposed:
            statement = _one_line(proposed.group(1)).rstrip(";")
            fix = f"{PUSH_FIX}, or create a queryable copy on the server and export that one:\n{statement};"
        return NotQueryableError(_one_line(text).split(" To derive", maxsplit=1)[0], hint=fix)
    # Some releases break the sentence over lines.
    if "Table scan unsupported on session tables" in _one_line(text):
        return NotQueryableError(
            "a table with SESSION windows cannot be read by a pull query", hint=SESSION_FIX
        )
    if "Pull queries on streams are disabled" in text:
        return NotQueryableError(
            "this server has pull queries on streams switched off",
            hint=f"{PUSH_FIX}, or set ksql.query.pull.stream.enabled on the server (0.23 or newer).",
        )
    return None


def _unauthorized(status: int, text: str, *, signed: bool) -> UnauthorizedError:
    if status == 407:
        return UnauthorizedError(
            text, hint="The proxy wants credentials; put them into HTTP_PROXY or HTTPS_PROXY."
        )
    if not signed:
        return UnauthorizedError(
            text, hint="No credentials were sent; set KSQLDB_USER and KSQLDB_PASSWORD, or KSQLDB_TOKEN."
        )
    if status == 403:
        return UnauthorizedError(
            text, hint="The credentials are known but do not allow this; ask for the right."
        )
    return UnauthorizedError(text, hint="Check KSQLDB_USER and KSQLDB_PASSWORD, or KSQLDB_TOKEN.")


def _busy(text: str) -> ServerBusyError:
    return ServerBusyError(
        f"the server is at one of its limits: {text}",
        hint="Export fewer sources at once (`--workers`, the pool `ksqldb`), or raise the server's limit.",
    )


def _is_busy(code: int | None, text: str) -> bool:
    return code in _BUSY_CODES or any(limit in text.lower() for limit in _BUSY_TEXTS)


def _error_body(body: bytes) -> ErrorBody | None:
    try:
        parsed = _BODY.decode(body)
    except UNREADABLE:
        return None
    return parsed if parsed.message is not None or parsed.error_code is not None else None


def _one_line(text: str) -> str:
    return " ".join(without_secrets(text[:_LOOKED_AT]).split())


def excerpt(body: bytes) -> str:
    """Return the beginning of a body that was not understood, or the title of a web page."""
    text = without_secrets(body[:_LOOKED_AT].decode("utf-8", errors="replace"))
    title = _TITLE.search(text)
    if title:
        return f"a web page titled {_one_line(title.group(1))[:80]!r}"
    return repr(_one_line(text)[:120]) if text.strip() else "an empty body"

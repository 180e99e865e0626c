"""Continuation tokens: base64 of JSON with offsets of the source's own topic, one per partition. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ksql_lake.errors import ProtocolError

PROPERTIES: Mapping[str, object] = {
    "ksql.query.push.v2.enabled": True,
    "ksql.query.push.v2.continuation.tokens.enabled": True,
    "auto.offset.reset": "latest",
}
"""The properties of a query that begins at a token, as JSON booleans: as texts they have no effect. No other
property may be sent beside them, least of all that of the older writer."""
BEGIN_AT = "request.ksql.query.push.continuation.token"
"""The request property that holds the token."""
SCALABLE = "SCALABLE_PUSH_QUERY_"
"""The beginning of the id of a query that uses its token; any other query ignores it without an error."""
_VERSION = 0


class _Offsets(msgspec.Struct):
    offsets: list[int] = msgspec.field(name="o")


class _Body(msgspec.Struct, omit_defaults=True):
    start: _Offsets | None = msgspec.field(default=None, name="s")
    end: _Offsets | None = msgspec.field(default=None, name="e")
    version: int = msgspec.field(default=-1, name="v")


_BODY = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Span:
    """The records of a batch: per partition the first offset, and the one after the last."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def records(self) -> int:
        """How many records the batch has."""
        return sum(self.end) - sum(self.start)

    @property
    def moved(self) -> tuple[int, ...]:
        """The partitions with records in the batch."""
        return tuple(number for number, (a, b) in enumerate(zip(self.start, self.end, strict=True)) if a != b)


def encode_token(offsets: Sequence[int]) -> str:
    """Return the token that makes a query begin at these offsets, one per partition from 0 on."""
    body = _Body(end=_Offsets(list(offsets)), version=_VERSION)
    return base64.b64encode(msgspec.json.encode(body)).decode()


def decode_token(token: str) -> Span:
    """Read the token after a batch.

    Raises:
        ProtocolError: It is no token of the known version, or does not name its records.
    """
    try:
        body = _BODY.decode(base64.b64decode(token, validate=True))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise _unreadable(token, "it is not base64 of the known JSON") from None
    if body.version != _VERSION:
        raise _unreadable(token, f"it is of version {body.version}, and only {_VERSION} is known")
    if body.start is None or body.end is None:
        raise _unreadable(token, "it lacks its first or last offsets")
    start, end = tuple(body.start.offsets), tuple(body.end.offsets)
    if (
        len(start) != len(end)
        or min(start, default=0) < 0
        or any(b < a for a, b in zip(start, end, strict=True))
    ):
        raise _unreadable(token, f"{list(start)} to {list(end)} are no offsets of records")
    return Span(start, end)


def _unreadable(token: str, why: str) -> ProtocolError:
    return ProtocolError(
        f"the server sent a continuation token that cannot be read: {why} ({token[:60]!r})",
        hint="Nothing of its batch was kept.",
    )
